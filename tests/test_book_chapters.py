"""The map of the chapters, its drawing and tables, and the entry to cite."""

import json
import re
import xml.etree.ElementTree as ElementTree

import chapter_drawing
import chapters
import citation
import notebooks
import pytest
import yaml
from notebooks import ROOT
from pybtex.database import parse_string

NEEDS = {1: [], 2: [], 3: [2], 4: [3], 5: [3, 4], 6: [2], 7: [6], 8: [6, 7], 9: [3, 8]}


def book(tmp_path, *heads):
    """A folder with chapters that have these first cells."""
    (tmp_path / "book").mkdir()
    files = []
    for number, head in enumerate(heads, 1):
        files.append({"file": f"book/{number:02}_x"})
        cells = [{"cell_type": "markdown", "source": head}]
        text = json.dumps({"cells": cells})
        (tmp_path / "book" / f"{number:02}_x.ipynb").write_text(text, encoding="utf-8")
    toc = {"parts": [{"caption": "One", "chapters": [*files, {"file": "book/page"}]}]}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    return tmp_path


def head(number, needs="it"):
    facts = (
        f"**Time** about {number}0 minutes, at\nmost · **You need** {needs} ·\n**You build** a|b"
    )
    return f"# {number}. A title\n\nWhy\nthis?\n\n{facts}"


def test_a_chapter_is_read_from_its_first_cell(tmp_path):
    links = "chapters [1](01_x.ipynb),\n[2](02_x.ipynb), and 1 apple"
    found = chapters.collect(book(tmp_path, head(1), head(2, "[chapter 1](01_x.ipynb)"),
                                  head(3, links)))  # fmt: skip
    assert [one.stem for one in found] == ["01_x", "02_x", "03_x"]
    assert [one.minutes for one in found] == [10, 20, 30]
    assert (found[0].question, found[0].title, found[0].part) == ("Why this?", "A title", "One")
    assert chapters.needs(found) == {1: [], 2: [1], 3: [1, 2]}
    row = chapters.table(found[1:2]).splitlines()[-1]
    assert row == "| [2. A title](02_x.ipynb) | 20 min | [chapter 1](01_x.ipynb) | a\\|b |"
    assert chapters.description(found).endswith("1 needs no other; 2 needs 1; 3 needs 1 and 2.")


def test_a_chapter_without_the_form_and_a_need_that_comes_later_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"01_x\.ipynb: the first cell"):
        chapters.collect(book(tmp_path, head(1).replace("**You build**", "You build")))
    (tmp_path / "later").mkdir()
    found = chapters.collect(book(tmp_path / "later", head(1, "chapter 2"), head(2)))
    with pytest.raises(ValueError, match="01_x needs chapter 2"):
        chapters.needs(found)


def test_what_follows_from_other_needs_is_left_out():
    assert chapter_drawing.direct(NEEDS)[5] == [4]
    assert chapter_drawing.direct(NEEDS)[8] == [7]
    assert chapter_drawing.direct(NEEDS)[9] == [3, 8]
    whole = {number: chapter_drawing.ancestors(number, NEEDS) for number in NEEDS}
    reduced = chapter_drawing.direct(NEEDS)
    assert {number: chapter_drawing.ancestors(number, reduced) for number in NEEDS} == whole


def boxes(svg):
    """[(x, y, width, height) …] of the boxes of a drawing."""
    return [
        tuple(float(found.get(key)) for key in ("x", "y", "width", "height"))
        for found in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
    ]


def test_boxes_of_the_book_do_not_overlap_and_lie_in_the_picture():
    found = chapters.collect(ROOT)
    assert [ROOT / "book" / f"{one.stem}.ipynb" for one in found] == notebooks.chapters()
    titles = {one.number: (one.title, f"{one.minutes} min") for one in found}
    svg = chapter_drawing.draw(titles, chapters.needs(found), "A & B")
    root = ElementTree.fromstring(svg)  # EPUB needs it well-formed
    assert root.get("aria-label") == "A & B"
    width, height = map(float, root.get("viewBox").split()[2:])
    places = boxes(svg)
    assert len(places) == len(found)
    for index, (x, y, w, h) in enumerate(places):
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        for x2, y2, w2, h2 in places[index + 1 :]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_every_need_is_below_what_it_needs_and_every_line_starts_at_a_box():
    titles = {number: (f"Chapter {number}", "1 min") for number in NEEDS}
    svg = chapter_drawing.draw(titles, NEEDS, "")
    level = chapter_drawing.levels(chapter_drawing.direct(NEEDS))
    assert all(level[number] > level[one] for number in NEEDS for one in NEEDS[number])
    assert len(NEEDS) == len(boxes(svg))
    bottoms = {(x + w / 2, y + h) for x, y, w, h in boxes(svg)}
    heads = {(x + w / 2, y) for x, y, w, h in boxes(svg)}
    lanes = {tuple(map(float, m)) for m in re.findall(r'd="M([\d.]+) ([\d.]+)V', svg)}
    lane_ends = {(float(x), float(y)) for x, y in re.findall(r'd="M([\d.]+) [\d.]+V([\d.]+)', svg)}
    curves = re.findall(r'd="M([\d.]+) ([\d.]+) C.*? ([\d.]+) ([\d.]+)" fill', svg)
    assert curves and lanes
    for x1, y1, x2, y2 in curves:
        assert (float(x1), float(y1)) in bottoms | lane_ends
        assert (float(x2), float(y2)) in heads | lanes


def test_the_entry_to_cite_says_what_the_citation_file_says():
    about = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (entry,) = parse_string(citation.bibtex(about), "bibtex").entries.values()
    assert entry.fields["title"].strip("{}") == about["title"]
    assert entry.fields["version"] == about["version"]
    assert entry.fields["year"] == str(about["date-released"].year)
    assert [str(one).strip("{}") for one in entry.persons["author"]] == [
        about["authors"][0]["name"]
    ]


def test_persons_an_address_and_a_doi_go_into_the_entry():
    about = {
        "authors": [{"family-names": "Noether", "given-names": "Emmy"}, {"name": "A group"}],
        "title": "Rings",
        "date-released": "1921-01-01",
        "version": 2,
        "url": "https://example.org/rings",
        "doi": "10.1000/1",
    }
    (entry,) = parse_string(citation.bibtex(about), "bibtex").entries.values()
    assert [str(one) for one in entry.persons["author"]] == ["Noether, Emmy", "{A group}"]
    assert (entry.fields["url"], entry.fields["doi"]) == ("https://example.org/rings", "10.1000/1")
