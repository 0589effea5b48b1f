"""What differs from one year's sheet to the next.

``{{name}}`` in the text; in the code the line ``VARIANT = number``, and in solutions, where they
go by what is asked, the dictionary ``ASKED``, whose values are written anew for each variant.
"""

import ast
import json
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_lib import UserError
from resnet_lib.assignments.items import Assignment

PLACE = re.compile(r"\{\{([a-z_]\w*)\}\}")
NEARLY = re.compile(r"\{\{|\}\}|(?<!\{)\{[a-z_]\w*\}\}")
SET = re.compile(r"^VARIANT = (\d+)$", re.MULTILINE)
NEARLY_SET = re.compile(r"^.*\bVARIANT\s*(?::[^=\n]*)?=(?!=).*$", re.MULTILINE)
AS_ARGUMENT = re.compile(r"\bvariant=VARIANT\b")
ASKED = re.compile(r"^ASKED = (\{\n(?: {4}.*\n)+\})$", re.MULTILINE)
NEARLY_ASKED = re.compile(r"^.*\bASKED\s*(?::[^=\n]*)?=(?!=)", re.MULTILINE)
OWN = "variants.py"


def values(assignment: Assignment, variant: int, folder: Path) -> dict[str, Any]:
    """What ``{{name}}`` may stand for.

    The assignment's parameters; "points" of all items, "points_ITEM" of one and "points_hidden";
    and what ``placeholders(variant)`` gives in the file variants.py beside the master, for what
    students must not find in the package.
    """
    whole = assignment.with_hidden(folder)
    points = {f"points_{item.name}": f"{item.points:g}" for item in assignment.items}
    points["points"] = f"{whole.points:g}"
    points["points_hidden"] = f"{whole.points - assignment.points:g}"
    own = folder / OWN
    more = runpy.run_path(str(own))["placeholders"](variant) if own.exists() else {}
    return points | assignment.parameters(variant) | more


def fill(text: str, known: Mapping[str, Any], where: str) -> str:
    """The text of a Markdown cell with each ``{{name}}`` replaced."""
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        for name in PLACE.findall(line):
            if name not in known:
                raise UserError(
                    f"{where}, line {number}: {{{{{name}}}}} is not known; there are "
                    f"{', '.join(sorted(known))}"
                )
        if NEARLY.search(PLACE.sub("", line)):
            raise UserError(
                f"{where}, line {number}: {line.strip()!r} has double braces that are no "
                "placeholder: write {{name}} without blanks (and { { in formulas)"
            )
        lines.append(PLACE.sub(lambda found: str(known[found[1]]), line))
    return "\n".join(lines)


def own_variant(sources: list[str]) -> int:
    """The variant that the master's solutions answer, from its one line ``VARIANT = number``."""
    found = [number for source in sources for number in SET.findall(source)]
    for source in sources:
        for line in NEARLY_SET.findall(source):
            if not SET.fullmatch(line) and NEARLY_SET.search(AS_ARGUMENT.sub("", line)):
                raise UserError(f"{line.strip()!r}: write 'VARIANT = number' on a line of its own")
    if len(found) != 1:
        raise UserError(f"the master needs one line 'VARIANT = number', it has {len(found)}")
    return int(found[0])


def set_variant(source: str, variant: int) -> str:
    """The code with that variant."""
    return SET.sub(f"VARIANT = {variant}", source)


def set_asked(source: str, known: Mapping[str, Any], where: str) -> str:
    """The code with what is known of each name in ``ASKED``.

    UserError where the dictionary isn't written as ``set_asked`` writes it, or has a name of which
    nothing is known.
    """

    def written(found: re.Match) -> str:
        try:
            names = list(ast.literal_eval(found[1]))
        except (SyntaxError, ValueError, TypeError):
            names = [""]
        for name in names:
            if name not in known:
                names_known = ", ".join(sorted(known))
                raise UserError(f"{where}: ASKED can't have {name!r}; there are {names_known}")
        values = [f"    {json.dumps(name)}: {json.dumps(known[name])},\n" for name in names]
        return f"ASKED = {{\n{''.join(values)}}}"

    if NEARLY_ASKED.search(ASKED.sub("", source)):
        raise UserError(f"{where}: write ASKED = {{, then a line for each name, then }}")
    return ASKED.sub(written, source)


def without_asked(source: str) -> str:
    """The code without that dictionary: it says what the sheet says, and tells no solution."""
    return ASKED.sub("", source)
