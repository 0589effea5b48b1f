"""The rendered book: complete, from one host, with buttons only where they lead somewhere."""

import copy
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import build_book
import nbformat
import notebooks
import public_home
import pytest
import solutions
from notebooks import ROOT, ChapterError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
REPOSITORY = "https://github.com/someone/some-book"
ADDRESSES = build_book.ADDRESSES
CHAPTERS = notebooks.chapters()

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


LOADING = {
    "script": ("src", "data-mathjax"),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "use": ("href",),
    "image": ("href",),
}
# The other kinds of <link> only tell a browser where to go next.
LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect"}


class Page(HTMLParser):
    """What a page loads and links, its inline scripts and styles, and its folded sections."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.inline, self.summaries, self.open = [], [], [], [], []
        self.within = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loads += [attributes[key] for key in LOADING.get(tag, ()) if key in attributes]
        if tag == "link" and LOADING_LINKS & set(attributes.get("rel", "").split()):
            self.loads.append(attributes["href"])
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if "style" in attributes:
            self.inline.append(attributes["style"])
        if tag == "details" and "open" in attributes:
            self.open.append(attributes.get("class", ""))
        if tag in {"script", "style", "summary"}:
            self.within.append(tag)

    def handle_endtag(self, tag):
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data):
        if self.within and self.within[-1] in {"script", "style"}:
            self.inline.append(data)
        elif self.within and data.strip():
            self.summaries.append(data.strip())


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def is_foreign(address):
    """Whether a browser would ask another host for it."""
    return bool(urlsplit(address.strip()).netloc)


def pages(html):
    """The pages, without the theme's templates among the static files."""
    return [path for path in html.rglob("*.html") if "_static" not in path.parts]


def foreign_loads(html):
    """What the pages and styles in the folder would ask other hosts for."""
    found = []
    for path in pages(html):
        page = read(path)
        found += [f"{path.name}: {address}" for address in page.loads if is_foreign(address)]
        # A script that names an address at all could load it.
        inline = (re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text) for text in page.inline)
        found += [f"{path.name}: {address}" for addresses in inline for address in addresses]
    for path in html.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        targets = re.findall(r"url\(\s*[\"']?([^)\"']+)", text)
        targets += re.findall(r"@import\s+[\"']([^\"']+)", text)
        found += [f"{path.name}: {address}" for address in targets if is_foreign(address)]
    return found


def missing_loads(html):
    """What pages and styles load that is not in the folder."""
    found = []
    for path in [*pages(html), *html.rglob("*.css")]:
        if path.suffix == ".css":
            text = path.read_text(encoding="utf-8")
            addresses = re.findall(r"url\(\s*[\"']?([^)\"']+)", text)
        else:
            addresses = read(path).loads
        for address in addresses:
            parts = urlsplit(address.strip())
            if parts.scheme or not parts.path:  # data: or a fragment of the page itself
                continue
            base = html if parts.path.startswith("/") else path.parent
            if not (base / parts.path.lstrip("/")).is_file():
                found.append(f"{path.relative_to(html)}: {address}")
    return found


def forget_addresses(monkeypatch, **known):
    for name in ADDRESSES:
        monkeypatch.delenv(name, raising=False)
    for name, address in known.items():
        monkeypatch.setenv(name, address)


def page_of(html, chapter):
    return html / "book" / f"{chapter.stem}.html"


def test_nothing_is_loaded_from_another_host(html):
    assert pages(html)
    assert foreign_loads(html) == []


def test_everything_that_is_loaded_is_there(html):
    assert missing_loads(html) == []


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example.org/x.js"></script>',
        '<script src="//cdn.example.org/x.js"></script>',
        '<script>load("https://cdn.example.org/x.js")</script>',
        '<link rel="stylesheet" href="https://fonts.example.org/x.css">',
        '<img src="https://example.org/x.png">',
        "<style>@import url(https://example.org/x.css)</style>",
        '<p style="background: url(//example.org/x.png)">',
    ],
)
def test_foreign_loads_are_noticed(tmp_path, text):
    (tmp_path / "page.html").write_text(f"<html>{text}</html>")
    assert len(foreign_loads(tmp_path)) == 1


