"""Every item on every wrong answer, and on right ones written differently, over many seeds."""

import homework
import pytest

SEEDS = range(100)


@pytest.fixture(autouse=True)
def quick(request):
    """Assignment 4 in a few steps of training."""
    if request.node.callspec.params["name"] != "a4":
        yield
        return
    with homework.fewer_images_and_a_clock_of_calls():
        yield


def cases(kind):
    return [
        pytest.param(name, answer, id=f"{name}-{answer}")
        for name in homework.folders()
        for answer in homework.answers(name, kind)
    ]


def all_but_accuracy(name):
    """A right answer's accuracy needs its whole training: see test_assignments_budget.py."""
    return [item for item in homework.whole(name).items if (name, item.name) != ("a4", "accuracy")]


def passes(name, defined, variant, item, seeds):
    found = homework.shares(name, item.name, defined[item.answer], variant, seeds)
    assert all(share == 1 for share, _ in found), f"{item.name}: {sorted(found)[0]}"


@pytest.mark.parametrize(("name", "answer"), cases("wrong"))
def test_wrong_answer_fails_its_items_each_time_and_no_other(name, answer):
    defined, known = homework.namespace(name, answer), homework.whole(name)
    assert answer.fails <= {item.name for item in known.items}
    replaced = changed(name, answer)
    for item in known.items:
        if item.name in answer.fails:
            found = homework.shares(name, item.name, defined[item.answer], answer.variant, SEEDS)
            passed = [text for share, text in found if share == 1]
            assert not passed, f"{item.name} passes: {passed[0]}"
        elif item.answer in replaced and item in all_but_accuracy(name):
            passes(name, defined, answer.variant, item, range(2))


def changed(name, answer):
    """The names of answers that the file replaces or, by what they use, may change."""
    before, after = homework.namespace(name), homework.namespace(name, answer)
    text = answer.path.read_text(encoding="utf-8")
    return {key for key in after if key in text or key not in before}


@pytest.mark.parametrize(("name", "answer"), cases("right"))
def test_right_answer_passes_each_time(name, answer):
    defined = homework.namespace(name, answer)
    for item in all_but_accuracy(name):
        passes(name, defined, answer.variant, item, SEEDS)


@pytest.mark.parametrize("variant", [0, 1, 2, 2027])
@pytest.mark.parametrize("name", homework.folders())
def test_masters_own_answers_pass_in_every_variant(name, variant):
    defined = homework.namespace(name, variant=variant)
    for item in all_but_accuracy(name):
        passes(name, defined, variant, item, range(3))


@pytest.mark.parametrize("name", homework.folders())
def test_every_item_fails_some_wrong_answer(name):
    missed = {item.name for item in homework.whole(name).items}
    for answer in homework.answers(name, "wrong"):
        missed -= answer.fails
    assert not missed


@pytest.mark.parametrize("name", homework.folders())
def test_last_years_solution_fails_every_other_variant(name):
    defined, survived = homework.namespace(name), []
    for variant in range(1, 24):
        for item in all_but_accuracy(name):
            found = homework.shares(name, item.name, defined[item.answer], variant, range(1))
            if any(share < 1 for share, _ in found):
                break
        else:
            survived.append(variant)
    assert not survived


@pytest.mark.parametrize("name", homework.folders())
def test_neighbouring_variants_ask_differently(name):
    asked = [homework.whole(name).parameters(variant) for variant in range(60)]
    for task in asked:
        task.pop("variant", None)  # which bugs are planted in a3 differs, too
    for years in range(1, 10):
        pairs = zip(asked, asked[years:], strict=False)
        assert all(one != other for one, other in pairs), years
