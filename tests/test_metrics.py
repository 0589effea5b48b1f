"""Metrics: equal to scikit-learn's on random and on degenerate data; bad input gets one line."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve
from torchmetrics import functional as other

from resnet_lib import UserError, metrics

CASES = {
    "two classes": ([0, 1, 1, 0], [0, 1, 0, 0], 2),
    "one class": ([0, 0, 0], [0, 0, 0], 1),
    "absent class": ([0, 0, 2, 2, 2], [0, 1, 2, 2, 0], 3),
    "never predicted": ([0, 1, 2, 1], [0, 0, 2, 2], 3),
    "absent and never predicted": ([0, 1, 1], [0, 1, 0], 4),
    "all wrong": ([0, 1, 2], [1, 2, 0], 3),
    "one image": ([2], [1], 3),
    "only one class present": ([1, 1, 1], [1, 0, 1], 3),
}


def random_cases(count=30):
    generator = np.random.default_rng(0)
    for _ in range(count):
        classes, images = int(generator.integers(2, 12)), int(generator.integers(1, 200))
        labels, predictions = generator.integers(0, classes, (2, images)).tolist()
        yield labels, predictions, classes


ALL_CASES = [*CASES.values(), *random_cases()]


def random_scores(seed, images=100, classes=5, levels=None):
    """Logits and labels; with few ``levels`` there are many equal scores."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(images, classes, generator=generator, dtype=torch.float64)
    if levels:
        logits = torch.randint(0, levels, (images, classes), generator=generator).double()
    return logits, torch.randint(0, classes, (images,), generator=generator)


def matrix(labels, predictions, classes):
    return metrics.confusion_matrix(torch.tensor(labels), torch.tensor(predictions), classes)


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize(("labels", "predictions", "classes"), ALL_CASES)
def test_confusion_matrix_and_everything_made_from_it_equal_scikit_learn(
    labels, predictions, classes
):
    every = list(range(classes))
    cm = matrix(labels, predictions, classes)
    assert cm.dtype == torch.int64
    expected = reference.confusion_matrix(labels, predictions, labels=every)
    assert cm.tolist() == expected.tolist()

    options = {"labels": every, "average": None, "zero_division": 0}
    for ours, theirs in (
        (metrics.precision, reference.precision_score),
        (metrics.recall, reference.recall_score),
        (metrics.f1, reference.f1_score),
    ):
        np.testing.assert_allclose(
            ours(cm).numpy(), theirs(labels, predictions, **options), atol=1e-12
        )

    assert metrics.accuracy(cm) == pytest.approx(reference.accuracy_score(labels, predictions))
    macro = reference.precision_score(labels, predictions, average="macro", zero_division=0)
    assert metrics.mean_precision(cm) == pytest.approx(macro)
    with warnings.catch_warnings():  # it warns of predicted classes that do not occur
        warnings.simplefilter("ignore")
        balanced = reference.balanced_accuracy_score(labels, predictions)
    assert metrics.mean_accuracy(cm) == pytest.approx(balanced)


def test_rows_are_the_true_classes():
    assert matrix([0, 0, 0, 1], [1, 1, 0, 1], 2).tolist() == [[1, 2], [0, 1]]


def test_what_is_undefined_counts_as_zero_or_is_left_out():
    # Class 2 has images but is never predicted; class 3 is predicted but has none; 4 has neither.
    cm = matrix([0, 0, 1, 2], [0, 3, 1, 0], 5)
    assert metrics.precision(cm).tolist() == [0.5, 1, 0, 0, 0]
    assert metrics.recall(cm).tolist() == [0.5, 1, 0, 0, 0]
    assert metrics.mean_precision(cm) == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    assert metrics.mean_accuracy(cm) == pytest.approx((0.5 + 1 + 0) / 3)


def test_rates_of_a_matrix_of_fractions_are_those_of_its_counts():
    cm = matrix([0, 0, 1, 2, 2], [0, 1, 1, 0, 2], 3)
    for function in (metrics.precision, metrics.recall, metrics.f1):
        torch.testing.assert_close(function(cm / 100), function(cm))


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_top_k_accuracy_equals_scikit_learn(seed, k):
    logits, labels = random_scores(seed)
    expected = reference.top_k_accuracy_score(labels.numpy(), logits.numpy(), k=k, labels=range(5))
    assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_top_k_accuracy_ranks_equal_scores_by_class_number(seed, k):
    logits, labels = random_scores(seed, levels=3)
    ours = metrics.top_k_accuracy(logits, labels, k)
    logits, labels, options = logits.numpy(), labels.numpy(), {"k": k, "labels": range(5)}
    # scikit-learn prefers the last of equal scores, so in reversed order the first.
    flipped = reference.top_k_accuracy_score(4 - labels, logits[:, ::-1], **options)
    assert ours == pytest.approx(flipped)
    assert ours != reference.top_k_accuracy_score(labels, logits, **options)


