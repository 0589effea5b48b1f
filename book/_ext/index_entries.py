"""Entries for the index: each term of the glossary, and where a page first links it.

Functions and classes of the package come in by themselves, from the API reference.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

GLOSSARY = "book/glossary"


def slug(heading):
    """The anchor that MyST gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def terms(text):
    """{anchor: term} of the glossary's text."""
    return {slug(term): term for term in re.findall(r"^## (.+)$", text, re.MULTILINE)}


def section_of(node):
    """The section around a node, None where there is none."""
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return node


def first_links(doctree):
    """{anchor in the glossary: the section that links it first}."""
    found = {}
    for link in doctree.findall(addnodes.pending_xref):
        section = section_of(link)
        if link.get("reftarget") == GLOSSARY and link.get("reftargetid") and section is not None:
            found.setdefault(link["reftargetid"], section)
    return found


class Entries(SphinxTransform):
    """Puts the entries in, before Sphinx collects them (at 850)."""

    default_priority = 840

    def apply(self, **options):
        glossary = Path(self.env.doc2path(GLOSSARY))
        if not glossary.exists():  # the teacher's pages have none
            return
        known = terms(glossary.read_text(encoding="utf-8"))
        if self.env.docname == GLOSSARY:
            sections = {slug(one[0].astext()): one for one in self.document.findall(nodes.section)}
        else:
            sections = first_links(self.document)
        for anchor, section in sections.items():
            if anchor in known:
                place = ("single", known[anchor], section["ids"][0], "", None)
                section.insert(1, addnodes.index(entries=[place]))


def setup(app):
    app.add_transform(Entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
