"""Curves that grow while a network trains."""

from typing import Any

from resnet_lib.plots.charts import history as draw


class Live:
    """One figure in a notebook, drawn anew after each epoch: ``train.fit(…, watch=Live())``.

    The notebook keeps the last state, as one figure. Outside of notebooks nothing is drawn.
    """

    def __init__(self):
        self.shown = None

    def __call__(self, history: Any) -> None:
        """Draw the history so far, an object with ``epochs``."""
        if not _in_notebook():
            return
        from IPython.display import display

        if self.shown is None:
            self.shown = display(draw(history), display_id=True)
        else:
            self.shown.update(draw(history))


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython  # in every notebook, but no need of the package
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")  # a terminal's IPython has none
