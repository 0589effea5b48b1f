"""The book as a PDF or an EPUB: nothing folded, and formulas that need no script in an EPUB."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

import resnet_lib

BROWSER_ONLY = ("book.css", "classifier.css", "explorer.css", "page.png", "sheets.css")
VERSION = resnet_lib.__version__
logger = logging.getLogger(__name__)

# What docutils does not read, and MathML does not need: its brackets grow by themselves.
SIZES = re.compile(r"\\(?:[bB]igg?[lr]?|textstyle)(?![a-zA-Z])")
STYLES = re.compile(r' (?:displaystyle|scriptlevel)="[^"]*"')
SHORT = re.compile(r"\\([td]?frac)(\d)(\d)")


def as_mathml(tex, block):
    """A formula as MathML; raises MathError for what docutils cannot read."""
    tex = SIZES.sub("", tex).replace(r"\dots", r"\ldots")
    made = tex2mathml(SHORT.sub(r"\\\1{\2}{\3}", tex), as_block=block)
    # An entity and attributes that an EPUB must not have.
    return STYLES.sub("", made.replace("&ApplyFunction;", "\N{FUNCTION APPLICATION}"))


def visit(translator, node):
    """Write the formula; one that cannot be set stays as it is written, with a warning."""
    block = isinstance(node, nodes.math_block)
    try:
        made = as_mathml(node.astext(), block)
    except MathError as error:
        logger.warning("formula left as TeX: %s", error, location=node, type="book", subtype="math")
        made = f"<code>{translator.encode(node.astext())}</code>"
    number = ""
    if block and node.get("number"):
        number = f'<span class="eqno">({get_node_equation_number(translator, node)})</span>'
    tag = "div" if block else "span"
    translator.body.append(translator.starttag(node, tag, "", CLASS="math") + number)
    translator.body.append(f"{made}</{tag}>")
    raise nodes.SkipNode


def set_up(app, config):
    """Add the style of printed pages; say what an EPUB is called and leave out of it."""
    config.html_css_files = [*config.html_css_files, "paper.css", "sheets.css"]
    config.version = config.version or VERSION
    config.epub_css_files = ["paper.css"]
    # For pages in a browser; EPUB's checkers refuse some of it.
    config.epub_exclude_files = [f"_static/{name}" for name in BROWSER_ONLY]
    config.epub_show_urls = "no"
    config.epub_tocdepth = 2
    config.epub_basename = "book"
    config.epub_identifier = config.epub_uid = "residual-networks-from-scratch"
    config.epub_description = "ResNet-50 and ResNet-101, built piece by piece in PyTorch"


def unfold(app, pagename, templatename, context, doctree):
    """Open what a page folds."""
    if "body" in context:
        context["body"] = re.sub(r"<details\b(?! open)", '<details open="open"', context["body"])


def setup(app):
    # Sphinx asks for a setting named after the builder before the one for all HTML.
    app.add_config_value("epub_math_renderer", "mathml", "env")
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    app.connect("config-inited", set_up)
    app.connect("html-page-context", unfold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
