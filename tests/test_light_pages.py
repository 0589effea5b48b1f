"""Light pages: what a style sheet and a page lose, and what they must keep."""

from pathlib import Path
from types import SimpleNamespace

import light_pages
import pytest

WORDS = {"seen", "built", "theme-switch"}
PAGE = """<html><head>
<link href="{up}_static/styles/theme.css?digest=1" rel="stylesheet" />
<link rel="stylesheet" type="text/css" href="{up}_static/book.css?v=2" />
<script defer src="{up}_static/scripts/fontawesome.js?digest=1"></script>
<link rel="preload" as="script" href="{up}_static/own.js" />
<script src="{up}_static/own.js?v=3"></script>
<script>let hint = 'Show';</script>
<script>document.documentElement.dataset.theme = localStorage.getItem("theme") || "auto";</script>
<script>window.MathJax = {{"options": {{}}}}</script>
<script defer="defer" src="{up}_static/mathjax/tex-chtml.js?v=4"></script>
<script>DOCUMENTATION_OPTIONS.pagename = 'x';</script>
<script src="{up}_static/searchtools.js"></script>
<script src="{up}_static/language_data.js"></script>
<script src="{up}searchindex.js"></script>
<link rel="icon" href="{up}_static/favicon.svg"/>
</head><body>
<i class="theme-switch fa-solid fa-sun   fa-lg" data-mode="light" title="Light"></i>
<span class="fa-solid fa-bars"></span><i class="fas fa-unknown"></i>
<img class="seen" style="width: 413px; height: 769.5px;" src="a.png">{body}</body></html>
"""
ICONS = (
    'x={sun:[512,512,[1],"f185","M1"]};y={"sun":[512,512,[9728],"f185","M2 2"],'
    'bars:[448,512,["navicon"],"f0c9","M3z"]}'
)


CODE_STYLE = """\
t1 .highlight { background: #fefefe; color: #080808 }
t1 .highlight .n { color: #080808 } /* Name */
t1 .highlight .p { color: #080808 }
t1 .highlight .o { color: #00622F }
t1 .highlight .gs { color: #080808; font-weight: bold }
t2 .highlight { background: #2b2b2b; color: #F8F8F2 }
t2 .highlight .n { color: #F8F8F2 }
t2 .highlight .p { color: #ABE338 }
t2 .highlight .o { color: #F8F8F2 }
"""
THEME_SCRIPT = """before();const e=()=>{},t=_(e,300);window.addEventListener("resize",t),\
new MutationObserver(t).observe(document.getElementById("main-content"),{subtree:!0,childList:!0}),\
e()}after();
//# sourceMappingURL=pydata-sphinx-theme.js.map
"""


def pruned(css, beginnings=("bs-",)):
    return light_pages.pruned(css, WORDS, beginnings)


@pytest.mark.parametrize(
    "rule",
    [
        "p{color:red}",
        ".seen{color:red}",
        ".built .seen:hover{color:red}",
        ".unseen,.seen{color:red}",
        ".seen:not(.unseen){color:red}",
        ":is(.unseen,.seen),.unseen{color:red}",
        'a[href$=".pdf"]{color:red}',
        ".bs-tooltip-auto{color:red}",
        r".a\.b{color:red}",
        "@font-face{font-family:x}",
        "@media print{.seen{color:red}}",
        "@keyframes k{0%{top:0}to{top:1.5px}}",
    ],
)
def test_rules_that_may_match_are_kept(rule):
    assert pruned(rule) == rule


@pytest.mark.parametrize(
    "rule",
    [
        ".unseen{color:red}",
        ".seen .unseen{color:red}",
        ".seen.unseen:hover,p .unseen>a{color:red}",
        "@media print{.unseen{color:red}}",
        "@supports (top:0){@media print{}}",
    ],
)
def test_rules_that_cannot_match_are_dropped(rule):
    left = pruned(f"{rule}p{{top:0}}")
    assert left.endswith("p{top:0}") and "seen" not in left and "print" not in left


