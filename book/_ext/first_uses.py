"""Link a chapter's first use of each term to the glossary, on the pages only.

Authors link the terms that a chapter is about; this adds the others, so that a reader who starts
in the middle of the book can look up any of them. A link to the glossary says what it defines
when the pointer rests on it.
"""

import re
from pathlib import Path

from docutils import nodes
from index_entries import GLOSSARY, terms
from numbering import chapter_number
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

# Words that also have another sense in the chapters: only authors know which one is meant.
SEVERAL_SENSES = {
    "backend",
    "buffer",
    "calibration",
    "device",
    "feature",
    "hook",
    "identity",
    "interaction",
    "jump",
    "kernel",
    "precision",
    "rank",
    "recall",
    "relevance",
    "warm up",
}
# Text in these is no prose, or a link already. A table's words are explained below it.
ELSEWHERE = (
    nodes.FixedTextElement,
    nodes.caption,
    nodes.literal,
    nodes.math,
    nodes.math_block,
    nodes.raw,
    nodes.reference,
    nodes.table,
    nodes.title,
    addnodes.download_reference,
    addnodes.pending_xref,
)


def plain(term):
    """As terms are compared: small letters, a blank for a hyphen or a line's end."""
    return re.sub(r"[\s-]+", " ", term.lower())


def pattern(known):
    """Finds any of these plain terms, the longest first, in the singular or the plural."""
    longest = sorted(known, key=len, reverse=True)
    words = "|".join(r"[\s-]".join(map(re.escape, term.split())) for term in longest)
    return re.compile(rf"(?<![\w-])({words})(?:s|es)?(?![\w-])", re.IGNORECASE)


def is_prose(node):
    """Whether a text's words are in sentences, and not in a chapter's lines on time and needs."""
    while node is not None and not isinstance(node, ELSEWHERE):
        if isinstance(node, nodes.paragraph) and node.astext().startswith("Time about"):
            return False
        node = node.parent
    return node is None


def join_texts(element):
    """One text for neighbours: MyST begins another at each line's end, within a term too."""
    parts = []
    for child in element.children:
        if isinstance(child, nodes.Text) and parts and isinstance(parts[-1], nodes.Text):
            parts[-1] = nodes.Text(parts[-1] + child)
        else:
            parts.append(child)
    element.clear()
    element.extend(parts)


def definitions(glossary):
    """{anchor: the first paragraph below the heading} of the glossary's document."""
    return {
        anchor: " ".join(first.astext().split())
        for section in glossary.findall(nodes.section)
        for anchor in section["ids"]
        if (first := section.next_node(nodes.paragraph)) is not None
    }


class LinkFirstUses(SphinxTransform):
    """Marks the first uses as links, as MyST does with an author's."""

    default_priority = 845  # after the index, which names the sections that an author chose

    def apply(self, **options):
        glossary = Path(self.env.doc2path(GLOSSARY))
        if chapter_number(self.env.docname) is None or not glossary.exists():
            return
        known = terms(glossary.read_text(encoding="utf-8"))
        self.anchors = {plain(term): anchor for anchor, term in known.items()}
        self.pattern = pattern(self.anchors)
        linked = {self.anchors[term] for term in SEVERAL_SENSES & set(self.anchors)}
        for element in list(self.document.findall(nodes.TextElement)):
            join_texts(element)
        for node in list(self.document.findall()):
            if isinstance(node, addnodes.pending_xref) and node.get("reftarget") == GLOSSARY:
                linked.add(node.get("reftargetid"))
            elif isinstance(node, nodes.Text) and is_prose(node):
                node.parent.replace(node, list(self.with_links(str(node), linked)))

    def with_links(self, text, linked):
        """The text in pieces, some of them links, whose anchors it adds to those linked."""
        end = 0
        for found in self.pattern.finditer(text):
            anchor = self.anchors[plain(found[1])]
            if anchor in linked:
                continue
            linked.add(anchor)
            yield nodes.Text(text[end : found.start()])
            yield addnodes.pending_xref(
                "",
                nodes.inline("", found[0], classes=["xref", "myst"]),
                refdomain="doc",
                refdoc=self.env.docname,
                reftarget=GLOSSARY,
                reftargetid=anchor,
                reftype="myst",
                refexplicit=True,
            )
            end = found.end()
        yield nodes.Text(text[end:])


class TellDefinitions(SphinxPostTransform):
    """Gives a link to a term its definition as a title."""

    default_priority = 200
    builders = ("html",)  # on paper and in an e-book nothing can rest on a link

    def run(self, **options):
        if self.env.docname == GLOSSARY or GLOSSARY not in self.env.all_docs:
            return
        page = self.app.builder.get_relative_uri(self.env.docname, GLOSSARY)
        links = [
            (link, link["refuri"].partition("#")[2])
            for link in self.document.findall(nodes.reference)
            if link.get("refuri", "").startswith(f"{page}#")
        ]
        if links:
            texts = definitions(self.env.get_doctree(GLOSSARY))
            for link, anchor in links:
                link["reftitle"] = texts[anchor]


def setup(app):
    app.add_transform(LinkFirstUses)
    app.add_post_transform(TellDefinitions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
