"""Serve MathJax from the book itself, and leave out what only works with another host."""

from importlib.metadata import files
from pathlib import Path
from shutil import copyfile

PACKAGE = "sphinx-mathjax-offline"  # its folder's name is no valid module name
WANTED = ("tex-chtml.js", "output/chtml/fonts/woff-v2/")


def use_local_mathjax(app, config):
    """Let the pages look for MathJax below ``_static``."""
    config.mathjax_path = "mathjax/tex-chtml.js"


def copy_mathjax(app):
    """Copy the script and its fonts into the output.

    In the source's ``_static`` the script would be added to pages without formulas too.
    """
    if app.builder.format != "html" or app.builder.math_renderer_name != "mathjax":
        return
    for file in files(PACKAGE):
        name = str(file).partition("static/mathjax/")[2]
        if name.startswith(WANTED):
            target = Path(app.outdir, "_static", "mathjax", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            copyfile(file.locate(), target)


def leave_out_thebe(app):
    """Jupyter Book always loads sphinx-thebe, which names a script on another host."""
    for listeners in app.events.listeners.values():
        listeners[:] = [item for item in listeners if item.handler.__module__ != "sphinx_thebe"]
    styles = app.registry.css_files
    styles[:] = [item for item in styles if item[0] != "sphinx-thebe.css"]


def setup(app):
    leave_out_thebe(app)
    app.connect("config-inited", use_local_mathjax)
    app.connect("builder-inited", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
