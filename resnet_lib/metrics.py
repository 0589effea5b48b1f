"""What a classifier gets right, and how sure the figure is: pure functions on tensors.

Labels and predictions are class numbers (N,), logits (N, K). The arithmetic is float64 on the CPU,
on whatever device the tensors are. Rates are fractions, 0 to 1. Equal to scikit-learn's functions
of these names except where a docstring says so.
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from resnet_lib import UserError


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """(N,), (N,) -> int64 (K, K): images of the row's class that were taken for the column's."""
    labels = _class_numbers(labels, num_classes, "labels")
    predictions = _class_numbers(predictions, num_classes, "predictions")
    if len(labels) != len(predictions):
        raise UserError(f"got {len(labels)} labels but {len(predictions)} predictions")
    cells = torch.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def accuracy(cm: Tensor) -> float:
    """(K, K) -> the fraction of images on the diagonal."""
    cm = _counts(cm)
    return (cm.trace() / cm.sum()).item()


def precision(cm: Tensor) -> Tensor:
    """(K, K) -> (K,): of the images taken for a class, the fraction that belongs to it.

    0 for a class that is never predicted, scikit-learn's ``zero_division=0``.
    """
    cm = _counts(cm)
    return _divide(cm.diagonal(), cm.sum(0))


def recall(cm: Tensor) -> Tensor:
    """(K, K) -> (K,): of the images of a class, the fraction taken for it.

    0 for a class without images, scikit-learn's ``zero_division=0``.
    """
    cm = _counts(cm)
    return _divide(cm.diagonal(), cm.sum(1))


def f1(cm: Tensor) -> Tensor:
    """(K, K) -> (K,): the harmonic mean of precision and recall.

    0 for a class that has no images and is never predicted, scikit-learn's ``zero_division=0``.
    """
    cm = _counts(cm)
    return _divide(2 * cm.diagonal(), cm.sum(0) + cm.sum(1))


def mean_precision(cm: Tensor) -> float:
    """(K, K) -> precision averaged over the classes (macro), each with the same weight.

    A class that is never predicted counts as 0; one that has no images either is left out.
    """
    cm = _counts(cm)
    return precision(cm)[cm.sum(0) + cm.sum(1) > 0].mean().item()


def mean_accuracy(cm: Tensor) -> float:
    """(K, K) -> recall averaged over the classes that have images: balanced accuracy."""
    cm = _counts(cm)
    return recall(cm)[cm.sum(1) > 0].mean().item()


def weighted_precision(cm: Tensor) -> float:
    """(K, K) -> precision averaged with each class's images as its weight.

    The same average of recall is the accuracy, and so are the "micro" averages of both, which pool
    the images of all classes.
    """
    cm = _counts(cm)
    return ((precision(cm) * cm.sum(1)).sum() / cm.sum()).item()


def average_precision(scores: Tensor, relevant: Tensor) -> float:
    """(N,), (N,) bool -> the area under the steps of precision against recall.

    One class at a time: images are ranked by score, and precision is averaged over the ranks at
    which a relevant one stands. Equal scores are one rank. Not to be confused with the mean of
    precisions of a confusion matrix, which knows no ranking.
    """
    scores = torch.as_tensor(scores).detach().cpu().double()
    relevant = torch.as_tensor(relevant).detach().cpu().bool()
    if scores.ndim != 1 or scores.shape != relevant.shape or not scores.isfinite().all():
        raise UserError(
            f"need finite scores (N,) and relevant (N,), got {tuple(scores.shape)} "
            f"and {tuple(relevant.shape)}"
        )
    if not relevant.any():
        raise UserError("average precision needs at least one relevant image")
    order = scores.argsort(descending=True)
    hits = relevant[order].double().cumsum(0)
    ends = torch.cat([scores[order].diff() != 0, torch.tensor([True])])  # of each group of equals
    hits, seen = hits[ends], (torch.arange(len(scores)) + 1)[ends]
    gained = hits.diff(prepend=torch.zeros(1, dtype=torch.float64))
    return ((gained * hits / seen).sum() / hits[-1]).item()


def mean_average_precision(logits: Tensor, labels: Tensor) -> float:
    """(N, K), (N,) -> average precision of each class against the rest, averaged (macro).

    Ranked by probability; classes without images are left out.
    """
    logits, labels = _scores(logits, labels)
    probabilities = logits.softmax(1)
    values = [
        average_precision(probabilities[:, label], labels == label)
        for label in labels.unique().tolist()
    ]
    return sum(values) / len(values)


def top_k_accuracy(logits: Tensor, labels: Tensor, k: int) -> float:
    """(N, K), (N,) -> the fraction of images whose class has one of the k highest scores.

    Equal scores are ranked by class number, lowest first, so that k = 1 agrees with ``argmax``;
    scikit-learn ranks them highest first.
    """
    logits, labels = _scores(logits, labels)
    if not 1 <= k <= logits.shape[1]:
        raise UserError(f"k must be between 1 and {logits.shape[1]}, got {k}")
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1]) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(1)
    return (rank < k).double().mean().item()


def log_loss(logits: Tensor, labels: Tensor) -> float:
    """(N, K), (N,) -> mean cross-entropy in nats. Not clipped: scikit-learn stops at about 36."""
    logits, labels = _scores(logits, labels)
    return -logits.log_softmax(1).gather(1, labels[:, None]).mean().item()


def brier_score(logits: Tensor, labels: Tensor) -> float:
    """(N, K), (N,) -> mean squared distance of the probabilities from the one-hot label, 0 to 2.

    Summed over the classes as in Brier 1950, also for two: there scikit-learn halves it by default.
    """
    logits, labels = _scores(logits, labels)
    target = torch.nn.functional.one_hot(labels, logits.shape[1])
    return (logits.softmax(1) - target).square().sum(1).mean().item()


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """(N, K), (N,) -> (bins, 3): images, mean confidence and accuracy of each bin.

    Confidence is the highest probability; its bins are equally wide and closed on the right. An
    empty bin has 0 in all three.
    """
    logits, labels = _scores(logits, labels)
    if bins < 1:
        raise UserError(f"bins must be at least 1, got {bins}")
    confidence, prediction = logits.softmax(1).max(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    facts = torch.stack([torch.ones_like(confidence), confidence, (prediction == labels).double()])
    sums = torch.zeros(3, bins, dtype=torch.float64)
    sums.index_add_(1, torch.bucketize(confidence, edges), facts)
    return torch.stack([sums[0], _divide(sums[1], sums[0]), _divide(sums[2], sums[0])], 1)


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """(N, K), (N,) -> the gap between confidence and accuracy, averaged over the images.

    Bins as in ``reliability``. Guo et al. 2017, equation 3 (DOI 10.48550/arXiv.1706.04599). Not in
    scikit-learn.
    """
    count, confidence, right = reliability(logits, labels, bins).unbind(1)
    return ((confidence - right).abs() * count).sum().item() / len(labels)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """(N, K), (N,) -> the number by which to divide the logits for the smallest log loss.

    Above 1 where the network is too sure. The loss is convex in its inverse, so the derivative's
    sign change is bracketed and halved. Fit it on the validation part, never on the test part.
    Guo et al. 2017, section 4.2 (DOI 10.48550/arXiv.1706.04599).
    """
    logits, labels = _scores(logits, labels)
    own = logits.gather(1, labels[:, None])[:, 0]

    def slope(inverse: float) -> float:
        expected = ((logits * inverse).softmax(1) * logits).sum(1)
        return (expected - own).mean().item()

    low, high = 1e-3, 1e3
    if slope(low) >= 0 or slope(high) <= 0:
        raise UserError(
            "no temperature is best: all or nearly all are right, or the scores say nothing"
        )
    for _ in range(100):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def bootstrap_interval(
    values: Tensor, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """(N,) -> the percentile interval (low, high) of the mean, in the unit of the values.

    ``values`` has one entry per independent unit: right or wrong per image, or the difference of
    two networks per image or per seed. Efron 1979 (DOI 10.1214/aos/1176344552).
    """
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1 or len(values) < 2 or not values.isfinite().all():
        shape = tuple(values.shape)
        raise UserError(f"an interval needs at least two finite values (N,), got shape {shape}")
    if not 0 < confidence < 1 or samples < 1:
        raise UserError(f"need 0 < confidence < 1 and samples >= 1; got {confidence}, {samples}")
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, 2**20 // len(values))  # bounds the memory for many values
    means = []
    for start in range(0, samples, chunk):
        shape = (min(chunk, samples - start), len(values))
        means.append(values[torch.randint(len(values), shape, generator=generator)].mean(1))
    tail = (1 - confidence) / 2
    limits = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    low, high = torch.cat(means).quantile(limits).tolist()
    return low, high


def grouped_interval(
    values: Tensor,
    groups: Sequence[Hashable],
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """``bootstrap_interval`` for values (N,) that come in groups, such as two shots of one scene.

    groups: N names. Whole groups are drawn, since a group's values are not independent; the mean
    is that of all values drawn.
    """
    values = torch.as_tensor(values).detach().cpu().double()
    place = {name: at for at, name in enumerate(dict.fromkeys(groups))}
    if values.shape != (len(groups),) or len(place) < 2 or not values.isfinite().all():
        raise UserError(
            "an interval needs finite values (N,) of at least two groups, got shape "
            f"{tuple(values.shape)} and {len(place)} groups"
        )
    if not 0 < confidence < 1 or samples < 1:
        raise UserError(f"need 0 < confidence < 1 and samples >= 1; got {confidence}, {samples}")
    index = torch.tensor([place[name] for name in groups])
    sums = torch.zeros(len(place), dtype=torch.float64).index_add(0, index, values)
    counts = index.bincount()
    generator = torch.Generator().manual_seed(seed)
    means = torch.empty(samples, dtype=torch.float64)
    for at in range(samples):
        drawn = torch.randint(len(sums), (len(sums),), generator=generator)
        means[at] = sums[drawn].sum() / counts[drawn].sum()
    tail = (1 - confidence) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def _class_numbers(values: Tensor, num_classes: int, name: str) -> Tensor:
    values = torch.as_tensor(values).detach().cpu()
    if values.ndim != 1 or len(values) == 0:
        raise UserError(f"{name} must be (N,) with N >= 1, got shape {tuple(values.shape)}")
    if values.is_floating_point() or values.is_complex():
        raise UserError(f"{name} must be class numbers, integers, got {values.dtype}")
    values = values.long()
    if values.min() < 0 or values.max() >= num_classes:
        span = f"{values.min().item()} to {values.max().item()}"
        raise UserError(f"{name} must lie in 0 to {num_classes - 1}, got {span}")
    return values


def _counts(cm: Tensor) -> Tensor:
    cm = torch.as_tensor(cm).detach().cpu().double()
    if cm.ndim != 2 or cm.shape[0] != cm.shape[1]:
        raise UserError(f"a confusion matrix is (K, K), got shape {tuple(cm.shape)}")
    if not (cm >= 0).all() or not cm.isfinite().all() or cm.sum() == 0:
        raise UserError("a confusion matrix holds counts, none negative and not all zero")
    return cm


def _divide(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient, and 0 where the whole is 0."""
    return torch.where(whole > 0, part / whole, 0.0)


def _scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = torch.as_tensor(logits).detach().cpu().double()
    if logits.ndim != 2 or 0 in logits.shape:
        raise UserError(f"logits must be (N, K), not empty, got shape {tuple(logits.shape)}")
    if not logits.isfinite().all():
        raise UserError("logits must be finite: a NaN or infinity means that the training diverged")
    labels = _class_numbers(labels, logits.shape[1], "labels")
    if len(labels) != len(logits):
        raise UserError(f"got {len(logits)} rows of logits but {len(labels)} labels")
    return logits, labels