def test_foreign_and_missing_loads_of_styles_are_noticed(tmp_path):
    (tmp_path / "a.css").write_text("a { src: url('https://example.org/x.woff2') }")
    (tmp_path / "b.css").write_text("a { src: url(none.woff2) }")
    assert foreign_loads(tmp_path) == ["a.css: https://example.org/x.woff2"]
    assert missing_loads(tmp_path) == ["b.css: none.woff2"]


def test_links_to_other_hosts_are_no_loads(tmp_path):
    (tmp_path / "page.html").write_text('<a href="https://doi.org/1">x</a><img src="x.png">')
    assert foreign_loads(tmp_path) == []
    assert missing_loads(tmp_path) == ["page.html: x.png"]


def test_formulas_are_set_by_the_books_own_mathjax(html):
    with_formulas = [path for path in CHAPTERS if "mathjax/tex-chtml.js" in read_loads(html, path)]
    assert with_formulas
    assert list((html / "_static" / "mathjax" / "output" / "chtml").rglob("*.woff"))


def read_loads(html, chapter):
    return " ".join(read(page_of(html, chapter)).loads)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_each_exercise_has_its_solution_folded_below_it(html, chapter):
    page = page_of(html, chapter)
    text = page.read_text(encoding="utf-8")
    numbers = list(solutions.read(chapter.parent / "solutions" / f"{chapter.stem}.md"))
    assert numbers
    # Only the article: the contents at the side may name the exercises too.
    article = text[text.index("<article") : text.index("</article>")]
    # Headings and summaries; the prose may name an exercise anywhere.
    headings = re.findall(r"<(?:h3|span)[^>]*>\s*(Exercise|Solution) (\d+\.\d+)", article)
    assert headings == [(kind, n) for n in numbers for kind in ("Exercise", "Solution")]
    summaries = read(page).summaries
    assert [s for s in summaries if s.startswith("Solution")] == [f"Solution {n}" for n in numbers]
    assert not any("dropdown" in name for name in read(page).open)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_downloaded_notebook_is_the_committed_one(html, chapter):
    link = next(link for link in read(page_of(html, chapter)).links if link.endswith(".ipynb"))
    downloaded = (html / "book" / link).resolve()
    assert downloaded.read_bytes() == chapter.read_bytes()
    text = downloaded.read_text(encoding="utf-8")
    assert not re.search(r"Solution \d", text)
    answers = solutions.read(chapter.parent / "solutions" / f"{chapter.stem}.md").values()
    # The prose alone: an answer's code may repeat what the chapter gives.
    prose = re.sub(r"(?ms)^```.*?^```", "", "\n".join(answers))
    lines = [line for line in prose.splitlines() if len(line) > 50]
    assert lines and not [line for line in lines if json.dumps(line)[1:-1] in text]


def test_404_page_works_from_any_depth(html):
    page = read(html / "404.html")
    local = [address for address in page.loads if not address.startswith("data:")]
    assert local
    assert all(address.startswith("/") for address in local)
    text = (html / "404.html").read_text(encoding="utf-8")
    assert not re.search(r"<h1>\s*</h1>", text)
    assert "Page not found" in text


BUTTONS = ("Launch on Colab", "fa-rocket", "source-repository-button", "source-issues-button")


def test_no_button_leads_nowhere(html):
    for path in pages(html):
        text = path.read_text(encoding="utf-8")
        assert not [button for button in BUTTONS if button in text], path.name
        # Jupyter Book's own repository, which its theme links to by default.
        assert not [link for link in read(path).links if "executablebooks" in link], path.name


def test_front_page_opens_at_the_root(html):
    (target,) = re.findall(r"url=([^\"]+)\"", (html / "index.html").read_text(encoding="utf-8"))
    assert (html / target).is_file()


# Small books, to see what the extensions do with what the real one does not have.


