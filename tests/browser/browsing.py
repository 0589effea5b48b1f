"""A page in an installed Chromium, for the tests in this folder."""

import shutil
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DESKTOP, PHONE = (1280, 900), (390, 844)
THEMES_OWN = "Got invalid theme mode: . Resetting to auto."  # on a reader's first visit


@contextmanager
def opened(chromium, address, size=DESKTOP, **options):
    """The page; afterwards nothing may have been asked for elsewhere, and no error reported."""
    width, height = size
    context = chromium.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.goto(address)
    yield page
    context.close()
    assert asked and not [url for url in asked if not url.startswith(("file:", "data:"))]
    assert not [error for error in errors if error != THEMES_OWN]
