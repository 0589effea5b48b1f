"""What somebody sees who waits for a training: the time left, and curves that grow."""

import base64
import io
import sys
from types import SimpleNamespace

import nbformat
import pytest
from PIL import Image, ImageChops
from toys import make_model

from resnet_lib import checkpoint, plots, train
from resnet_lib.runs import History
from resnet_lib.train import TrainConfig

TINY = TrainConfig(
    epochs=3, batch_size=16, lr=0.05, warmup_epochs=0.5, augment=None, precision="float32",
    device="cpu",
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def took(*seconds):
    return [{"seconds": each} for each in seconds]


@pytest.mark.parametrize(
    "seconds, epochs, words",
    [
        ((4.0,), 5, "  about 20 s left"),
        ((0.01,), 1, "  about 1 s left"),
        ((90, 20, 20), 3, "  about 60 s left"),  # the first epoch was slow
        ((60,), 2, "  about 2 min left"),
        ((61,), 2, "  about 3 min left"),
        ((60,), 59, "  about 59 min left"),
        ((3599,), 1, "  about 1 h 0 min left"),
        ((600,), 13, "  about 2 h 10 min left"),
        ((600,), 0, ""),
    ],
)
def test_time_left(monkeypatch, seconds, epochs, words):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert train.time_left(took(*seconds), epochs) == words


@pytest.mark.parametrize("stream", [Terminal, io.StringIO], ids=["terminal", "file"])
def test_an_epochs_line_tells_the_time_left_in_a_terminal_only(toy, toy_val, monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream())
    lines = []
    train.fit(make_model(), toy, toy_val, TINY, log=lines.append)
    told = [line.endswith(" left") for line in lines]
    assert told == ([True, True, False] if stream is Terminal else [False] * 3)


def test_time_left_counts_the_epochs_of_this_process_only(toy, toy_val, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())

    def stop(history):  # as if the machine went away after the first epoch
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train.fit(make_model(), toy, toy_val, TINY, tmp_path, watch=stop)
    state = checkpoint.load(tmp_path / "last.pt")
    state["history"][0]["seconds"] = 1e6  # on a slower machine
    checkpoint.save(tmp_path / "last.pt", state)
    lines = []
    train.fit(make_model(), toy, toy_val, TINY, tmp_path, resume=True, log=lines.append)
    assert lines[0] == "resumed after epoch 1 of 3"
    assert lines[1].endswith(" s left")


def test_watch_sees_each_epoch_after_it_was_saved(toy, toy_val, tmp_path):
    seen = []

    def watch(history):
        seen.append((len(history.epochs), (tmp_path / "last.pt").stat().st_mtime_ns))

    history = train.fit(make_model(), toy, toy_val, TINY, tmp_path, log=str, watch=watch)
    assert [count for count, _ in seen] == [1, 2, 3] == [e["epoch"] for e in history.epochs]
    assert len({time for _, time in seen}) == 3


ROW = {"train_loss": 1.0, "val_loss": 1.2, "train_accuracy": 0.5, "val_accuracy": 0.4}
ROWS = [{"epoch": epoch, **ROW, "train_loss": 1 / epoch} for epoch in (1, 2, 3)]


def test_a_notebook_keeps_one_figure_the_last(tmp_path):
    notebooks = pytest.importorskip("notebooks")
    source = (
        "from resnet_lib import plots\nfrom resnet_lib.runs import History\n"
        f"rows = {ROWS!r}\nlive = plots.Live()\n"
        "for count in (1, 2, 3):\n    live(History(rows[:count]))"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebooks.run(notebook, "live")
    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    shown = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    expected = Image.open(io.BytesIO(plots.history(History(ROWS)).png()))
    first = Image.open(io.BytesIO(plots.history(History(ROWS[:1])).png()))
    assert not ImageChops.difference(shown.convert("RGB"), expected.convert("RGB")).getbbox()
    assert ImageChops.difference(shown.convert("RGB"), first.convert("RGB")).getbbox()


def test_nothing_is_drawn_outside_of_notebooks(monkeypatch):
    def draw(history):
        raise AssertionError("drawn")

    monkeypatch.setattr("resnet_lib.plots.live.draw", draw)
    plots.Live()(History(ROWS))
    terminal = SimpleNamespace(get_ipython=object)  # IPython in a terminal: a shell, no kernel
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    plots.Live()(History(ROWS))
    monkeypatch.setitem(sys.modules, "IPython", None)  # not installed
    plots.Live()(History(ROWS))
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1))
    )
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=None))
    with pytest.raises(AssertionError, match="drawn"):
        plots.Live()(History(ROWS))
