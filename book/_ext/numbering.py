"""Numbers of figures and equations by chapter, such as Fig. 6.2 and (3.1).

The chapters' titles begin with their numbers, so Sphinx's own section numbers, which count pages,
would contradict them. Every displayed formula gets a number and an anchor.
"""

import re

from docutils import nodes
from sphinx.transforms import SphinxTransform

CHAPTER = re.compile(r"(?:.*/)?(\d+)_\w+")


def chapter_number(docname):
    """The number of the chapter in that file, None for another page."""
    found = CHAPTER.fullmatch(docname)
    return int(found[1]) if found else None


class NumberEquations(SphinxTransform):
    """Gives each displayed formula a label and an anchor, as a label in its source would."""

    default_priority = 840

    def apply(self, **options):
        number = chapter_number(self.env.docname)
        if number is None:
            return
        formulas = [one for one in self.document.findall(nodes.math_block) if not one.get("label")]
        for count, formula in enumerate(formulas, 1):
            label = f"{number}-{count}"
            formula["label"], formula["docname"] = label, self.env.docname
            formula["number"] = f"{number}.{count}"
            formula["ids"] = [f"equation-{label}"]


def number(app, env):
    """Count figures and formulas anew in each chapter, and figures through the other pages."""
    other = 0
    for docname, kinds in env.toc_fignumbers.items():
        chapter = chapter_number(docname)
        for kind, numbers in kinds.items():
            if chapter is not None:
                kinds[kind] = {name: (chapter, at) for at, name in enumerate(numbers, 1)}
            elif kind == "figure":
                kinds[kind] = {name: (other + at,) for at, name in enumerate(numbers, 1)}
                other += len(numbers)
    return list(env.toc_fignumbers)


def setup(app):
    app.add_transform(NumberEquations)
    # After Sphinx has numbered them.
    app.connect("env-get-updated", number, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