@pytest.fixture
def built(tmp_path):
    """A book's output before and after: {name: text} of its pages."""
    static = tmp_path / "_static"
    for folder in (static / "styles", static / "scripts", static / "mathjax", tmp_path / "book"):
        folder.mkdir(parents=True)
    (static / "basic.css").write_text('/* plain */ .seen{background:url("file.png")}')
    (static / "styles" / "theme.css").write_text(
        '@charset "UTF-8";@import "../basic.css";/*! Mine. */a{src:url(../fonts/x.woff)}'
        ".fa-sun:before{top:0}.fa-dog:before{top:0}.later-one{top:1px}"
    )
    (static / "scripts" / "pydata-sphinx-theme.js").write_text(THEME_SCRIPT)
    (static / "pygments.css").write_text(CODE_STYLE)
    (static / "book.css").write_text("b{src:url(data:x/y,1)}i{src:url('https://e.org/z')}")
    (static / "own.js").write_text("name => `later-${name}`")
    (static / "scripts" / "fontawesome.js").write_text(f"{ICONS};'fa-dog'")
    pages = {
        "book/plain.html": PAGE.format(up="../", body=""),
        "book/formula.html": PAGE.format(up="../", body='<span class="math notranslate">x</span>'),
        "search.html": PAGE.format(up="", body=""),
        "404.html": PAGE.format(up="/", body=""),
        "index.html": '<meta http-equiv="Refresh" content="0; url=book/plain.html" />',
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    run(tmp_path)
    return tmp_path, pages, {name: (tmp_path / name).read_text() for name in pages}


def run(folder, builder="html", error=None):
    app = SimpleNamespace(outdir=str(folder), builder=SimpleNamespace(name=builder))
    light_pages.lighten(app, error)


def test_one_style_sheet_serves_all_pages(built):
    folder, _, after = built
    (sheet,) = (folder / "_static").glob("light-*.css")
    for name, up in (("book/plain.html", "../"), ("search.html", "")):
        assert light_pages.SHEET.findall(after[name]) == [f"{up}_static/{sheet.name}"]
    assert '<link rel="icon" href="../_static/favicon.svg"/>' in after["book/plain.html"]


def test_the_style_sheet_keeps_order_addresses_and_notices(built):
    folder, *_ = built
    (sheet,) = (folder / "_static").glob("light-*.css")
    css = sheet.read_text()
    wanted = (
        '@charset "utf-8"', "/*! Mine. */", ".svg-inline--fa.fa-lg", "url(file.png)",
        "url(fonts/x.woff)", ".fa-sun:before", ".later-one", "url(data:x/y,1)",
        "url('https://e.org/z')",
    )  # fmt: skip
    places = [css.find(one) for one in wanted]
    assert -1 not in places and places == sorted(places)
    assert "@import" not in css and "plain" not in css and "dog" not in css
    assert css.count("@charset") == 1


def test_scripts_wait_in_their_order(built):
    text = built[2]["book/plain.html"]
    assert '<script defer src="../_static/own.js?v=3">' in text
    assert '<script type="module">DOCUMENTATION_OPTIONS.pagename' in text
    assert "<script>let hint" in text  # as a module it would be seen by no other script
    assert "preload" not in text and "fontawesome" not in text


def test_bright_or_dark_is_settled_at_once(built):
    text = built[2]["book/plain.html"]
    assert '|| "auto"' not in text
    assert 'dataset.theme = ["light", "dark"].find(' in text


def test_scripts_stay_where_they_are_used(built):
    plain, formula, search = (built[2][f"{name}.html"] for name in
                              ("book/plain", "book/formula", "search"))  # fmt: skip
    assert "MathJax" not in plain and "tex-chtml" not in plain
    assert "<script>window.MathJax =" in formula
    address = "../_static/mathjax/tex-chtml.js?v=4"
    late = f'<script defer src="../_static/later.js" data-mathjax="{address}"></script></body>'
    assert late in formula
    assert '<script defer src="../_static/later.js"></script></body>' in plain
    names = ("searchtools.js", "language_data.js", "searchindex.js")
    assert not any(name in text for name in names for text in (plain, formula))
    places = [search.index(f"{name}") for name in names]
    assert places == sorted(places) and search.count("<script defer src=") == 5


def test_the_theme_measures_no_whole_pages(built):
    script = (built[0] / "_static" / "scripts" / "pydata-sphinx-theme.js").read_text()
    assert script == "before();const e=()=>{},t=_(e,300);0}after();\n\n"


def test_words_that_look_like_those_around_them_are_no_elements():
    classes = light_pages.colourless(CODE_STYLE)
    assert classes == {"n", "pre"}
    text = '<span class="n"><span class="pre">a</span></span><span class="o">+</span>'
    assert light_pages.without_spans(text, classes) == 'a<span class="o">+</span>'


def test_icons_are_drawn(built):
    text = built[2]["book/plain.html"]
    assert '<svg class="svg-inline--fa theme-switch fa-sun fa-lg" data-mode="light"' in text
    assert 'viewBox="0 0 512 512"><title>Light</title><path fill="currentColor" d="M2 2"' in text
    assert '<svg class="svg-inline--fa fa-bars" aria-hidden="true" viewBox="0 0 448 512">' in text
    assert '<i class="fas fa-unknown"></i>' in text


def test_figures_keep_their_shape_and_their_place(built):
    wanted = 'style="width: 413px; height: auto; aspect-ratio: 413 / 769.5;"'
    assert wanted in built[2]["book/plain.html"]


def test_some_pages_stay(built):
    _, before, after = built
    assert all(after[name] == before[name] for name in ("404.html", "index.html"))


def test_a_second_build_changes_nothing(built):
    folder, _, after = built
    run(folder)
    assert {name: (folder / name).read_text() for name in after} == after
    assert len(list((folder / "_static").glob("light-*.css"))) == 1


@pytest.mark.parametrize("refusal", [{"builder": "singlehtml"}, {"error": ValueError("no")}])
def test_other_builds_stay(tmp_path, refusal):
    (tmp_path / "_static").mkdir()
    page = Path(tmp_path, "page.html")
    page.write_text(PAGE.format(up="", body=""))
    run(tmp_path, **refusal)
    assert page.read_text() == PAGE.format(up="", body="")
