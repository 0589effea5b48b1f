"""What a teacher should look at, found in the syntax tree: nothing here takes marks away."""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Set

from resnet_lib.authoring import author
from resnet_lib.authoring.author import squeezed

# Of the package, what holds the judges; from elsewhere, what reaches around the language.
INNER = ("resnet_lib.assignments", "resnet_lib.grading", "resnet_lib.checks.")
REACHING = ("ctypes", "inspect", "importlib.import_module", "torch.hub", "sys._getframe")
COMPUTED = {"exec", "eval", "__import__", "compile"}
SETTINGS = ("torch.backends", "warnings", "matplotlib", "np.", "numpy")
LONGEST = 80
FEWEST = 12  # lines: short answers to one question are alike anyhow
ALIKE = 0.8  # of one's own lines
COPIED = 0.2  # of the solution's lines; answers of one's own share hardly any


def flags(cells: Iterable[str], variant: int, foreign: tuple[str, ...]) -> list[str]:
    """Why a teacher should look at these cells; empty for an ordinary submission."""
    found: dict[str, None] = {}
    names: dict[str, str] = {}  # what the notebook calls an imported module or object
    asked: list[int] = []
    for cell in cells:
        tree = parse(cell)
        if tree is None:
            continue
        for node in ast.walk(tree):
            names |= dict(imported(node))
        for node in ast.walk(tree):
            found |= dict.fromkeys(of_node(node, names, foreign))
            asked += variants(node)
    if asked and asked[-1] != variant:
        found[f"answers variant {asked[-1]}, graded as variant {variant}"] = None
    return list(found)


def parse(cell: str) -> ast.AST | None:
    """The cell's tree without lines for Jupyter; None if it isn't Python even then."""
    plain = re.sub(r"^(\s*)(?:\w+\s*=\s*)?[%!].*$", r"\1pass", cell, flags=re.MULTILINE)
    try:
        return ast.parse(plain)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """(name in the notebook, full name) of everything that a statement imports."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                yield alias.asname, alias.name
            else:
                root = alias.name.partition(".")[0]
                yield root, root
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def full_name(node: ast.AST, names: dict[str, str]) -> str:
    """``tv.models.resnet`` as ``torchvision.models.resnet``; empty where it isn't imported."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join([names[node.id], *reversed(parts)])


def within(name: str, modules: Iterable[str]) -> bool:
    """Whether the name is one of the modules, or inside one."""
    return any(name == module.rstrip(".") or name.startswith(f"{module.rstrip('.')}.")
               for module in modules)  # fmt: skip


def of_node(node: ast.AST, names: dict[str, str], foreign: tuple[str, ...]) -> Iterator[str]:
    """The flags of one node."""
    used = []
    if isinstance(node, ast.Import):
        used = [alias.name for alias in node.names]
    elif isinstance(node, (ast.ImportFrom, ast.Attribute)):
        used = [full for _, full in imported(node)] or [full_name(node, names)]
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            used = [node.module or ""]
    for name in used:
        inner = within(name, INNER[:2]) or (
            name.startswith(INNER[2]) and not name.rpartition(".")[2].startswith("check_")
        )
        if within(name, (*foreign, *REACHING)) or inner:
            yield f"uses {module_of(name, (*foreign, *REACHING, *INNER))}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COMPUTED:
        yield f"calls {node.func.id}"
    for target in targets(node):
        name = full_name(target, names) if isinstance(target, ast.Attribute) else ""
        if name and not name.startswith(SETTINGS):
            yield f"replaces {name[:LONGEST]}"


def module_of(name: str, modules: Iterable[str]) -> str:
    """The module of the list that the name is in, so that one flag covers all its names."""
    inside = [module.rstrip(".") for module in modules if within(name, (module,))]
    return max(inside, key=len, default=name)


def targets(node: ast.AST) -> list[ast.AST]:
    """What a statement assigns to."""
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, (ast.AugAssign, ast.AnnAssign)) else []


def answering(cells: Iterable[str], names: Set[str]) -> set[int]:
    """The cells that define one of these names."""
    found = set()
    for number, cell in enumerate(cells):
        for node in ast.walk(parse(cell) or ast.Module()):
            defined = {target.id for target in targets(node) if isinstance(target, ast.Name)}
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                defined.add(node.name)
            if defined & names:
                found.add(number)
    return found


def variants(node: ast.AST) -> list[int]:
    """The number of a statement ``VARIANT = 3``."""
    named = [t.id for t in targets(node) if isinstance(t, ast.Name)]
    value = getattr(node, "value", None)
    if "VARIANT" in named and isinstance(value, ast.Constant) and type(value.value) is int:
        return [value.value]
    return []


def of_solution(cells: Iterable[str], published: Set[str]) -> list[str]:
    """A flag where a notebook has most lines of the solution that comes with the book."""
    lines = {squeezed(line) for cell in cells for line in cell.splitlines()}
    shared = len(lines & published)
    if not published or shared < COPIED * len(published):
        return []
    return [f"has {shared} of the {len(published)} lines of the book's own solution"]


def telling_lines(cells: Iterable[str], sheet: Set[str] | None) -> frozenset[str]:
    """Lines that say something by themselves, without those of the sheet; none without a sheet."""
    if sheet is None:
        return frozenset()
    return frozenset(author.telling(line) for cell in cells for line in cell.splitlines()) - {
        "",
        *sheet,
    }


def alike(own: Mapping[str, Set[str]]) -> dict[str, str]:
    """{submission: flag} of pairs of which one has most of its own lines in the other, too.

    The flag names the submission that has most of them, and how many others there are.
    """
    found: dict[str, list[tuple[int, str]]] = {}
    for one, other in itertools.combinations(sorted(own), 2):
        shared = len(own[one] & own[other])
        if shared >= max(FEWEST, ALIKE * min(len(own[one]), len(own[other]))):
            found.setdefault(one, []).append((-shared, other))
            found.setdefault(other, []).append((-shared, one))
    flags = {}
    for name, others in found.items():
        shared, whose = min(others)
        more = f" and many with {len(others) - 1} more" if len(others) > 1 else ""
        flags[name] = f"shares {-shared} of its {len(own[name])} own lines with {whose}{more}"
    return flags


def of_origins(origins: Iterable[str], foreign: tuple[str, ...]) -> list[str]:
    """Flags for the modules that an answer's class comes from, as its process reports them."""
    return [f"an answer comes from {name[:LONGEST]}" for name in origins if within(name, foreign)]
