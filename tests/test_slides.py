"""The slides: complete, from the chapters' own material, and refused where they don't fit them."""

import copy
import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
import self_tests
import slides
import yaml
from notebooks import ROOT

PARTS = slides.parts()
CHAPTERS = {path.stem: slides.read_chapter(path) for paths in PARTS.values() for path in paths}
CHOSEN = {
    part: yaml.safe_load(slides.selection(part).read_text(encoding="utf-8")) for part in PARTS
}
ENTRIES = [
    (stem, entry)
    for chosen in CHOSEN.values()
    for stem, chapter in chosen.items()
    for entry in chapter["slides"]
]
LOADING = {"src", "srcset", "data", "poster", "href"}


class Show(HTMLParser):
    """What a slide show has: sections, notes by section, images, what it loads, its scripts."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.notes, self.images, self.loads, self.raw = [], [], [], [], []
        self.within = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "section":
            self.sections.append(attributes.get("class", ""))
            self.notes.append("")
        if tag == "img":
            self.images.append(attributes)
        if tag != "a":
            self.loads += [attributes[name] for name in LOADING & set(attributes)]
        if tag in {"aside", "script", "style"}:
            self.within.append(tag)
            self.raw += [(tag, "")] if tag != "aside" else []

    def handle_endtag(self, tag):
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data):
        if self.within and self.within[-1] == "aside":
            self.notes[-1] += data
        elif self.within:
            tag, text = self.raw[-1]
            self.raw[-1] = (tag, text + data)


@pytest.fixture(scope="module")
def shows(tmp_path_factory):
    """{part: its slide show, read}."""
    folder = tmp_path_factory.mktemp("slides")
    return {
        part: Show(slides.build(part, paths, folder).read_text(encoding="utf-8"))
        for part, paths in PARTS.items()
    }


def test_every_part_of_the_book_has_slides():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    captions = [part["caption"] for part in toc["parts"]]
    assert list(PARTS) == [caption for caption in captions if caption != "Appendices"]
    files = {path.stem for path in slides.SELECTIONS.glob("*.yml")}
    assert files == {part.lower() for part in PARTS}


def test_every_chapter_has_slides_with_figures_or_tables_and_questions():
    for chosen in CHOSEN.values():
        for stem, chapter in chosen.items():
            kinds = [set(entry) & {"figure", "output", "question"} for entry in chapter["slides"]]
            assert len(kinds) >= 6 and {"question"} in kinds, stem
            assert sum(kind in ({"figure"}, {"output"}) for kind in kinds) >= 3, stem


def test_every_figure_named_exists():
    named = [(stem, entry["figure"]) for stem, entry in ENTRIES if "figure" in entry]
    assert len(named) > 20
    assert len({figure for _, figure in named}) == len(named)
    for stem, figure in named:
        assert figure in CHAPTERS[stem].figures, figure


def test_slides_are_those_of_the_selection(shows):
    for part, show in shows.items():
        chapters = CHOSEN[part].values()
        # The title, and for each chapter its opening and its recap.
        expected = 1 + sum(len(chapter["slides"]) + 2 for chapter in chapters)
        assert len(show.sections) == expected
        figures = [e["figure"] for c in chapters for e in c["slides"] if "figure" in e]
        assert len(show.images) == len(figures)


def test_figures_are_the_chapters_own_with_their_alternative_text(shows):
    stored = {
        f"data:image/png;base64,{figure.data}": figure
        for chapter in CHAPTERS.values()
        for figure in chapter.figures.values()
    }
    for show in shows.values():
        assert show.images
        for image in show.images:
            assert image["alt"] == stored[image["src"]].alt
            width, height = int(image["width"]), int(image["height"])
            own = stored[image["src"]].size
            assert width <= slides.FIGURE[0] and height <= slides.FIGURE[1]
            assert abs(width / height - own[0] / own[1]) < 0.01


def test_every_slide_has_notes(shows):
    for show in shows.values():
        assert min(len(notes.split()) for notes in show.notes) >= 10


def test_answers_stand_in_the_notes_only(shows):
    for part, show in shows.items():
        questions = [
            CHAPTERS[stem].questions[entry["question"]]
            for stem, entry in ENTRIES
            if "question" in entry and stem in CHOSEN[part]
        ]
        notes = [
            text
            for kind, text in zip(show.sections, show.notes, strict=True)
            if kind.startswith("question")
        ]
        for question, text in zip(questions, notes, strict=True):
            assert f"The right answer is {question.right.letter}." in " ".join(text.split())


def test_nothing_is_loaded_and_no_host_is_named_but_in_comments(shows):
    for show in shows.values():
        assert show.loads
        assert not [address for address in show.loads if urlsplit(address).scheme != "data"]
        styles = " ".join(text for tag, text in show.raw if tag == "style")
        assert not re.search(r"@import|url\(\s*[\"']?(?!data:)", styles)
        own = [text for tag, text in show.raw if tag == "script" and len(text) < 2000]
        assert len(own) == 2 and not re.search(r"//[\w-]+\.\w", " ".join(own))


def entry(**changes):
    """A selected slide of chapter 6 with changes, read anew."""
    stem, found = next((s, e) for s, e in ENTRIES if e.get("figure") == "fig-06-block")
    return CHAPTERS[stem], copy.deepcopy(found) | changes


def test_slide_fits():
    made = slides.slide(*entry())
    assert made["kind"] == "figure" and made["source"] == "6. The residual block"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"figure": "fig-06-nothing"}, "no figure"),
        ({"title": "A long title, " * 5}, "longer than"),
        ({"text": ["a line"] * 4}, "more than"),
        ({"text": ["a long line " * 15]}, "more than"),
        ({"notes": "Too short."}, "no notes"),
        ({"text": ["An error of 87.65 %."]}, "87.65"),
        ({"notes": "An error that this chapter doesn't have anywhere is 87.65 points."}, "87.65"),
        ({"question": 99}, "no question 99"),
    ],
)
def test_selection_that_does_not_fit_is_refused(changes, complaint):
    with pytest.raises(slides.SlideError, match=re.escape(complaint)):
        slides.slide(*entry(**changes))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"output": "no such output"}, "0 outputs"),
        ({"output": " "}, "outputs have"),
        ({"output": "option   64 -> 64", "lines": ["option", "Z"]}, "no line"),
    ],
)
def test_output_that_is_not_there_is_refused(changes, complaint):
    chapter, changed = entry(**changes)
    del changed["figure"]
    with pytest.raises(slides.SlideError, match=re.escape(complaint)):
        slides.slide(chapter, changed)


def test_lines_of_an_output_can_be_chosen():
    chapter, changed = entry(output="option   64 -> 64", lines=["option", "B "])
    del changed["figure"]
    lines = slides.slide(chapter, changed)["table"].split("\n")
    assert [line[:6].strip() for line in lines] == ["option", "B"]


def test_too_wide_a_table_and_too_tall_a_figure_are_refused():
    chapter, changed = entry(output="wide")
    chapter, figure = copy.deepcopy(chapter), changed.pop("figure")
    chapter.outputs.append("wide" + 97 * "x")
    with pytest.raises(slides.SlideError, match="101 characters"):
        slides.slide(chapter, changed)
    tall = copy.deepcopy(chapter.figures[figure])
    object.__setattr__(tall, "data", slides.base64.b64encode(png(600, 1300)).decode())
    chapter.figures[figure] = tall
    with pytest.raises(slides.SlideError, match="too tall"):
        slides.slide(chapter, entry()[1])


def png(width, height):
    """The beginning of a PNG of that size."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + slides.struct.pack(">II", width, height)


