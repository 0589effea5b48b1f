"""The rules for notebooks, one function a rule, each shown here to notice what it forbids."""

import ast
import copy
import itertools
import json
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

import nbformat
import notebooks
import pytest
import self_tests
import yaml
from notebooks import ROOT
from pybtex.database import parse_file

BOOK = ROOT / "book"
CHAPTERS = notebooks.chapters()

LONGEST, LONGEST_DEFINITION, LONGEST_MEDIAN = 20, 40, 8  # lines of a code cell
LARGEST_OUTPUT = 100_000  # bytes
MIME_TYPES = {"text/plain", "text/html", "text/latex", "text/markdown", "image/png"}
# Paths, and addresses of objects, differ from machine to machine and from run to run.
FOREIGN = re.compile(
    r"(?<![\w.~/])/(?:tmp|home|root|work|Users|var|private|usr|opt)/|[A-Z]:\\|site-packages"
    r"|\bat 0x[0-9a-f]{6,}|\bipykernel_\d+"
)
CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
DIRECTIVE = re.compile(r"^\s*(?:`{3,}|:{3,})\{|\{[a-z:]+\}`|^:{3,}", re.MULTILINE)
RAW_HTML = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>")
MATH = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
ENDING = ["## Recap", self_tests.HEADING, "## Exercises", "## Where to read on"]
EXERCISE = re.compile(
    r"### Exercise (\d+)\.(\d+): \S.*\n\n?\*(?:Easy|Medium|Hard), about \d+ minutes\.\*"
)


@dataclass
class Chapter:
    """A notebook and its file's name without the ending, such as 06_residual_block."""

    stem: str
    notebook: nbformat.NotebookNode

    @property
    def number(self):
        return int(self.stem.partition("_")[0])

    @property
    def code(self):
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def prose(self):
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @property
    def outputs(self):
        return [output for cell in self.code for output in cell.outputs]


def tags(cell):
    return cell.metadata.get("tags", [])


def first_line(cell):
    return (cell.source.splitlines() or ["(empty)"])[0]


def without_code(text):
    return CODE.sub("", text)


def is_tidy(chapter):
    """As ``tools/notebooks.py`` writes it: no timings, no editor's metadata, lasting ids."""
    tidy = notebooks.normalise(copy.deepcopy(chapter.notebook))
    if nbformat.writes(tidy) != nbformat.writes(chapter.notebook):
        return ["metadata or ids differ from what `make notebooks` writes"]
    return []


def is_executed(chapter):
    """Executed from top to bottom in a fresh kernel, no cell stripped or left out."""
    counts = [cell.execution_count for cell in chapter.code]
    if counts != list(range(1, len(counts) + 1)):
        return [f"execution counts are {counts}, not 1 to {len(counts)}"]
    return []


def has_title(chapter):
    """A title with the chapter's number, its question, and what it takes."""
    source = chapter.notebook.cells[0].source if chapter.notebook.cells else ""
    found = []
    if not re.match(rf"# {chapter.number}\. \S", source):
        found.append(f"the first cell does not start with '# {chapter.number}. '")
    if not re.search(
        r"\*\*Time\*\*\s.+\s·\s\*\*You need\*\*\s.+\s·\s\*\*You build\*\*\s\S", source, re.DOTALL
    ):
        found.append(
            "the first cell has no paragraph **Time** … · **You need** … · **You build** …"
        )
    return found


def has_setup(chapter):
    """The one set-up cell second, the imports and the configuration third."""
    cells = chapter.notebook.cells
    found = []
    source = notebooks.setup_source(notebooks.repository())
    if len(cells) < 2 or (cells[1].source, cells[1].metadata) != (source, notebooks.SETUP_METADATA):
        found.append("the second cell is not the set-up cell: run tools/notebooks.py setup")
    if len(cells) < 3 or cells[2].cell_type != "code" or "import " not in cells[2].source:
        found.append("the third cell is not code with the imports and the configuration")
    return found