def test_top_1_agrees_with_argmax_also_for_equal_scores():
    logits, labels = torch.zeros(3, 4), torch.tensor([0, 0, 3])
    assert metrics.top_k_accuracy(logits, labels, 1) == pytest.approx(2 / 3)
    assert metrics.top_k_accuracy(logits, labels, 3) == pytest.approx(2 / 3)
    assert metrics.top_k_accuracy(logits, labels, 4) == 1


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_log_loss_and_brier_score_equal_scikit_learn(seed, classes):
    logits, labels = random_scores(seed, classes=classes)
    probabilities, every = logits.softmax(1).numpy(), list(range(classes))
    expected = reference.log_loss(labels.numpy(), probabilities, labels=every)
    assert metrics.log_loss(logits, labels) == pytest.approx(expected)

    one_hot = np.eye(classes)[labels]
    expected = np.mean(np.sum((probabilities - one_hot) ** 2, axis=1))
    assert metrics.brier_score(logits, labels) == pytest.approx(expected)
    if classes > 2:  # where scikit-learn sums over the classes as well
        expected = reference.brier_score_loss(labels.numpy(), probabilities, labels=every)
    else:
        expected = 2 * reference.brier_score_loss(labels.numpy(), probabilities[:, 1])
    assert metrics.brier_score(logits, labels) == pytest.approx(expected)


def test_log_loss_and_brier_score_of_known_forecasts():
    even, labels = torch.zeros(4, 10), torch.tensor([0, 3, 3, 9])
    assert metrics.log_loss(even, labels) == pytest.approx(math.log(10))
    assert metrics.brier_score(even, labels) == pytest.approx(0.9**2 + 9 * 0.1**2)
    sure = 1000 * torch.eye(2)
    assert metrics.log_loss(sure, torch.tensor([0, 1])) == pytest.approx(0, abs=1e-12)
    assert metrics.brier_score(sure, torch.tensor([0, 1])) == pytest.approx(0, abs=1e-12)
    # Sure and wrong: the loss is not clipped, and the Brier score is at its worst.
    assert metrics.log_loss(sure, torch.tensor([1, 0])) == pytest.approx(1000)
    assert metrics.brier_score(sure, torch.tensor([1, 0])) == pytest.approx(2)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("seed", range(5))
def test_expected_calibration_error_equals_the_one_of_scikit_learns_curve(seed, bins):
    logits, labels = random_scores(seed, images=300)
    confidence, prediction = logits.softmax(1).max(1)
    hits = (prediction == labels).long()
    hits, confidence = hits.numpy(), confidence.numpy()
    accuracies, confidences = calibration_curve(hits, confidence, n_bins=bins)
    edges = np.linspace(0, 1, bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=bins)
    counts = counts[counts > 0]
    expected = np.sum(counts * np.abs(accuracies - confidences)) / counts.sum()
    ours = metrics.expected_calibration_error(logits, labels, bins)
    assert ours == pytest.approx(expected, abs=1e-12)


def test_expected_calibration_error_of_known_forecasts():
    # Confidence 0.8 in class 0, which is right for 5 of 10 images: a gap of 0.3.
    logits = torch.tensor([[0.8, 0.2]], dtype=torch.float64).log().repeat(10, 1)
    labels = torch.tensor([0] * 5 + [1] * 5)
    assert metrics.expected_calibration_error(logits, labels) == pytest.approx(0.3)
    calibrated = torch.tensor([0] * 8 + [1] * 2)
    assert metrics.expected_calibration_error(logits, calibrated) == pytest.approx(0, abs=1e-12)


def test_expected_calibration_error_closes_its_bins_on_the_right():
    # Confidences 0.5 and 0.75: one bin of two has both if 0.5 belongs to the lower one.
    logits = torch.tensor([[0.5, 0.5], [0.75, 0.25]], dtype=torch.float64).log()
    error = metrics.expected_calibration_error(logits, torch.tensor([0, 1]), bins=2)
    assert error == pytest.approx((0.5 + 0.75) / 2)  # apart; together the gaps would cancel


