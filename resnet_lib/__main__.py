"""``python -m resnet_lib``: the command line of the book."""

import warnings

from resnet_lib.cli import main

_usual = warnings.formatwarning


def _in_one_line(message, category, *where, **more) -> str:
    """A warning of ours as a line for a user; others, which are for programmers, with the place."""
    ours = category is UserWarning and "resnet_lib" in str(where[0])
    return f"warning: {message}\n" if ours else _usual(message, category, *where, **more)


if __name__ == "__main__":
    warnings.formatwarning = _in_one_line
    raise SystemExit(main())
