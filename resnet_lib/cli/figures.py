"""The figures of a network on a part of a data set, which several commands print."""

from collections.abc import Hashable, Sequence
from typing import Any

from resnet_lib import metrics, train


def measure(
    evaluation: train.Evaluation,
    classes: Sequence[str],
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Any]:
    """Chapter 14's figures as plain data: with an interval, by class, and of the probabilities.

    groups: one for each image, where some images belong together.
    """
    scores = evaluation.logits, evaluation.labels
    matrix = metrics.confusion_matrix(evaluation.labels, evaluation.predictions, len(classes))
    hits = (evaluation.predictions == evaluation.labels).double()
    alone = range(len(hits)) if groups is None else groups
    low, high = (
        metrics.bootstrap_interval(hits)
        if len(set(alone)) == len(hits)
        else metrics.grouped_interval(hits, alone)
    )
    return {
        "images": len(evaluation.labels),
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "accuracy_interval": [low, high],
        "mean_precision": float(metrics.mean_precision(matrix)),
        "mean_accuracy": float(metrics.mean_accuracy(matrix)),
        "calibration_error": metrics.expected_calibration_error(*scores),
        "classes": list(classes),
        "precision": metrics.precision(matrix).tolist(),
        "recall": metrics.recall(matrix).tolist(),
        "confusion_matrix": matrix.tolist(),
    }


def surest_mistakes(evaluation: train.Evaluation, count: int) -> list[int]:
    """The indices of the wrong answers that the network was surest of, the surest first."""
    sure, answers = evaluation.logits.softmax(1).max(1)
    wrong = (answers != evaluation.labels).nonzero()[:, 0]
    return wrong[sure[wrong].argsort(descending=True)][:count].tolist()


def lines(figures: dict[str, Any]) -> list[str]:
    """The figures as text."""
    low, high = figures["accuracy_interval"]
    width = max(5, *map(len, figures["classes"]))
    images = [sum(row) for row in figures["confusion_matrix"]]
    rows = zip(figures["classes"], figures["precision"], figures["recall"], images, strict=True)
    return [
        f"accuracy        {figures['accuracy']:.4f}  (95 % interval {low:.4f} to {high:.4f})",
        f"mean precision  {figures['mean_precision']:.4f}",
        f"mean accuracy   {figures['mean_accuracy']:.4f}",
        f"loss            {figures['loss']:.4f}",
        f"calibration     {figures['calibration_error']:.4f}  (expected error)",
        "",
        f"{'class':{width}}  precision  recall  images",
        *(f"{name:{width}}  {p:9.4f}  {r:6.4f}  {n:6,}" for name, p, r, n in rows),
    ]
