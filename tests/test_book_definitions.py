"""What a chapter defines and the package also has is the same code, docstrings aside.

Compared are syntax trees, so layout and comments do not count.
"""

import ast
from pathlib import Path

import notebooks
import pytest
from notebooks import ROOT

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
CHAPTERS = notebooks.chapters()


def parse(source):
    """The tree of a cell; magics and shell commands are not Python."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    return ast.parse("\n".join(lines))


def definitions(tree):
    """{name: node} of the functions, classes and CONSTANTS at the top level."""
    found = {node.name: node for node in tree.body if isinstance(node, DEFINITIONS)}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name.isupper():
                found[name] = node
    return found


def normal_form(definition):
    """The code that a definition runs: without docstrings, in one layout."""
    definition = ast.parse(ast.unparse(definition)).body[0]
    for node in ast.walk(definition):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(definition)


def first_difference(chapters, packages):
    """Where two definitions part: (the chapter's line, the package's line), None if nowhere."""
    ours, theirs = normal_form(chapters).splitlines(), normal_form(packages).splitlines()
    length = max(len(ours), len(theirs))
    padded = (lines + ["(nothing more)"] * (length - len(lines)) for lines in (ours, theirs))
    return next((pair for pair in zip(*padded, strict=True) if pair[0] != pair[1]), None)


def in_package():
    """{name: [(module, node), …]} of all that the package's modules define."""
    found = {}
    for path in sorted((ROOT / "resnet_lib").glob("*.py")):
        for name, node in definitions(ast.parse(path.read_text(encoding="utf-8"))).items():
            found.setdefault(name, []).append((f"resnet_lib.{path.stem}", node))
    return found


def complaints(notebook, package):
    """What differs, or is not declared, among the notebook's definitions.

    A definition that differs from every one of its name in the package is reported with the
    first difference. A definition under the package's name carries the tag ``definition``, and
    that tag stands only where something is defined. A constant is compared where it is tagged: a
    chapter's configuration may have names of its own.
    """
    found = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tagged = "definition" in cell.metadata.get("tags", [])
        defined = definitions(parse(cell.source))
        if not tagged:
            defined = {n: node for n, node in defined.items() if isinstance(node, DEFINITIONS)}
        if tagged and not defined:
            found.append(f"a cell tagged definition defines nothing: {cell.source[:60]}")
        for name in sorted(defined.keys() & package.keys()):
            if not tagged:
                found.append(f"{name} is also in the package: its cell needs the tag definition")
            differences = [(m, first_difference(defined[name], node)) for m, node in package[name]]
            if all(difference for _, difference in differences):
                module, (ours, theirs) = differences[0]
                found.append(f"{name} differs from {module}:\n  - {ours}\n  + {theirs}")
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_definitions_are_the_packages(path):
    found = complaints(notebooks.read(path), in_package())
    assert not found, f"{path.name}: " + "\n".join(found)


# The comparison itself, on a block of the package that is spoiled in small ways.

BLOCKS = Path(ROOT / "resnet_lib" / "blocks.py").read_text(encoding="utf-8")


def block():
    """The source of the package's Bottleneck, with its comments and docstrings."""
    return ast.get_source_segment(BLOCKS, definitions(ast.parse(BLOCKS))["Bottleneck"])


def notebook_with(source, *tags):
    import nbformat

    cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})
    return nbformat.v4.new_notebook(cells=[cell])


def test_the_packages_own_code_is_accepted():
    source = block()
    assert complaints(notebook_with(source, "definition"), in_package()) == []


def test_docstrings_comments_and_layout_do_not_count():
    source = block().replace('    """', '    """Another docstring.\n\n', 1)
    source = source.replace(
        "        super().__init__()", "        # A comment.\n        super().__init__()"
    )
    source = source.replace("(x)))\n", "(x))\n        )\n")
    assert source != block()
    assert complaints(notebook_with(source, "definition"), in_package()) == []


SPOILED = {
    "dropped batch norm": ("self.bn3(self.conv3(x))", "self.conv3(x)"),
    "ReLU before the addition": (
        "self.relu(self.branch(x) + self.downsample(x))",
        "self.relu(self.branch(x)) + self.downsample(x)",
    ),
    "stride in another convolution": ("conv3x3(width, width, stride2)", "conv3x3(width, width)"),
    "another expansion": ("expansion = 4", "expansion = 2"),
    "a layer more": ("x = self.relu(self.bn1(self.conv1(x)))", "x = self.relu(x)\n        x = x"),
    "another default": ("stride: int = 1, stride_in", "stride: int = 2, stride_in"),
}


@pytest.mark.parametrize("old, new", SPOILED.values(), ids=SPOILED)
def test_a_small_difference_is_reported_with_its_line(old, new):
    assert block().count(old) == 1
    spoiled = block().replace(old, new)
    (found,) = complaints(notebook_with(spoiled, "definition"), in_package())
    assert found.startswith("Bottleneck differs from resnet_lib.blocks:")
    # The error quotes both lines, the chapter's and the package's.
    assert new.splitlines()[0].replace(" = ", "=") in found.replace(" = ", "=")
    assert old.replace(" = ", "=") in found.replace(" = ", "=")


def test_a_missing_end_is_reported():
    shorter = block().rpartition("    def forward")[0]
    (found,) = complaints(notebook_with(shorter, "definition"), in_package())
    assert "(nothing more)" in found


def test_an_untagged_definition_is_compared_too():
    spoiled = block().replace("self.bn3(self.conv3(x))", "self.conv3(x)")
    untagged, differs = complaints(notebook_with(spoiled), in_package())
    assert "tag definition" in untagged
    assert "self.conv3(x)" in differs


def test_definitions_of_the_chapter_alone_are_left_alone():
    source = "def only_in_this_chapter(x):\n    return x"
    assert complaints(notebook_with(source), in_package()) == []
    assert complaints(notebook_with(source, "definition"), in_package()) == []


def test_a_tag_without_a_definition_is_reported():
    (found,) = complaints(notebook_with("x = 1", "definition"), in_package())
    assert "defines nothing" in found


def test_constants_are_compared_where_they_are_tagged():
    source = 'DEPTHS = {"resnet50": (Bottleneck, (3, 4, 6, 4))}'
    (found,) = complaints(notebook_with(source, "definition"), in_package())
    assert "DEPTHS differs from resnet_lib.models" in found
    assert complaints(notebook_with(source), in_package()) == []