def cell(source, **metadata):
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def figure(alt):
    image = {"alt": alt} if alt else {}
    settings = {"image": image, "figure": {"name": "fig-01-x", "caption": "A dot."}}
    # The smallest PNG: one pixel.
    pixel = (
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )
    shown = nbformat.v4.new_output("display_data", {"image/png": pixel})
    metadata = {"mystnb": settings}
    return nbformat.v4.new_code_cell("x", outputs=[shown], metadata=metadata, execution_count=1)


EXERCISE = "### Exercise 1.1: One\n*Easy, about 1 minutes.*\n\nDo it."
SOLUTION = "## Exercise 1.1\n\nDone, since $x = 1$:\n\n```python\nassert 1\n```\n"


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    """Builds a book with one chapter, made of the real configuration and the given parts."""

    def build(cells, solution=SOLUTION, repository="", **addresses):
        forget_addresses(monkeypatch, **addresses)
        source = tmp_path / "source"
        shutil.rmtree(source, ignore_errors=True)
        book = source / "book"
        for folder in ("_ext", "_static"):
            shutil.copytree(ROOT / "book" / folder, book / folder)
        shutil.copy(ROOT / "_config.yml", source)
        notebooks.set_repository(repository, source)
        shutil.copy(ROOT / "book" / "references.bib", book)
        toc = "format: jb-book\nroot: book/index\nchapters:\n  - file: book/01_one\n"
        (source / "_toc.yml").write_text(toc)
        (book / "index.md").write_text("# Book\n\n{{ colab }}\n")
        notebook = nbformat.v4.new_notebook(cells=[cell("# 1. One"), *cells])
        notebooks.write(notebook, book / "01_one.ipynb")
        (book / "solutions").mkdir()
        if solution:
            (book / "solutions" / "01_one.md").write_text(solution)
        return build_book.jupyter_book(source, tmp_path / "output")

    return build


def test_solution_is_folded_with_its_code_highlighted(small_book):
    html = small_book([cell("## Exercises"), cell(EXERCISE), figure("One dot")])
    text = (html / "book" / "01_one.html").read_text(encoding="utf-8")
    folded = re.search(r"<details.*?</details>", text, re.DOTALL)[0]
    assert "Solution 1.1" in folded
    assert "highlight-python" in folded
    assert "math notranslate" in folded
    assert text.index("Do it.") < text.index("Solution 1.1")
    assert 'alt="One dot"' in text
    source = (html / "_sources" / "book" / "01_one.ipynb").read_text(encoding="utf-8")
    assert "Done" not in source


def test_warning_fails_the_build(small_book):
    second = EXERCISE.replace("1.1", "1.2")
    orphan = SOLUTION.replace("1.1", "1.3")
    cells = [cell("## Exercises"), cell(EXERCISE), cell(second), figure(""), cell("[A](none.md)")]
    with pytest.raises(ChapterError) as error:
        small_book(cells, SOLUTION + orphan)
    warnings = [line for line in str(error.value).splitlines() if "WARNING" in line]
    expected = (
        "exercise 1.2 has no solution",
        "solution 1.3 has no exercise",
        "image without alternative text",
        "none.md",
    )
    assert len(warnings) == len(expected), warnings
    for complaint in expected:
        assert any(complaint in line for line in warnings), complaint


def test_buttons_lead_to_the_repository_where_it_is_known(small_book):
    site = "https://someone.github.io/some-book"
    html = small_book([], "", f"{REPOSITORY}/", BOOK_BRANCH="stable", BOOK_URL=f"{site}/")
    page = html / "book" / "01_one.html"
    text, links = page.read_text(encoding="utf-8"), read(page).links
    assert not [button for button in BUTTONS if button not in text]
    assert REPOSITORY in links
    assert any(link.startswith(f"{REPOSITORY}/issues/new") for link in links)
    notebook = "someone/some-book/blob/stable/book/01_one.ipynb"
    assert f"https://colab.research.google.com/github/{notebook}" in links
    assert foreign_loads(html) == []
    assert public_home.WITH_COLAB in (html / "book" / "index.html").read_text(encoding="utf-8")
    # Below a sub-path, the 404 page can only find its styles by the whole path.
    loads = read(html / "404.html").loads
    assert loads
    assert all(address.startswith("/some-book/") for address in loads)
    assert f'property="og:url" content="{site}/book/01_one.html"' in text
    card = re.search(r'property="og:image" content="([^"]+\.png)"', text)[1]
    assert card.startswith(f"{site}/")
    assert (html / card.removeprefix(f"{site}/")).is_file()