def test_bootstrap_interval_equals_scipys_percentile_method():
    values = torch.randn(80, generator=torch.Generator().manual_seed(1)).double()
    for confidence in (0.8, 0.95):
        ours = metrics.bootstrap_interval(values, confidence, samples=20_000)
        theirs = stats.bootstrap(
            (values.numpy(),),
            np.mean,
            confidence_level=confidence,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        spread = values.std().item() / math.sqrt(len(values))
        np.testing.assert_allclose(ours, (theirs.low, theirs.high), atol=0.06 * spread)


def test_bootstrap_interval_covers_the_true_mean_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for trial in range(300):
        hits = torch.rand(100, generator=generator) < 0.7
        low, high = metrics.bootstrap_interval(hits, 0.9, samples=300, seed=trial)
        covered += low <= 0.7 <= high
    assert 0.84 < covered / 300 < 0.96


def test_bootstrap_interval_depends_on_its_seed_alone():
    values = torch.arange(50.0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = metrics.bootstrap_interval(values, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert metrics.bootstrap_interval(values, seed=3) == first
    assert metrics.bootstrap_interval(values, seed=4) != first
    assert metrics.bootstrap_interval(torch.full((9,), 2.5)) == (2.5, 2.5)


def test_bootstrap_interval_draws_all_its_samples_in_pieces(monkeypatch):
    drawn, randint = [], torch.randint

    def spy(high, shape, **options):
        drawn.append(shape)
        return randint(high, shape, **options)

    monkeypatch.setattr(torch, "randint", spy)
    metrics.bootstrap_interval(torch.rand(100_000), samples=25)
    assert sum(rows for rows, _ in drawn) == 25
    assert all(rows * columns <= 2**20 for rows, columns in drawn) and len(drawn) > 1


def test_an_interval_over_single_groups_and_over_pairs_of_equal_values():
    values = torch.randn(60, generator=torch.Generator().manual_seed(2)).double()
    alone = metrics.bootstrap_interval(values, samples=4000)
    single = metrics.grouped_interval(values, range(60), samples=4000)
    pairs = metrics.grouped_interval(values.repeat(2), [*range(60), *range(60)], samples=4000)
    spread = values.std().item() / math.sqrt(60)
    np.testing.assert_allclose(single, alone, atol=0.1 * spread)
    assert pairs == pytest.approx(single)  # a second shot tells nothing new


def test_a_grouped_interval_covers_the_true_mean_where_a_plain_one_does_not():
    generator = torch.Generator().manual_seed(0)
    covered = {"grouped": 0, "plain": 0}
    for trial in range(200):
        sizes = torch.randint(1, 6, (60,), generator=generator)
        hits = (torch.rand(60, generator=generator) < 0.7).repeat_interleave(sizes)
        groups = torch.arange(60).repeat_interleave(sizes).tolist()
        settings = {"confidence": 0.9, "samples": 300, "seed": trial}
        for name, (low, high) in {
            "grouped": metrics.grouped_interval(hits, groups, **settings),
            "plain": metrics.bootstrap_interval(hits, **settings),
        }.items():
            covered[name] += low <= 0.7 <= high
    assert 0.83 < covered["grouped"] / 200 < 0.96 and covered["plain"] / 200 < 0.75


@pytest.mark.parametrize(
    "values, groups, settings",
    [
        (torch.ones(3), "ab", {}),
        (torch.ones(3), "aaa", {}),
        (torch.tensor([1, torch.nan]), "ab", {}),
        (torch.ones(2), "ab", {"samples": 0}),
    ],
)
def test_a_grouped_interval_says_what_it_needs(values, groups, settings):
    with pytest.raises(UserError, match="need"):
        metrics.grouped_interval(values, groups, **settings)


@pytest.mark.parametrize(("labels", "predictions", "classes"), ALL_CASES)
def test_weighted_and_pooled_averages_equal_scikit_learn(labels, predictions, classes):
    cm = matrix(labels, predictions, classes)
    want = reference.precision_score(labels, predictions, average="weighted", zero_division=0)
    assert metrics.weighted_precision(cm) == pytest.approx(want)
    # The claim of its docstring: these three are one number.
    weighted = reference.recall_score(labels, predictions, average="weighted", zero_division=0)
    pooled = reference.precision_score(labels, predictions, average="micro", zero_division=0)
    assert metrics.accuracy(cm) == pytest.approx(weighted) == pytest.approx(pooled)


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("seed", range(5))
def test_average_precision_equals_scikit_learn(seed, levels):
    scores, labels = random_scores(seed, images=60, levels=levels)
    for label in range(5):
        relevant = labels == label
        want = reference.average_precision_score(relevant.numpy(), scores[:, label].numpy())
        assert metrics.average_precision(scores[:, label], relevant) == pytest.approx(want)
    one_hot = torch.nn.functional.one_hot(labels, 5).numpy()
    want = reference.average_precision_score(one_hot, scores.softmax(1).numpy(), average="macro")
    assert metrics.mean_average_precision(scores, labels) == pytest.approx(want)


def test_average_precision_of_known_rankings():
    relevant = torch.tensor([True, False, True, False])
    falling = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert metrics.average_precision(falling, relevant) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(torch.zeros(4), relevant) == 0.5
    assert metrics.average_precision(relevant.double(), relevant) == 1


def test_classes_without_images_are_left_out_of_the_mean():
    logits, labels = random_scores(0, classes=5)
    labels = labels % 4
    values = [metrics.average_precision(logits.softmax(1)[:, k], labels == k) for k in range(4)]
    assert metrics.mean_average_precision(logits, labels) == pytest.approx(sum(values) / 4)


def test_reliability_counts_every_image_once():
    logits, labels = random_scores(0)
    table = metrics.reliability(logits, labels, 7)
    assert table.shape == (7, 3) and table[:, 0].sum() == len(labels)
    confidence, prediction = logits.softmax(1).max(1)
    right = (prediction == labels).double()
    for index, row in enumerate(table):
        inside = (confidence > index / 7) & (confidence <= (index + 1) / 7)
        want = torch.tensor([inside.sum(), 0, 0]).double()
        if inside.any():
            want[1:] = torch.stack([confidence[inside].mean(), right[inside].mean()])
        torch.testing.assert_close(row, want)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_scaling(factor):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert metrics.best_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_no_other_temperature_is_better():
    logits, _ = random_scores(3)
    labels = torch.multinomial(
        (logits / 2).softmax(1), 1, generator=torch.Generator().manual_seed(0)
    )[:, 0]
    best = metrics.best_temperature(logits, labels)
    loss = metrics.log_loss(logits / best, labels)
    for factor in (0.8, 0.99, 1.01, 1.25):
        assert metrics.log_loss(logits / (factor * best), labels) > loss


NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_CUDA])])
def test_tensors_come_as_training_leaves_them(device):
    logits, labels = random_scores(0)
    rounded = logits.bfloat16()
    ours = rounded.to(device).requires_grad_()
    cm = metrics.confusion_matrix(labels.to(device), ours.argmax(1), 5)
    assert cm.equal(metrics.confusion_matrix(labels, rounded.argmax(1), 5))
    for score in (metrics.log_loss, metrics.brier_score, metrics.expected_calibration_error):
        assert score(ours, labels.to(device)) == score(rounded.double(), labels)


