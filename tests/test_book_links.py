"""Links of the rendered book: to the package's reference, from the index, and all others."""

import posixpath
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import api_links
import first_uses
import index_entries
import numbering
import pytest
from docutils import nodes
from notebooks import ROOT, chapters
from test_book_pages import pages

KNOWN = {
    "resnet_lib.explain": 0,
    "resnet_lib.explain.grad_cam": 0,
    "resnet_lib.blocks.BasicBlock": 0,
    "resnet_lib.blocks.BasicBlock.forward": 0,
    "resnet_lib.train.evaluate": 0,
    "resnet_lib.metrics.evaluate": 0,
}


@pytest.mark.parametrize(
    "text, own, full",
    [
        ("explain.grad_cam", {}, "resnet_lib.explain.grad_cam"),
        ("resnet_lib.explain", {}, "resnet_lib.explain"),
        ('explain.grad_cam(model, "C4")', {}, "resnet_lib.explain.grad_cam"),
        ("BasicBlock", {"BasicBlock": None}, "resnet_lib.blocks.BasicBlock"),
        ("BasicBlock(64, 64)", {"BasicBlock": None}, "resnet_lib.blocks.BasicBlock"),
        ("Block", {"Block": "resnet_lib.blocks.BasicBlock"}, "resnet_lib.blocks.BasicBlock"),
        ("x.grad_cam", {"x": "resnet_lib.explain"}, "resnet_lib.explain.grad_cam"),
        ("BasicBlock", {}, None),  # not on this page
        ("explain", {}, None),  # a word
        ("evaluate", {"evaluate": None}, None),  # which of the two?
        ("torch.nn", {}, None),
        ("explain.none", {}, None),
        ("a + explain.grad_cam", {}, None),
    ],
)
def test_a_name_leads_to_what_it_means_or_nowhere(text, own, full):
    assert api_links.target(text, KNOWN, own) == full


def test_own_names_are_what_code_defines_or_imports_from_the_package():
    codes = [
        "from resnet_lib.blocks import BasicBlock as B\nimport torch",
        "def f():\n    def inner(): pass\nclass C: pass",
        "!pip list",
        "from torch import nn",
    ]
    found = api_links.own_names(codes)
    assert found == {"B": "resnet_lib.blocks.BasicBlock", "f": None, "C": None}


def test_chapters_have_their_numbers_and_other_pages_none():
    assert numbering.chapter_number("book/06_residual_block") == 6
    assert numbering.chapter_number("book/solutions/06_residual_block") == 6
    assert numbering.chapter_number("book/map") is None


def article(folder, stem):
    text = (folder / "book" / f"{stem}.html").read_text(encoding="utf-8")
    return text[text.index("<article") : text.index("</article>")]


def test_figures_and_formulas_are_counted_in_each_chapter(html):
    text = article(html, "06_residual_block")
    figures = re.findall(r'caption-number">Fig. ([\d.]+)', text)
    assert figures == [f"6.{at}" for at in range(1, len(figures) + 1)] != []
    formulas = re.findall(r'class="eqno">\(([\d.]+)\)', text)
    assert formulas == [f"6.{at}" for at in range(1, len(formulas) + 1)] != []


def test_a_chapter_leads_to_the_reference_of_what_it_builds(html):
    text = article(html, "06_residual_block")
    assert text.count('href="api.html#resnet_lib.blocks.BasicBlock"') == 1  # the first use
    assert 'notranslate">check(block_class)</code>' in text  # that of an exercise
    assert 'href="api.html#resnet_lib.checks.check"' not in text


def test_the_index_has_every_term_of_the_glossary_and_where_it_is_used(html):
    text = (html / "genindex.html").read_text(encoding="utf-8")
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    known = index_entries.terms(glossary)
    linked = set(re.findall(r'href="book/glossary\.html#([^"]+)"', text))
    assert len(linked) == len(known) > 100
    assert re.search(r'href="book/0\d_[^"]+">stride</a>', text)
    assert "BasicBlock (class in resnet_lib.blocks)" in text


@pytest.mark.parametrize(
    "text, found",
    [
        ("a stride of 2", ["stride"]),
        ("Strides and batches", ["Strides", "batches"]),
        ("the feature map, the batch", ["feature map", "batch"]),
        ("a channels-last batch", ["channels-last", "batch"]),
        ("mini-batch, batched, stride-2", []),  # other words
        ("the weight\ndecay", ["weight\ndecay"]),
    ],
)
def test_terms_are_found_as_whole_words_the_longest_first(text, found):
    terms = ("feature map", "feature", "channels last", "batch", "stride", "weight decay", "weight")
    wanted = {first_uses.plain(term): term for term in terms}
    assert [match[0] for match in first_uses.pattern(wanted).finditer(text)] == found