def buttons(monkeypatch, in_configuration="", **addresses):
    """The theme's options for a repository in the configuration and these variables."""
    forget_addresses(monkeypatch, **addresses)
    options = {"repository_url": in_configuration, "repository_branch": "main"}
    config = SimpleNamespace(html_theme_options=options, myst_substitutions={})
    public_home.add_buttons(None, config)
    return config.html_theme_options


def test_variable_wins_over_the_configuration(monkeypatch):
    assert buttons(monkeypatch, REPOSITORY)["repository_url"] == REPOSITORY
    other = "https://github.com/another/book"
    assert buttons(monkeypatch, REPOSITORY, BOOK_REPOSITORY=other)["repository_url"] == other
    assert not buttons(monkeypatch, REPOSITORY, BOOK_REPOSITORY="")["use_repository_button"]


def test_colab_is_offered_for_github_only(monkeypatch):
    options = buttons(monkeypatch, "https://gitlab.com/someone/some-book")
    assert options["use_repository_button"]
    assert not options["launch_buttons"]
    assert buttons(monkeypatch, REPOSITORY)["launch_buttons"]


def test_adding_solutions_leaves_the_other_cells_alone():
    notebook = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=[cell(EXERCISE)])))
    before, messages = copy.deepcopy(notebook["cells"][0]), []
    solutions.add(notebook, {"1.1": "Done.", "1.2": "Lost."}, messages.append)
    assert notebook["cells"][0] == before
    assert "Done." in notebook["cells"][1]["source"]
    assert messages == ["solution 1.2 has no exercise"]


# In a browser that can reach no host at all.

# A key pressed: the formulas out of view wait for their reader to do something.
PROBE = """<script>
window.addEventListener("load", () => dispatchEvent(new Event("keydown")));
window.addEventListener("load", () => setTimeout(() => {
  const loads = performance.getEntriesByType("resource").map((entry) => entry.name);
  const fonts = [...document.fonts].filter((font) => font.status === "loaded");
  document.documentElement.dataset.loads = loads.join(" ");
  document.documentElement.dataset.fonts = fonts.map((font) => font.family).join(" ");
}, 2000));
</script></head>"""


def in_browser(path, profile):
    """(the page as Chromium shows it, what it asked for beyond its own files)."""
    probe = path.with_name("probe.html")
    probe.write_text(path.read_text(encoding="utf-8").replace("</head>", PROBE), encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--virtual-time-budget=20000", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe.unlink()
    loads = re.search(r'data-loads="([^"]*)"', done.stdout)
    assert loads, done.stderr
    return done.stdout, loads[1].split()


@needs_chromium
def test_formulas_appear_without_a_network(html, tmp_path):
    path = next(path for path in CHAPTERS if "mathjax" in read_loads(html, path))
    shown, loads = in_browser(page_of(html, path), tmp_path)
    assert "<mjx-container" in shown
    assert "<mjx-merror" not in shown
    assert "MJXTEX" in re.search(r'data-fonts="([^"]*)"', shown)[1]
    assert loads == []


@needs_chromium
def test_browser_tells_of_a_foreign_load(tmp_path):
    page = tmp_path / "page.html"
    script = '<script src="https://cdn.example.org/x.js"></script>'
    page.write_text(f"<html><head></head><body>{script}</body></html>")
    _, loads = in_browser(page, tmp_path / "profile")
    assert "https://cdn.example.org/x.js" in loads


@needs_chromium
def test_script_gives_the_sidebar_its_role(html, tmp_path):
    shown, _ = in_browser(page_of(html, Path("references")), tmp_path)
    assert re.search(r'id="pst-primary-sidebar"[^>]*role="complementary"', shown)
    assert re.search(r'class="citation"[^>]*role="listitem"', shown)
