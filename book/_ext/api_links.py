"""Link names of the package to the API reference, on the pages only.

A name in code style leads there where a page uses it first: ``explain.grad_cam`` and
``resnet_lib.explain`` everywhere, and ``BasicBlock`` alone on the page of the chapter whose code
defines or imports it. The notebooks stay plain.
"""

import ast
import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

PACKAGE = "resnet_lib"
OTHERS = r"(collections|contextlib|keras|matplotlib|numpy|pathlib|torch)\..*"  # not on these pages
UNWRITTEN = re.compile(r"<(?:function )?(\w+)[^>]*>")  # a default that is no Python as it prints
NAME = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(.*\))?", re.DOTALL)


def own_names(codes):
    """{name: full name or None} that code defines (None) or imports from the package."""
    found = {}
    for code in codes:
        try:
            tree = ast.parse(code)
        except SyntaxError:  # a fragment, or a shell's command
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.setdefault(node.name, None)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def target(text, known, own):
    """The full name that a piece of inline code means, None where it is not the package's.

    known: the full names in the reference; own: what the page's code defines or imports.
    """
    match = NAME.fullmatch(text)
    if not match:
        return None
    name = match[1]
    first, _, rest = name.partition(".")
    if first in own:
        full = own[first]
        if full is None:
            same = [one for one in known if one.endswith(f".{first}")]
            full = same[0] if len(same) == 1 else ""
        name = f"{full}.{rest}" if rest else full
        return name if name in known else None
    if first != PACKAGE and rest:
        name = f"{PACKAGE}.{name}"
    return name if "." in name and name in known else None


class LinkNames(SphinxPostTransform):
    """Turns the first use of each name into a link."""

    default_priority = 100

    def run(self, **options):
        objects = self.env.get_domain("py").objects
        known = {name: entry for name, entry in objects.items() if name.startswith(PACKAGE)}
        here = self.env.docname
        if not known or here in {entry.docname for entry in known.values()}:
            return
        # Of the cells: a solution may define a name that means something else in the package.
        blocks = self.document.findall(nodes.literal_block)
        own = own_names(block.astext() for block in blocks if in_cell(block))
        seen = set()
        for literal in list(self.document.findall(nodes.literal)):
            full = target(literal.astext(), known, own)
            # Not in a heading, which the contents repeat, and not within a link.
            if full is None or full in seen or within(literal, nodes.reference, nodes.title):
                continue
            seen.add(full)
            entry = known[full]
            link = make_refnode(
                self.app.builder, here, entry.docname, entry.node_id, literal.deepcopy(), full
            )
            literal.replace_self(link)


def in_cell(node):
    """Whether a block of code is a cell's, and not one of the text."""
    while node is not None and "cell_input" not in node.get("classes", ()):
        node = node.parent
    return node is not None


def within(node, *kinds):
    """Whether one of the nodes around it is of these kinds."""
    while node is not None:
        if isinstance(node, kinds):
            return True
        node = node.parent
    return False


def check_references(app, config):
    """Warn where a docstring or a signature names what the reference lacks."""
    config.nitpicky = True
    config.nitpick_ignore_regex = [("py:.*", OTHERS)]  # tuples, which no YAML file can hold


def readable(app, what, name, thing, options, arguments, returns):
    """Arguments that Sphinx can read: else it shows a signature raw, with all modules' names."""

    def written(found):
        return "..." if found[1] == "factory" else found[1]

    return arguments and UNWRITTEN.sub(written, arguments), returns


def setup(app):
    app.connect("autodoc-process-signature", readable)
    app.connect("config-inited", check_references)
    app.add_post_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
