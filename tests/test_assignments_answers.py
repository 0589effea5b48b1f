"""Every item on every wrong answer, and on right ones written differently, over many seeds."""

import homework
import pytest

SEEDS = range(100)
# Items that take long. What a4 does with accuracies has a test of its own, and so have a3's bugs,
# each over 100 seeds; a whole network takes 50 ms.
FEWER = {("a4", "accuracy"): range(1), ("a4", "form"): range(5), ("a4", "alone"): range(5)}
for own in ("", "mended_"):
    FEWER |= {("a3", f"{own}scores"): range(30), ("a3", f"{own}training"): range(20)}
LONG = {("a4", "accuracy"), ("a4", "form"), ("a4", "alone")}  # for answers that are right


def cases(kind):
    return [
        pytest.param(name, answer, id=f"{name}-{answer}")
        for name in homework.folders()
        for answer in homework.answers(name, kind)
    ]


def seeds(name, item):
    return FEWER.get((name, item.name), SEEDS)


@pytest.mark.parametrize(("name", "answer"), cases("wrong"))
def test_wrong_answer_fails_its_items_each_time_and_no_other(name, answer):
    defined, known = homework.namespace(name, answer), homework.whole(name)
    assert answer.fails <= {item.name for item in known.items}
    replaced = changed(name, answer)
    for item in known.items:
        if item.name in answer.fails:
            found = homework.shares(
                name, item.name, defined[item.answer], answer.variant, seeds(name, item)
            )
            passed = [text for share, text in found if share == 1]
            assert not passed, f"{item.name} passes: {passed[0]}"
        elif item.answer in replaced and (name, item.name) not in LONG:
            found = homework.shares(name, item.name, defined[item.answer], answer.variant, range(2))
            assert all(share == 1 for share, _ in found), f"{item.name}: {sorted(found)[0]}"


def changed(name, answer):
    """The names of answers that the file replaces or, by what they use, may change."""
    before, after = homework.namespace(name), homework.namespace(name, answer)
    text = answer.path.read_text(encoding="utf-8")
    return {key for key in after if key in text or key not in before}


@pytest.mark.parametrize(("name", "answer"), cases("right"))
def test_right_answer_passes_each_time(name, answer):
    defined = homework.namespace(name, answer)
    for item in homework.whole(name).items:
        if item.name == "accuracy":
            continue  # half a minute; the master's own answer is trained in test_assignments_a4.py
        some = range(1) if (name, item.name) in LONG else seeds(name, item)
        found = homework.shares(name, item.name, defined[item.answer], answer.variant, some)
        assert all(share == 1 for share, _ in found), f"{item.name}: {sorted(found)[0]}"


@pytest.mark.parametrize("name", homework.folders())
def test_masters_own_answers_pass(name):
    defined = homework.namespace(name)
    for item in homework.whole(name).items:
        if (name, item.name) not in LONG:
            found = homework.shares(name, item.name, defined[item.answer], 0, range(3))
            assert all(share == 1 for share, _ in found), f"{item.name}: {sorted(found)[0]}"


@pytest.mark.parametrize("name", homework.folders())
def test_every_item_fails_some_wrong_answer(name):
    missed = {item.name for item in homework.whole(name).items}
    for answer in homework.answers(name, "wrong"):
        missed -= answer.fails
    assert not missed


@pytest.mark.parametrize("name", homework.folders())
def test_last_years_solution_fails_another_variant(name):
    # Of 20 other sheets nearly all: a solution that was published answers another question.
    defined, survived = homework.namespace(name), []
    for variant in range(1, 21):
        failed = False
        for item in homework.whole(name).items:
            if (name, item.name) == ("a4", "accuracy"):
                continue
            found = homework.shares(name, item.name, defined[item.answer], variant, range(1))
            failed = failed or any(share < 1 for share, _ in found)
            if failed:
                break
        survived += [] if failed else [variant]
    assert len(survived) <= 1, survived