LOGITS, LABELS, COUNTS = torch.zeros(3, 4), torch.tensor([0, 1, 2]), torch.eye(3)
SCORED = (
    metrics.log_loss,
    metrics.brier_score,
    metrics.expected_calibration_error,
    metrics.reliability,
    metrics.mean_average_precision,
    metrics.best_temperature,
)
BAD = [
    (lambda: metrics.confusion_matrix(LABELS, LABELS, 2), "0 to 1, got 0 to 2"),
    (lambda: metrics.confusion_matrix(LABELS, LABELS - 1, 3), "predictions .* got -1 to 1"),
    (lambda: metrics.confusion_matrix(LABELS, LABELS[:2], 3), "3 labels but 2 predictions"),
    (lambda: metrics.confusion_matrix(LABELS[:0], LABELS[:0], 3), "labels must be .N,. with N"),
    (lambda: metrics.confusion_matrix(LABELS, LOGITS, 4), r"predictions must .* got shape \(3, 4"),
    (lambda: metrics.confusion_matrix(LABELS.float(), LABELS, 3), "integers, got torch.float32"),
    (lambda: metrics.top_k_accuracy(LOGITS, LABELS, 0), "between 1 and 4, got 0"),
    (lambda: metrics.top_k_accuracy(LOGITS, LABELS, 5), "between 1 and 4, got 5"),
    (lambda: metrics.top_k_accuracy(LOGITS[:0], LABELS[:0], 1), "not empty"),
    (lambda: metrics.expected_calibration_error(LOGITS, LABELS, 0), "bins must be at least 1"),
    (lambda: metrics.reliability(LOGITS, LABELS, 0), "bins must be at least 1"),
    (lambda: metrics.best_temperature(10 * torch.eye(3), LABELS), "no temperature is best"),
    (lambda: metrics.best_temperature(-10 * torch.eye(3), LABELS), "no temperature is best"),
    (lambda: metrics.average_precision(LABELS, LABELS > 5), "at least one relevant"),
    (lambda: metrics.average_precision(LOGITS, LABELS > 0), "need finite scores"),
    (lambda: metrics.average_precision(LABELS / 0, LABELS > 0), "need finite scores"),
    (lambda: metrics.bootstrap_interval(torch.zeros(0)), "at least two"),
    (lambda: metrics.bootstrap_interval(torch.zeros(1)), "at least two"),
    (lambda: metrics.bootstrap_interval(torch.zeros(3, 3)), r"shape \(3, 3\)"),
    (lambda: metrics.bootstrap_interval(torch.tensor([1, math.nan])), "finite"),
    (lambda: metrics.bootstrap_interval(torch.zeros(3), 1.0), "confidence"),
    (lambda: metrics.bootstrap_interval(torch.zeros(3), 0.9, 0), "samples"),
]
for function in (
    metrics.accuracy,
    metrics.precision,
    metrics.recall,
    metrics.f1,
    metrics.mean_precision,
    metrics.mean_accuracy,
    metrics.weighted_precision,
):
    BAD += [
        (lambda f=function: f(torch.zeros(2, 3)), r"got shape \(2, 3\)"),
        (lambda f=function: f(torch.zeros(3)), r"got shape \(3,\)"),
        (lambda f=function: f(torch.zeros(3, 3)), "not all zero"),
        (lambda f=function: f(COUNTS - 0.5), "none negative"),
        (lambda f=function: f(COUNTS * math.inf), "counts"),
    ]
