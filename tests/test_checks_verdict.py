"""What every check promises: a verdict for whatever comes, and a world left as it was."""

import inspect
import random

import numpy as np
import pytest
import torch
from torch import nn

from resnet_lib import checks
from resnet_lib.checks.verdict import Draw, Mismatch, Verdict, check


@check
def check_double(double, *, draw):
    """Of this test: double(x) -> 2 * x."""
    x = draw.normal(3)
    if not torch.equal(double(x), 2 * x):
        raise Mismatch("this is not the double")
    return "doubled"


def test_right_answer():
    verdict = check_double(lambda x: x + x)
    assert verdict.ok and bool(verdict) is True
    assert repr(verdict) == "Right: doubled"


def test_wrong_answer():
    verdict = check_double(lambda x: x * x)
    assert not verdict
    assert repr(verdict) == "Not yet: this is not the double"


def test_error_of_the_learners_code_is_shown_with_its_line():
    def broken(x):
        return x @ torch.zeros(4, 4)

    verdict = check_double(broken)
    assert not verdict
    assert "your code raised RuntimeError" in verdict.message
    assert 'at the line "return x @ torch.zeros(4, 4)"' in verdict.message


def test_line_is_the_learners_own_even_if_torch_failed_deeper():
    def broken(x):
        return nn.Linear(5, 5)(x)

    assert "return nn.Linear(5, 5)(x)" in check_double(broken).message


def test_wrong_number_of_arguments_has_no_line_of_ours():
    verdict = checks.check_merged(lambda: None)
    assert "your code raised TypeError" in verdict.message
    assert "at the line" not in verdict.message


def test_long_error_is_cut():
    def broken(x):
        raise ValueError("word " * 1000)

    assert len(check_double(broken).message) < 500


def test_interrupting_a_check_is_possible():
    def endless(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_double(endless)


def disturb(x):
    torch.manual_seed(1), torch.rand(3), random.seed(1), np.random.seed(1)  # noqa: NPY002
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    return 2 * x


@pytest.mark.parametrize("answer", [disturb, lambda x: disturb(x) * 2, lambda x: disturb(x) / None])
def test_global_random_state_stays(answer):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    check_double(answer)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(after, before[2], strict=True))
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def seen(seed):
    """The inputs that a check with that seed gives, and a global random number within."""
    inputs = []
    check_double(lambda x: inputs.append((x, torch.rand(1))), seed=seed)
    return inputs[0]


def test_verdict_repeats_whatever_the_global_seed():
    torch.manual_seed(0)
    first = seen(0)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, seen(0), strict=True))


def test_another_seed_gives_other_inputs():
    assert not torch.equal(seen(0)[0], seen(1)[0])


def test_learners_seed_does_not_decide_the_inputs():
    def sly(x):
        torch.manual_seed(0)
        return 2 * torch.randn(3, dtype=torch.float64)

    assert not check_double(sly)


def test_gradients_are_on_within_a_check():
    with torch.no_grad():
        assert check_double(lambda x: 2 * x if torch.is_grad_enabled() else x)


def test_tensors_are_made_on_the_cpu_within_a_check():
    with torch.device("meta"):
        assert check_double(lambda x: x + torch.ones(3) * x)


def test_help_shows_what_to_hand_in_and_nothing_else():
    assert list(inspect.signature(check_double).parameters) == ["double", "seed"]
    assert check_double.__doc__ == "Of this test: double(x) -> 2 * x."
    assert check_double.__name__ == "check_double"


def test_draw():
    draw, same = Draw(3), Draw(3)
    assert torch.equal(draw.normal(2, 3), same.normal(2, 3))
    assert draw.normal(2).dtype == torch.float64
    found = draw.integers(1, 3, 200)
    assert set(found.tolist()) == {1, 2, 3}
    assert {draw.integer(0, 1) for _ in range(50)} == {0, 1}
    values = [draw.uniform(2, 5) for _ in range(100)]
    assert 2 <= min(values) < 2.5 and 4.5 < max(values) <= 5


PUBLIC = [getattr(checks, name) for name in checks.__all__ if name.startswith("check_")]
NO_ANSWERS = [None, 3, "words", [], {}, nn.ReLU(), nn.ReLU, lambda: None, lambda *a, **k: None]


def required(judge):
    parameters = inspect.signature(judge).parameters.values()
    return sum(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


@pytest.mark.parametrize("judge", PUBLIC, ids=lambda judge: judge.__name__)
def test_no_check_accepts_nonsense(judge):
    assert required(judge) > 0
    for answer in NO_ANSWERS:
        verdict = judge(*[answer] * required(judge))
        assert isinstance(verdict, Verdict) and not verdict, f"accepts {answer!r}"
        assert len(verdict.message.split()) >= 4


@pytest.mark.parametrize("judge", PUBLIC, ids=lambda judge: judge.__name__)
def test_wrong_kind_is_explained_without_a_failure_of_ours(judge):
    for answer in (None, 3, "words", nn.ReLU()):
        message = judge(*[answer] * required(judge)).message
        assert "raised" not in message, message


@pytest.mark.parametrize("judge", PUBLIC, ids=lambda judge: judge.__name__)
def test_every_check_says_which_exercise_it_is_of(judge):
    assert judge.__doc__.startswith("Exercise ")
