"""The receptive-field explorer, on the page with the heading "Explore the receptive fields".

The notebook stays plain: the explorer is put in behind that heading's cell when the page is read.
Its data are computed here, see ``explorer_data.py``; ``explorer.html`` is its markup, and
``_static/explorer.js`` and ``.css`` go with the pages that have it.
"""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

HEADING = "## Explore the receptive fields"
HERE = Path(__file__).parent
TEMPLATE = "explorer.html"
MARK = 'class="field-explorer"'  # in the pages that have it


def embedded(data):
    """The data as JSON for a script element, which "</" would end."""
    return json.dumps(data, separators=(",", ":")).replace("</", "<\\/")


def markup(data):
    """The explorer as HTML."""
    template = Environment(loader=FileSystemLoader(HERE), autoescape=True).get_template(TEMPLATE)
    return template.render(**data, embedded=embedded(data))


def table(data):
    """Every size and jump in Markdown: for readers without the script, a screen or eyes for it."""
    sides = " and ".join(sorted({f"{picture['size']} px" for picture in data["pictures"]}))
    lines = [
        f"| network | stage | size (px) | jump (px) | units in {sides} |",
        "|---|---|--:|--:|--:|",
    ]
    for network in data["networks"]:
        for version in data["versions"]:
            fields = data["fields"][network["id"]][version["id"]]
            for stage, field in fields.items():
                name = f"{network['title']} {version['id']}"
                units = f"{field['units']} × {field['units']}"
                cells = (name, stage, str(field["size"]), str(field["jump"]), units)
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cells(data):
    """The notebook cells to put in: the explorer where a page can run it, the table everywhere."""
    html = f"````{{raw}} html\n{markup(data)}\n````"
    # More colons than any directive inside could have.
    only = f"::::::::{{only}} builder_html or builder_dirhtml\n\n{html}\n\n::::::::"
    folded = f"::::::::{{dropdown}} All sizes and jumps as a table\n\n{table(data)}\n\n::::::::"
    return [
        {"cell_type": "markdown", "id": identity, "metadata": {}, "source": source}
        for identity, source in (("field-explorer", only), ("field-table", folded))
    ]


def has_heading(cell):
    lines = "".join(cell["source"]).splitlines()
    return cell["cell_type"] == "markdown" and HEADING in lines


def insert(app, docname, source):
    """Change the text of a notebook before it is parsed."""
    if Path(app.env.doc2path(docname)).suffix != ".ipynb" or HEADING not in source[0]:
        return
    notebook = json.loads(source[0])
    places = [index for index, cell in enumerate(notebook["cells"]) if has_heading(cell)]
    if not places:
        return
    import explorer_data  # imports torch, which the other pages do without

    data, files = explorer_data.collect()
    for path in (HERE / TEMPLATE, *files):
        app.env.note_dependency(str(path))
    notebook["cells"][places[0] + 1 : places[0] + 1] = cells(data)
    source[0] = json.dumps(notebook)


def add_files(app, pagename, templatename, context, doctree):
    """The script and the style, on pages with the explorer only."""
    if MARK in context.get("body", ""):
        app.add_css_file("explorer.css")
        app.add_js_file("explorer.js", loading_method="defer")


def setup(app):
    app.connect("source-read", insert)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
