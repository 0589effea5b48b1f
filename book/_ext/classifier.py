"""The classifier in the page: the directive ``classifier``, which stands where it belongs.

Network and runtime are made when the page is read, see ``classifier_data.py``, and written as
scripts below ``_static/classifier``. They are loaded only when the reader asks for it; a page that
is opened from a disk could read them in no other form. ``classifier.html`` is the markup, and
``_static/classifier.js``, ``classifier-picture.js`` and ``classifier.css`` go with the page alone.
Where something is missing, the page says what.
"""

import json
from pathlib import Path

from classifier_runtime import Missing
from docutils import nodes
from jinja2 import Environment, FileSystemLoader
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

HERE = Path(__file__).parent
TEMPLATE = "classifier.html"
MARK = 'class="clothes-classifier"'  # in the page that has it
logger = logging.getLogger(__name__)


def markup(page):
    """The classifier as HTML."""
    template = Environment(loader=FileSystemLoader(HERE), autoescape=True).get_template(TEMPLATE)
    # "</" would end the script element.
    facts = json.dumps(page["facts"] | {"side": page["side"]}).replace("</", "<\\/")
    return template.render(**page, embedded=facts)


def write(scripts, folder):
    """Write the scripts into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts.items():
        (folder / f"{name}.js").write_text(text, encoding="utf-8")


class Classifier(SphinxDirective):
    """Network, pictures and controls; or a note that says what is missing."""

    def run(self):
        import classifier_data  # imports torch, which the other pages do without

        # Read again at the next build: only then are the scripts sure to be there and up to date.
        self.env.note_reread()
        try:
            scripts, page = classifier_data.collect()
        except Missing as missing:
            logger.info("the classifier is left out: %s", missing)
            text = f"The classifier is not on this page: {missing}."
            return [nodes.note("", nodes.paragraph("", text))]
        if self.env.app.builder.format == "html":
            write(scripts, Path(self.env.app.outdir, "_static", "classifier"))
        return [nodes.raw("", markup(page), format="html")]


def add_files(app, pagename, templatename, context, doctree):
    """The scripts and the style, on the page with the classifier only."""
    if MARK in context.get("body", ""):
        app.add_css_file("classifier.css")
        for name in ("classifier-picture.js", "classifier.js"):
            app.add_js_file(name, loading_method="defer")


def setup(app):
    app.add_directive("classifier", Classifier)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
