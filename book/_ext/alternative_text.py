"""Warn of an image without alternative text: a screen reader would read its file name aloud."""

from docutils import nodes
from sphinx.util import logging

logger = logging.getLogger(__name__)


def warn(app, doctree):
    """One warning an image; ``-W`` makes the build fail."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            message = "image without alternative text: %s"
            logger.warning(message, image["uri"], location=image, type="book", subtype="alt")


def setup(app):
    app.connect("doctree-read", warn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
