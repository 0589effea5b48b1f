"""Run a check on right answers and on wrong ones, and compare what it says.

CHECK_SEEDS=100 in the environment draws other random inputs so many times.
"""

import os

SEEDS = range(int(os.environ.get("CHECK_SEEDS", 2)))


def judged(check, right=(), wrong=(), seeds=SEEDS):
    """Each right answer passes; each (wrong answer, words) fails with those words.

    An answer that is a tuple is the arguments of the check.
    """
    assert right or wrong
    for seed in seeds:
        for answer in right:
            verdict = check(*arguments(answer), seed=seed)
            assert verdict, f"{check.__name__}, seed {seed}, a right answer: {verdict}"
        for answer, words in wrong:
            verdict = check(*arguments(answer), seed=seed)
            assert not verdict, f"{check.__name__}, seed {seed}, passes instead of: {words}"
            assert words in verdict.message, f"{verdict} does not say: {words}"


def arguments(answer):
    return answer if isinstance(answer, tuple) else (answer,)
