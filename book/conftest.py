"""Chapters run under nbval as ``tools/notebooks.py`` runs them."""

import pytest
from notebooks import ENVIRONMENT


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """Give the kernel, which starts with a notebook's first cell, the same environment."""
    if item.path.suffix != ".ipynb":
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        return (yield)