for function in (*SCORED, lambda logits, labels: metrics.top_k_accuracy(logits, labels, 1)):
    BAD += [
        (lambda f=function: f(LOGITS, LABELS + 2), "0 to 3, got 2 to 4"),
        (lambda f=function: f(LOGITS, LABELS[:2]), "3 rows of logits but 2 labels"),
        (lambda f=function: f(LOGITS[0], LABELS), r"shape \(4,\)"),
        (lambda f=function: f(LOGITS[:0], LABELS[:0]), "not empty"),
        (lambda f=function: f(LOGITS / 0, LABELS), "finite"),
    ]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_gets_one_clear_line(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("labels", "predictions", "classes"), ALL_CASES)
def test_what_is_made_from_the_matrix_equals_torchmetrics(labels, predictions, classes):
    if classes < 2:
        pytest.skip("torchmetrics takes two classes or more")
    cm = matrix(labels, predictions, classes)
    pair = torch.tensor(predictions), torch.tensor(labels)
    assert cm.equal(other.confusion_matrix(*pair, task="multiclass", num_classes=classes))
    for ours, theirs in (
        (metrics.precision, other.precision),
        (metrics.recall, other.recall),
        (metrics.f1, other.f1_score),
    ):
        want = theirs(*pair, task="multiclass", num_classes=classes, average="none")
        np.testing.assert_allclose(ours(cm).numpy(), want.numpy(), rtol=1e-6)

    def average(measure, kind):
        found = measure(*pair, task="multiclass", num_classes=classes, average=kind)
        return pytest.approx(found.item(), rel=1e-6)

    assert metrics.mean_precision(cm) == average(other.precision, "macro")
    assert metrics.weighted_precision(cm) == average(other.precision, "weighted")
    assert metrics.accuracy(cm) == average(other.accuracy, "micro")
    if set(predictions) <= set(labels):
        # A class without images, but predicted: a recall of 0 there, left out here.
        assert metrics.mean_accuracy(cm) == average(other.accuracy, "macro")


@pytest.mark.parametrize("seed", range(3))
def test_what_is_made_from_scores_equals_torchmetrics(seed):
    logits, labels = random_scores(seed, images=200)
    probabilities, options = logits.softmax(1), {"task": "multiclass", "num_classes": 5}
    for k in (1, 2, 4):
        want = other.accuracy(probabilities, labels, top_k=k, average="micro", **options)
        assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(want.item())
    want = other.average_precision(probabilities, labels, average="macro", **options)
    assert metrics.mean_average_precision(logits, labels) == pytest.approx(want.item())
    want = other.calibration_error(probabilities, labels, n_bins=15, norm="l1", **options)
    error = metrics.expected_calibration_error(logits, labels)
    assert error == pytest.approx(want.item(), rel=1e-5)