def is_short(chapter):
    """Cells that fit a screen."""
    found, lengths = [], [len(cell.source.splitlines()) for cell in chapter.code]
    for cell, length in zip(chapter.code, lengths, strict=True):
        limit = LONGEST_DEFINITION if "definition" in tags(cell) else LONGEST
        if length > limit:
            found.append(f"{length} lines of code, more than {limit}: {first_line(cell)}")
    if lengths and statistics.median(lengths) > LONGEST_MEDIAN:
        found.append(f"half of the code cells have more than {LONGEST_MEDIAN} lines")
    return found


def is_quiet(chapter):
    """No warnings or progress bars, and no error that was not announced."""
    found = ["output on stderr" for output in chapter.outputs if output.get("name") == "stderr"]
    for cell in chapter.code:
        failed = any(output.output_type == "error" for output in cell.outputs)
        if failed and "raises-exception" not in tags(cell):
            found.append(f"an error without the tag raises-exception: {first_line(cell)}")
    return found


def is_portable(chapter):
    """Nothing that belongs to the machine on which the chapter ran."""
    texts = [cell.source for cell in chapter.notebook.cells]
    for output in chapter.outputs:
        texts += [output.get("text", ""), *output.get("traceback", [])]
        texts += [text for mime, text in output.get("data", {}).items() if mime != "image/png"]
    return [f"{match[0]!r} belongs to one machine" for t in texts if (match := FOREIGN.search(t))]


def has_small_outputs(chapter):
    sizes = [len(json.dumps(output)) for output in chapter.outputs]
    return [f"an output of {size:,} bytes" for size in sizes if size > LARGEST_OUTPUT]


def has_plain_outputs(chapter):
    """No SVG, whose text nbval compares; no widgets, whose scripts are on another host."""
    shown = {mime for output in chapter.outputs for mime in output.get("data", {})}
    return [f"an output of type {mime}" for mime in sorted(shown - MIME_TYPES)]


def has_described_figures(chapter):
    """Alternative text, a caption and a name for each figure, one figure a cell."""
    found = []
    for cell in chapter.code:
        images = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        if not images:
            continue
        settings = cell.metadata.get("mystnb", {})
        figure = settings.get("figure", {})
        if len(images) > 1:
            found.append(f"{len(images)} figures in one cell: {first_line(cell)}")
        if len(settings.get("image", {}).get("alt", "").split()) < 3:
            found.append(f"a figure without alternative text: {first_line(cell)}")
        if not figure.get("caption", "").strip():
            found.append(f"a figure without a caption: {first_line(cell)}")
        if not figure.get("name", "").startswith(f"fig-{chapter.number:02}-"):
            found.append(f"a figure's name must start with fig-{chapter.number:02}-")
    return found


def asserts(source):
    """Whether this code asserts something itself, or calls a function that does."""
    lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name.startswith(("assert_", "check_")):
                return True
    return False


def asserts_what_it_ignores(chapter):
    """What nbval does not compare is followed by an assertion on what matters about it."""
    found = []
    waiting = []
    for cell in chapter.code:
        if "nbval-ignore-output" in tags(cell):
            waiting.append(cell)
        elif waiting:
            found += [] if asserts(cell.source) else map(first_line, waiting)
            waiting = []
    found += map(first_line, waiting)
    return [f"no assertion in the cell after the ignored output: {line}" for line in found]


