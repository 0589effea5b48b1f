"""The report of a run: one HTML page that needs nothing beside itself, not even a script.

Its pictures are part of the file. It can be read on a phone, in dark mode, and by a screen reader.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from PIL import Image
from torch import Tensor

from resnet_lib import plots

STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --back: #ffffff; --faint: #555; --line: #bbb; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --back: #16181c; --faint: #b4b4b4; --line: #555; }
}
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  max-width: 46rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1, h2 { line-height: 1.25; }
img { max-width: 100%; height: auto; background: #fff; }
figure { margin: 1rem 0; }
figcaption, .note { color: var(--faint); }
.note { border-left: 4px solid var(--line); padding-left: .75rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .15rem .9rem .15rem 0;
  border-bottom: 1px solid var(--line); }
th { overflow-wrap: break-word; }
td.number, th.number { text-align: right; overflow-wrap: normal; }
pre { white-space: pre-wrap; border: 1px solid var(--line); padding: .5rem; }
.mistakes { display: grid; gap: 1rem; padding: 0; list-style: none;
  grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.mistakes img { display: block; width: 8rem; image-rendering: pixelated; }
"""


@dataclass(frozen=True)
class Mistake:
    """A picture uint8 (1 or 3, H, W) that was taken for another class; ``name`` finds it again."""

    picture: Tensor
    name: str
    label: str
    answer: str
    probability: float


@dataclass(frozen=True)
class Measured:
    """What came out on a part of the data.

    ``figures`` are those of ``evaluate --json``, ``reliability`` is the table (bins, 3) of
    ``metrics.reliability``.
    """

    part: str
    figures: Mapping[str, Any]
    reliability: Tensor
    mistakes: Sequence[Mistake] = ()


@dataclass(frozen=True)
class Report:
    """All that the page shows: ``notes`` say what is missing and why."""

    title: str
    facts: Mapping[str, Any]
    history: Sequence[Mapping[str, float]]
    config: Mapping[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    measured: Measured | None = None
    notes: Sequence[str] = ()


def page(report: Report) -> str:
    """The whole HTML file."""
    title = escape(report.title)
    parts = [
        f"<h1>{title}</h1>",
        *(f'<p class="note">{escape(note)}</p>' for note in report.notes),
        _table("Facts", report.facts),
        *_curves(report.history),
        *(_results(report.measured) if report.measured else ()),
        "<h2>Configuration</h2>",
        _table("Configuration", _flat(report.config)),
    ]
    if report.environment:
        parts += ["<h2>Environment</h2>", _table("Environment", report.environment)]
    if report.command:
        parts += ["<h2>Command</h2>", f"<pre><code>{escape(report.command)}</code></pre>"]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _curves(history: Sequence[Mapping[str, float]]) -> list[str]:
    if not history:
        return []
    last = history[-1]
    said = (
        f"Loss and accuracy on the training and the validation part, by epoch. After epoch "
        f"{last['epoch']} the losses are {last['train_loss']:.3f} and {last['val_loss']:.3f}, the "
        f"accuracies {last['train_accuracy']:.1%} and {last['val_accuracy']:.1%}."
    )
    caption = "On the training part measured while the weights change, and with augmented images."
    return ["<h2>Curves</h2>", _figure(plots.history(history), said, caption)]


def _results(measured: Measured) -> list[str]:
    part, figures = f"{measured.part} part", measured.figures
    low, high = figures["accuracy_interval"]
    names, matrix = figures["classes"], figures["confusion_matrix"]
    right = sum(row[index] for index, row in enumerate(matrix))
    values = {
        "images": f"{figures['images']:,}",
        "accuracy": f"{figures['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})",
        "mean precision": f"{figures['mean_precision']:.4f}",
        "mean accuracy": f"{figures['mean_accuracy']:.4f}",
        "loss (nats)": f"{figures['loss']:.4f}",
        "expected calibration error": f"{figures['calibration_error']:.4f}",
    }
    return [
        f"<h2>Results on the {escape(part)}</h2>",
        _table("Results", values),
        "<h2>Confusion matrix</h2>",
        _figure(
            plots.confusion(matrix, names),
            f"Confusion matrix of the {part}: {right:,} of {figures['images']:,} images are on its "
            f"diagonal. {_most_confused(names, matrix)}",
            "Rows are true classes, columns the network's answers, in percent of the row.",
        ),
        "<h2>Classes</h2>",
        _classes(figures),
        "<h2>Calibration</h2>",
        _figure(
            plots.reliability({measured.part: measured.reliability}),
            f"Accuracy against confidence on the {part}; the expected calibration error is "
            f"{figures['calibration_error']:.3f}.",
            "On the dashed line the network is right as often as it says.",
        ),
        *_mistakes(measured.mistakes),
    ]


def _most_confused(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> str:
    wrong = [
        (count, names[row], names[column])
        for row, counts in enumerate(matrix)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    if not wrong:
        return "No image was taken for another class."
    count, label, answer = max(wrong, key=lambda entry: entry[0])
    return f"The largest number off it: {count:,} of {label} taken for {answer}."


def _classes(figures: Mapping[str, Any]) -> str:
    columns = figures["classes"], figures["precision"], figures["recall"]
    counts = map(sum, figures["confusion_matrix"])
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td class="number">{precision:.3f}</td>'
        f'<td class="number">{recall:.3f}</td><td class="number">{count:,}</td></tr>\n'
        for name, precision, recall, count in zip(*columns, counts, strict=True)
    )
    heads = "".join(
        f'<th scope="col" class="number">{head}</th>' for head in ("precision", "recall", "images")
    )
    return (
        f'<table aria-label="Classes">\n<thead><tr><th scope="col">class</th>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>"
    )


def _mistakes(mistakes: Sequence[Mistake]) -> list[str]:
    if not mistakes:
        return []
    items = [
        f"<li><img {_source(_png(wrong.picture))} "
        f'alt="{escape(f"{wrong.label}, taken for {wrong.answer}")}">'
        f"{escape(wrong.label)}, taken for {escape(wrong.answer)} with {wrong.probability:.2f}"
        f"<br><small>{escape(wrong.name)}</small></li>"
        for wrong in mistakes
    ]
    return [
        "<h2>Worst mistakes</h2>",
        "<p>The wrong answers that the network was surest of, each with its probability.</p>",
        '<ul class="mistakes">\n' + "\n".join(items) + "\n</ul>",
    ]


def _table(label: str, values: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(_text(value))}</td></tr>\n'
        for key, value in values.items()
    )
    return f'<table aria-label="{escape(label)}">\n<tbody>\n{rows}</tbody>\n</table>'


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"spec": {"width": 16}} as {"spec.width": 16}."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _figure(figure: plots.BookFigure, alt: str, caption: str) -> str:
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return (
        f'<figure><img {_source(figure.png())} width="{width}" height="{height}" '
        f'alt="{escape(alt)}">\n<figcaption>{escape(caption)}</figcaption></figure>'
    )


def _source(png: bytes) -> str:
    return f'src="data:image/png;base64,{base64.b64encode(png).decode()}"'


def _png(picture: Tensor) -> bytes:
    pixels, file = picture.cpu().movedim(0, -1).squeeze(-1).numpy(), io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