def test_selection_must_name_the_chapters_of_its_part(monkeypatch):
    chapters = [slides.read_chapter(path) for path in PARTS["Start"]]
    with pytest.raises(slides.SlideError, match="is about"):
        slides.collect("Start", chapters[:1])
    with pytest.raises(slides.SlideError, match=r"no nowhere\.yml"):
        slides.collect("Nowhere", chapters)


def test_scripts_are_the_ones_that_were_looked_through(tmp_path):
    assert len(slides.scripts()) == len(slides.SCRIPTS.read_text().splitlines()) == 5
    listing = tmp_path / "slides.sha256"
    listing.write_text(re.sub(r"^\w", "g", slides.SCRIPTS.read_text(), count=1))
    with pytest.raises(slides.SlideError, match=r"reset\.css is not the file"):
        slides.scripts(listing)
    listing.write_text(f"{64 * 'a'}  no-such-library a.js\n")
    with pytest.raises(slides.SlideError, match="no-such-library is missing"):
        slides.scripts(listing)


def test_markdown_leaves_formulas_alone():
    assert slides.markdown("*a* $x_1 * y_1 < 2$ and `b`, 5 %") == (
        "<em>a</em> $x_1 * y_1 &lt; 2$ and <code>b</code>, 5\N{NO-BREAK SPACE}%"
    )


def test_recap_and_question_come_from_the_notebook():
    chapter = CHAPTERS["06_residual_block"]
    assert chapter.recap[1].startswith("write a basic block from memory")
    assert len(chapter.recap) == 5 and chapter.title == "6. The residual block"
    assert isinstance(chapter.questions[1], self_tests.Question)


def test_recap_is_a_list_or_a_sentence():
    listed = "\nYou can now\n\n- do\n  this;\n- and *that*.\n"
    assert slides.recap(listed) == ["do this", "and *that*"]
    assert slides.recap("You can now do\nthis; and *that*.") == [
        "do this",
        "and *that*",
    ]
    chapter = copy.deepcopy(CHAPTERS["06_residual_block"])
    chapter.recap = []
    with pytest.raises(slides.SlideError, match="no recap"):
        slides.closing(chapter)


def test_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        slides.main(["Finish"])
    assert "no part Finish" in capsys.readouterr().err