HEADINGS = {"h1", "h2", "h3", "h4"}
APART = HEADINGS | {"a", "button", "code", "figcaption", "pre", "script", "style", "table"}


class Uses(HTMLParser):
    """Terms that stand in a page's running text before any link leads to them."""

    def __init__(self, text, wanted):
        super().__init__()
        self.wanted, self.around, self.links, self.early = wanted, [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        page, _, anchor = attributes.get("href", "").partition("#")
        if page == "glossary.html":
            self.links[anchor] = attributes.get("title")
        classes = attributes.get("class", "").split()
        apart = tag in APART or "math" in classes or (tag == "details" and not classes)
        self.around.append((tag, apart))

    def handle_endtag(self, tag):
        while self.around.pop()[0] != tag:  # those that need no end, such as <br>
            pass

    def handle_data(self, data):
        if self.wanted and not any(apart for _, apart in self.around):
            for match in first_uses.pattern(self.wanted).finditer(data):
                anchor = self.wanted[first_uses.plain(match[1])]
                if anchor not in self.links:
                    self.early.append(match[0])


def one_sense():
    """{term: its anchor on the page} of the glossary."""
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    known = {first_uses.plain(term): anchor for anchor, term in index_entries.terms(text).items()}
    # docutils lets no id begin with a digit
    return {
        term: anchor.lstrip("0123456789")
        for term, anchor in known.items()
        if term not in first_uses.SEVERAL_SENSES
    }


@pytest.mark.parametrize("stem", [path.stem for path in chapters()])
def test_a_chapter_links_the_first_use_of_each_term(html, stem):
    text = re.sub(r"<p><strong>Time</strong>.*?</p>", "", article(html, stem), flags=re.DOTALL)
    uses = Uses(text, one_sense())
    assert uses.early == []
    assert len(uses.links) > 10 and all(uses.links.values())


def test_a_use_before_its_link_is_noticed():
    text = 'A stride. A <a href="glossary.html#stride">stride</a>, and a stride.<h2>Batch</h2>'
    assert Uses(text, {"stride": "stride", "batch": "batch"}).early == ["stride"]


def test_neighbouring_texts_become_one_and_nothing_else_moves():
    line, mark = "a\n", nodes.emphasis("", "b")
    element = nodes.paragraph("", "", *map(nodes.Text, (line, "\n", "map")), mark, nodes.Text(line))
    first_uses.join_texts(element)
    assert element.children == ["a\n\nmap", mark, "a\n"]
    assert all(child.parent is element for child in element.children)


def test_a_link_to_a_term_tells_what_the_glossary_says_of_it(html):
    said = Uses(article(html, "03_convolution"), {}).links["stride"]
    assert said.startswith("The step by which a convolution’s window moves. A stride of 2 halves")


class Anchors(HTMLParser):
    """What a page can be linked at, and its links."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])


def broken(folder):
    """["page: link" …] of links to pages or places that are not there."""
    read = {
        path.relative_to(folder).as_posix(): Anchors(path.read_text(encoding="utf-8"))
        for path in pages(folder)
    }
    found = []
    for name, page in read.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or name == "404.html":  # that one stands anywhere
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), parts.path))
            target = unquote(target) if parts.path else name
            place = unquote(parts.fragment)
            if target in read:
                if place and place not in read[target].ids:
                    found.append(f"{name}: {link}")
            elif not (folder / target).is_file():
                found.append(f"{name}: {link}")
    return found


def test_every_link_within_the_book_leads_somewhere(html):
    assert broken(html) == []


def test_broken_links_are_noticed(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html">1</a><a href="b.html#here">2</a><a href="b.html#gone">3</a>'
        '<a href="#no">4</a><a href="c.html">5</a><a href="https://example.org/#x">6</a>'
    )
    (tmp_path / "b.html").write_text('<p id="here">')
    assert broken(tmp_path) == ["a.html: b.html#gone", "a.html: #no", "a.html: c.html"]


def test_signatures_in_the_reference_are_read_and_not_raw(html):
    text = (html / "book" / "api.html").read_text(encoding="utf-8")
    signatures = [
        re.sub(r"<[^>]+>", "", one) for one in re.findall(r"(?s)<dt [^>]*>.*?</dt>", text)
    ]
    assert len(signatures) > 300
    assert not [one for one in signatures if "~" in one or "&lt;" in one]
    assert any("resnet_lib.train.fit(" in one and "log: Callable[" in one for one in signatures)
