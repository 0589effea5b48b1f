"""The directive ``cite-this-book``: a BibTeX entry made from ``CITATION.cff``."""

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

FILE = "CITATION.cff"
KEY = "residual_networks_from_scratch"


def name(author):
    """A person as "Family, Given"; a group in braces, which BibTeX leaves whole."""
    if "name" in author:
        return f"{{{author['name']}}}"
    return f"{author['family-names']}, {author['given-names']}"


def bibtex(about):
    """The entry for what a CITATION.cff file says, read as YAML."""
    fields = {
        "author": " and ".join(map(name, about["authors"])),
        "title": f"{{{about['title']}}}",
        "year": str(about["date-released"])[:4],
        "version": str(about["version"]),
        "url": about.get("url") or about.get("repository-code"),
        "doi": about.get("doi"),
    }
    lines = [f"  {field} = {{{value}}}," for field, value in fields.items() if value]
    return "\n".join((f"@misc{{{KEY},", *lines, "}"))


class CiteThisBook(SphinxDirective):
    """The entry, to be copied."""

    def run(self):
        self.env.note_dependency(FILE)
        about = yaml.safe_load(Path(self.env.srcdir, FILE).read_text(encoding="utf-8"))
        entry = bibtex(about)
        return [nodes.literal_block(entry, entry, language="bibtex")]


def setup(app):
    app.add_directive("cite-this-book", CiteThisBook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
