"""The assignments: what is asked, collected and judged; their solutions are not in the package.

``find("a2")`` loads the module a2, which defines ASSIGNMENT.
"""

import importlib
import pkgutil
import re
import runpy
from pathlib import Path

from resnet_lib import UserError
from resnet_lib.assignments.items import Assignment


def names() -> list[str]:
    """The assignments of the book, in order."""
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted((name for name in found if re.fullmatch(r"a\d+", name)), key=lambda n: int(n[1:]))


def find(name: str) -> Assignment:
    """The assignment of that name, or the ASSIGNMENT that a Python file of yours defines."""
    if name in names():
        return importlib.import_module(f"{__name__}.{name}").ASSIGNMENT
    if not name.endswith(".py"):
        raise UserError(
            f"assignment must be one of {', '.join(names())}, or a .py file; got {name!r}"
        )
    if not Path(name).is_file():
        raise UserError(f"no file {name}: it should define ASSIGNMENT")
    assignment = runpy.run_path(name).get("ASSIGNMENT")
    if not isinstance(assignment, Assignment):
        raise UserError(f"{name} does not define ASSIGNMENT, an Assignment of resnet_lib")
    return assignment