def skips_nothing(chapter):
    """Every cell runs under nbval, and marks stand in tags, where readers don't see them."""
    found = []
    for cell in chapter.code:
        if {"nbval-skip", "skip-execution"} & set(tags(cell)):
            found.append(f"a skipped cell: {first_line(cell)}")
        if re.search(r"^\s*#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source, re.MULTILINE):
            found.append(f"a mark for nbval as a comment, not as a tag: {first_line(cell)}")
    return found


def has_ending(chapter):
    """A recap, a self-test, four to six exercises, each in its cell, and where to read on."""
    found = []
    sources = [cell.source for cell in chapter.prose]
    headings = [line for source in sources for line in re.findall(r"^## .+$", source, re.MULTILINE)]
    if headings[-4:] != ENDING:
        return ["does not end with Recap, Self-test, Exercises and Where to read on"]
    firsts = [first_line(cell) for cell in chapter.prose]
    if not set(ENDING) <= set(firsts):
        return ["Recap, Self-test, Exercises and Where to read on do not each begin a cell"]
    recap, _, start, end = (firsts.index(heading) for heading in ENDING)
    if "You can now" not in sources[recap]:
        found.append("the recap does not say 'You can now'")
    exercises = [source for source in sources[start + 1 : end] if source.startswith("### ")]
    if not 4 <= len(exercises) <= 6:
        found.append(f"{len(exercises)} exercises, not 4 to 6")
    for index, source in enumerate(exercises, 1):
        match = EXERCISE.match(source)
        if not match or (int(match[1]), int(match[2])) != (chapter.number, index):
            heading = f"### Exercise {chapter.number}.{index}: title"
            found.append(
                f"an exercise does not start with '{heading}' and its level: {source[:50]}"
            )
        elif len(source[match.end() :].split()) < 5:
            found.append(f"exercise {chapter.number}.{index} has no task")
    if any("### Exercise" in source for source in sources[:start] + sources[end:]):
        found.append("an exercise outside the section Exercises")
    if any(source.count("### Exercise") > 1 for source in sources):
        found.append("two exercises in one cell")
    return found


def has_self_test(chapter):
    """Five to eight questions in one format, each in its cell, under the common introduction."""
    sources = [cell.source for cell in chapter.prose]
    if self_tests.INTRODUCTION not in sources:
        return ["no cell with the heading and the introduction that all self-tests share"]
    start = sources.index(self_tests.INTRODUCTION) + 1
    section = list(itertools.takewhile(lambda source: source != "## Exercises", sources[start:]))
    found = []
    if not 5 <= len(section) <= 8:
        found.append(f"{len(section)} cells in the self-test, not 5 to 8 questions")
    for index, source in enumerate(section, 1):
        try:
            question = self_tests.parse(source)
        except self_tests.SelfTestError as error:
            found.append(str(error))
            continue
        if (question.chapter, question.number) != (chapter.number, index):
            found.append(f"question {question.name} should be {chapter.number}.{index}")
        for option in question.options:
            if len(option.reason.split()) < 5:
                found.append(f"question {question.name}, option {option.letter}: no explanation")
    if any(map(self_tests.is_question, [s for s in sources if s not in section])):
        found.append("a question outside the section Self-test")
    return found


def is_plain_markdown(chapter):
    """Colab shows directives and roles raw; raw HTML is neither portable nor translated.

    A question of the self-test has the tags that let its options open, and no others.
    """
    found = []
    for cell in chapter.prose:
        source = cell.source
        if match := DIRECTIVE.search(source):
            found.append(f"a directive or role: {match[0].strip()}")
        if source.startswith("### Question "):
            source = self_tests.without_tags(source)
        if match := RAW_HTML.search(MATH.sub("", without_code(source))):
            found.append(f"raw HTML: {match[0]}")
    return found


def links(chapter):
    """The targets of the links in the prose, code aside."""
    return [target for cell in chapter.prose for target in LINK.findall(without_code(cell.source))]


def dois(text):
    found = re.findall(r"doi\.org/([^\s)}\]\"]+)", text) + re.findall(r"doi = \{([^}]+)\}", text)
    return {doi.lower().rstrip(".,") for doi in found}


def cites_known_sources(chapter):
    """Papers by DOI, each of them in references.bib."""
    known = dois((BOOK / "references.bib").read_text(encoding="utf-8"))
    cited = dois(" ".join(links(chapter)))
    found = [f"{doi} is not in references.bib" for doi in sorted(cited - known)]
    found += [f"link by DOI instead: {link}" for link in links(chapter) if "arxiv.org/" in link]
    return found


def slug(heading):
    """The anchor that MyST gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def glossary():
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    return re.findall(r"^## (.+)$", text, re.MULTILINE)


def links_resolve(chapter):
    """Terms that the glossary has, pages that exist."""
    found, anchors = [], {slug(term) for term in glossary()}
    for target in links(chapter):
        page, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not page:
            continue
        if not (BOOK / page).is_file():
            found.append(f"a link to {page}, which does not exist")
        elif page == "glossary.md" and anchor not in anchors:
            found.append(f"the glossary has no term {anchor!r}")
    return found


RULES = (
    is_tidy,
    is_executed,
    has_title,
    has_setup,
    is_short,
    is_quiet,
    is_portable,
    has_small_outputs,
    has_plain_outputs,
    has_described_figures,
    asserts_what_it_ignores,
    skips_nothing,
    has_ending,
    has_self_test,
    is_plain_markdown,
    cites_known_sources,
    links_resolve,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_keeps_the_rules(path, rule):
    complaints = rule(Chapter(path.stem, notebooks.read(path)))
    assert not complaints, f"{path.name}: " + "\n".join(complaints)


# Each rule against a notebook that breaks it.


def code(source, *outputs, **metadata):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def prose(source):
    return nbformat.v4.new_markdown_cell(source)


def output(mime, text):
    return nbformat.v4.new_output("display_data", {mime: text})


def printed(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


FIGURE = {
    "image": {"alt": "A line that rises"},
    "figure": {"name": "fig-06-line", "caption": "A line rises."},
}


def exercise(number):
    return prose(
        f"### Exercise 6.{number}: A title\n*Easy, about 5 minutes.*\n\nShow this, then that one."
    )


def question(number):
    options = (("A", "One", False), ("B", "`x < 2`", True), ("C", "Three", False))
    options = [self_tests.Option(*option, "Since it is what it is.") for option in options]
    return prose(self_tests.write(self_tests.Question(6, number, "Why $a < b$?", tuple(options))))


# Folders of a machine, in pieces, since no file of the project may name one.
HOME, SCRATCH, ADMIN = (f"/{name}/" for name in ("home", "tmp", "root"))


def good():
    """A small chapter that breaks no rule."""
    cells = [
        prose("# 6. A chapter\n\nWhy?\n\n**Time** one hour · **You need** it · **You build** it."),
        code(notebooks.setup_source(notebooks.repository()), **notebooks.SETUP_METADATA),
        code("import math"),
        prose(
            "See [He](https://doi.org/10.48550/arXiv.1512.03385), the [stride](glossary.md#stride)"
            " and [the front page](index.md): $a < b > c$, `<b>`."
        ),
        code("def double(x):\n    return 2 * x", tags=["definition"]),
        code("print(double(2))", printed("4\n")),
        code("figure", output("image/png", "iVBO"), tags=["nbval-ignore-output"], mystnb=FIGURE),
        code("assert double(3) == 6"),
        prose("## Recap\n\nYou can now double."),
        prose(self_tests.INTRODUCTION),
        *map(question, range(1, 6)),
        prose("## Exercises"),
        *map(exercise, range(1, 5)),
        prose("## Where to read on\n\nElsewhere."),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for count, cell in enumerate((c for c in cells if c.cell_type == "code"), 1):
        cell.execution_count = count
    return Chapter("06_chapter", notebooks.normalise(notebook))


def cell_with(chapter, text):
    return next(cell for cell in chapter.notebook.cells if text in cell.source)


def change(text, new):
    """Replace the text in the cell that has it."""

    def spoil(chapter):
        cell = cell_with(chapter, text)
        cell.source = cell.source.replace(text, new)

    return spoil


def drop(text):
    return lambda chapter: chapter.notebook.cells.remove(cell_with(chapter, text))


def put(*outputs, into="print"):
    return lambda chapter: cell_with(chapter, into).outputs.extend(outputs)


def tag(name, on="print"):
    return lambda chapter: cell_with(chapter, on).metadata.update(tags=[name])


def strip(chapter):
    for cell in chapter.code:
        cell.outputs, cell.execution_count = [], None


def strip_one(chapter):
    cell_with(chapter, "print").execution_count = None


def time_stamp(chapter):
    cell_with(chapter, "print").metadata["execution"] = {"iopub.execute_input": "2026"}


def new_id(chapter):
    chapter.notebook.cells[3].id = "abc"


def lengthen(chapter):
    for cell in chapter.code:
        cell.source = cell.source + "\n#" * 9


def second_figure(chapter):
    cell = cell_with(chapter, "figure")
    cell.outputs *= 2


def without(*keys):
    """Remove one of the figure's settings."""

    def spoil(chapter):
        settings = cell_with(chapter, "figure").metadata.mystnb
        for key in keys[:-1]:
            settings = settings[key]
        del settings[keys[-1]]

    return spoil


def rename_figure(chapter):
    cell_with(chapter, "figure").metadata.mystnb.figure.name = "line"


def move_assertion_up(chapter):
    cells = chapter.notebook.cells
    cells.remove(cell := cell_with(chapter, "assert double"))
    cells.insert(4, cell)


def renumber(chapter):
    cell = cell_with(chapter, "### Question 6.2")
    cell.source = cell.source.replace("6.2", "6.3")


def move_question(chapter):
    cells = chapter.notebook.cells
    cells.remove(cell := cell_with(chapter, "### Question 6.5"))
    cells.insert(4, cell)


def nine_questions(chapter):
    cells = chapter.notebook.cells
    at = cells.index(cell_with(chapter, "## Exercises"))
    cells[at:at] = map(question, range(6, 10))


def merge_exercises(chapter):
    cell_with(chapter, "6.1").source += "\n\n" + cell_with(chapter, "6.2").source
    drop("### Exercise 6.2: A title\n*Easy, about 5 minutes.*\n\nShow this, then that one.")(
        chapter
    )


def seven_exercises(chapter):
    cells = chapter.notebook.cells
    cells[-1:-1] = [exercise(5), exercise(6), exercise(7)]


SPOILED = [
    (is_tidy, time_stamp),
    (is_tidy, new_id),
    (is_executed, strip),
    (is_executed, strip_one),
    (has_title, change("# 6. A", "# A")),
    (has_title, change("# 6. A", "# 7. A")),
    (has_title, change("**You build** it.", "")),
    (has_setup, change("-qq", "-q")),
    (has_setup, tag("hide-cell", on="find_spec")),
    (has_setup, drop("find_spec")),
    (has_setup, drop("import math")),
    (is_short, change("import math", "import math\n" + "x = 1\n" * 20)),
    (is_short, change("    return 2", "    x = 1\n" * 39 + "    return 2")),
    (is_short, lengthen),
    (is_quiet, put(printed("bar", "stderr"))),
    (is_quiet, put(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]))),
    (is_portable, change("print(", f"open('{HOME}me/x'); print(")),
    (is_portable, put(printed(f"saved in {SCRATCH}x\n"))),
    (is_portable, put(output("text/plain", "<object at 0x7f9a1a327010>"))),
    (is_portable, change("Elsewhere.", f"In `{ADMIN}book`.")),
    (has_small_outputs, put(output("image/png", "a" * 100_001))),
    (has_plain_outputs, put(output("image/svg+xml", "<svg/>"))),
    (has_plain_outputs, put(output("application/vnd.jupyter.widget-view+json", "{}"))),
    (has_described_figures, second_figure),
    (has_described_figures, without("image")),
    (has_described_figures, without("image", "alt")),
    (has_described_figures, without("figure", "caption")),
    (has_described_figures, rename_figure),
    (asserts_what_it_ignores, change("assert double(3) == 6", "double(3)")),
    (asserts_what_it_ignores, drop("assert double(3) == 6")),
    (asserts_what_it_ignores, move_assertion_up),
    (asserts_what_it_ignores, tag("nbval-ignore-output", on="assert")),
    (skips_nothing, tag("nbval-skip")),
    (skips_nothing, change("print(", "# NBVAL_IGNORE_OUTPUT\nprint(")),
    (has_ending, drop("## Recap")),
    (has_ending, change("You can now", "It is said to")),
    (has_ending, drop("### Exercise 6.4")),
    (has_ending, drop("### Exercise 6.2")),
    (has_ending, seven_exercises),
    (has_ending, merge_exercises),
    (has_ending, change("*Easy, about 5 minutes.*", "Easy")),
    (has_ending, change("Show this, then that one.", "")),
    (has_ending, drop("## Where to read on")),
    (has_ending, change("## Recap", "Before.\n\n## Recap")),
    (has_ending, change("## Where", "## More\n\n## Where")),
    (has_ending, drop("## Self-test")),
    (has_ending, change("## Self-test", "## Test yourself")),
    (has_self_test, drop("## Self-test")),
    (has_self_test, change("Which answer would you give?", "Choose.")),
    (has_self_test, drop("### Question 6.5")),
    (has_self_test, nine_questions),
    (has_self_test, renumber),
    (has_self_test, move_question),
    (has_self_test, change("Since it is what it is.", "No.")),
    (has_self_test, change("**Right.**", "**Not quite.**")),
    (has_self_test, change("You can now double.", "<details><summary>x</summary></details>")),
    (is_plain_markdown, change("<details><summary>A. One", "<b>Bold</b>\n\n<details><summary>A.")),
    (is_plain_markdown, change("A. One", "A. <b>One</b>")),
    (is_plain_markdown, change("You can now double.", "<details>")),
    (is_plain_markdown, change("Elsewhere.", "```{note}\nElsewhere.\n```")),
    (is_plain_markdown, change("Elsewhere.", ":::{note}\nElsewhere.\n:::")),
    (is_plain_markdown, change("Elsewhere.", "See {cite}`he2015deep`.")),
    (is_plain_markdown, change("Elsewhere.", "<br>Elsewhere.")),
    (cites_known_sources, change("1512.03385", "9912.03385")),
    (cites_known_sources, change("https://doi.org/10.48550/arXiv.", "https://arxiv.org/abs/")),
    (links_resolve, change("#stride", "#strides")),
    (links_resolve, change("index.md", "no_page.ipynb")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_good_notebook_breaks_no_rule(rule):
    assert rule(good()) == []


@pytest.mark.parametrize("rule, spoil", SPOILED, ids=lambda item: item.__name__)
def test_rule_notices(rule, spoil):
    chapter = good()
    spoil(chapter)
    assert rule(chapter)


def test_every_rule_was_seen_to_notice_something():
    assert {rule for rule, _ in SPOILED} == set(RULES)


# The book as a whole.


def test_every_chapter_is_in_the_table_of_contents_and_every_entry_exists():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"], *(page["file"] for part in toc["parts"] for page in part["chapters"])]
    pages = [path for path in BOOK.iterdir() if path.suffix in {".ipynb", ".md"}]
    # The guide is at home elsewhere, and Sphinx writes the index at the root.
    elsewhere = ["coursework/README", "genindex"]
    assert sorted(listed) == sorted([*elsewhere, *(f"book/{path.stem}" for path in pages)])


def test_chapters_are_in_order():
    numbers = [Chapter(path.stem, None).number for path in CHAPTERS]
    assert numbers == sorted(numbers)
    assert len(numbers) == len(set(numbers))


def test_figures_have_different_names():
    names = [
        cell.metadata["mystnb"]["figure"]["name"]
        for path in CHAPTERS
        for cell in notebooks.read(path).cells
        if "figure" in cell.metadata.get("mystnb", {})
    ]
    assert len(names) == len(set(names)), sorted(n for n in set(names) if names.count(n) > 1)


def test_references_have_an_address_and_no_two_have_the_same():
    entries = parse_file(str(BOOK / "references.bib")).entries
    addresses = [entry.fields.get("doi") or entry.fields["url"] for entry in entries.values()]
    assert len(addresses) == len(set(map(str.lower, addresses))) > 0
    for key, entry in entries.items():
        assert entry.persons.get("author") and entry.fields["title"], key
        assert re.fullmatch(r"\d{4}", entry.fields["year"]), key


def test_glossary_is_alphabetical_and_defines_every_term():
    terms = glossary()
    assert terms == sorted(terms, key=str.lower)
    assert len({slug(term) for term in terms}) == len(terms) > 0
    text = (BOOK / "glossary.md").read_text(encoding="utf-8")
    for term, definition in re.findall(r"^## (.+)\n\n(.*)$", text, re.MULTILINE):
        assert len(definition.split()) >= 4, term
    assert len(re.findall(r"^## .+\n\n\S", text, re.MULTILINE)) == len(terms)


def test_exercises_and_solutions_belong_together():
    from solutions import EXERCISE as HEADING
    from solutions import read as read_solutions

    assert CHAPTERS
    for path in CHAPTERS:
        found = (HEADING.match(cell.source) for cell in notebooks.read(path).cells)
        exercises = [match[1] for match in found if match]
        solved = read_solutions(BOOK / "solutions" / f"{path.stem}.md")
        assert list(solved) == exercises, path.name
    stems = {path.stem for path in CHAPTERS}
    assert {Path(path).stem for path in (BOOK / "solutions").glob("*.md")} == stems
