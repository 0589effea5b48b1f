"""Make the finished pages light, so that a phone shows them soon.

The theme links ten style sheets and a dozen scripts, all of which a browser reads before it shows
anything, and draws its fifteen icons with a script of 1.5 MB. Afterwards a page has one style
sheet, with the rules that some page or script can use, the icons as drawings, and scripts that run
once the page stands, or later still: see ``later.js``. Looks and behaviour stay.
"""

import hashlib
import os
import re
from pathlib import Path

SHEET = re.compile(r'<link (?=[^>]*rel="stylesheet")[^>]*href="([^"?]+)[^>]*>')
IMPORT = re.compile(r'@import "([^"]+)";')
FILE = re.compile(r"""url\((?!['"]?(?:data:|https?:|#))['"]?([^'")]+)['"]?\)""")
NOTICE = re.compile(r"/\*!.*?\*/", re.DOTALL)  # of a copyright, which must stay
REMARK = re.compile(r'/\*.*?\*/|@charset "[^"]*";', re.DOTALL)
RULE = re.compile(r"([^{};]*)\{([^{}]*)\}")
EMPTY = re.compile(r"@[^{};]*\{\s*\}")
WITHIN = re.compile(r"\[[^\]]*\]|\((?:[^()]|\([^()]*\))*\)")  # attributes, and :not(...) and so on
CLASS = re.compile(r"\.(-?[A-Za-z_](?:[\w-]|\\.)*)")
# In scripts: the beginning of a name that is put together, such as `bs-${name}`.
BEGINNING = re.compile(r"""([\w-]+-)(?:\$\{|["'] ?\+)""")
ICON_SCRIPT = re.compile(r"<script [^>]*/fontawesome\.js[^>]*></script>")
ICON = re.compile(r'<(i|span) class="([^"]*\bfa-[^"]*)"([^>]*)></\1>')
DRAWING = re.compile(r'"?([a-z][\w-]*)"?:\[(\d+),(\d+),\[[^\]]*\],"[0-9a-f]+","([^"]+)"\]')
ICON_STYLE = """\
.svg-inline--fa { box-sizing: content-box; display: inline-block; height: 1em }
.svg-inline--fa { overflow: visible; vertical-align: -.125em }
.svg-inline--fa.fa-lg { vertical-align: -.2em }
"""  # as the icons' script has it

PRELOAD = re.compile(r'<link rel="preload" as="script"[^>]*>')  # would come before the style
SEARCH = re.compile(r'<script src="[^"]*(?:search(?:tools|index)|language_data)\.js[^>]*></script>')
MATHJAX = re.compile(r'<script [^>]*src="([^"]*/mathjax/[^"]*)"[^>]*></script>')
MATHJAX_OPTIONS = re.compile(r"<script>window\.MathJax.*?</script>")
# The theme's own way to find what scrolls; later.js has another.
SCROLLS = re.compile(
    r'window\.addEventListener\("resize",(\w+)\),new MutationObserver\(\1\)\.observe\('
    r'document\.getElementById\("main-content"\),\{subtree:!0,childList:!0\}\),\w+\(\)'
)
PROMPT = re.compile(r"<script (?![^>]*\bdefer\b)(?=[^>]*\bsrc=)")
# Bright or dark is settled before anything shows: else the whole page is styled a second time, and
# a reader in the dark sees it flash.
UNSETTLED = 'localStorage.getItem("theme") || "auto"'
SETTLED = """["light", "dark"].find((one) => one === document.documentElement.dataset.mode) ??
      (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")"""
SOURCE_MAP = re.compile(r"//# sourceMappingURL=.*")  # of the unchanged script
CODE_RULE = re.compile(
    r"^(.*)\.highlight (?:\.(\w+) )?\{(?:[^}]*;)? color: (#\w+) \}", re.MULTILINE
)
SIZE = re.compile(r'style="width: ([\d.]+)px; height: ([\d.]+)px;"')


def relative(path, folder):
    return Path(os.path.relpath(path, folder)).as_posix()


def read(sheet, folder):
    """A style sheet with those it imports, its addresses as seen from the folder."""
    text = sheet.read_text(encoding="utf-8")
    text = FILE.sub(lambda found: f"url({relative(sheet.parent / found[1], folder)})", text)
    return IMPORT.sub(lambda found: read(sheet.parent / found[1], folder), text)


def pruned(css, words, beginnings):
    """The rules without those for classes that no element can have.

    words: all that stand in pages and scripts. beginnings: of names that scripts put together.
    """

    def possible(selector):
        names = CLASS.findall(selector)
        return all("\\" in name or name in words or name.startswith(beginnings) for name in names)

    def kept(rule):  # commas within parentheses are none between selectors
        return rule[0] if any(map(possible, WITHIN.sub("", rule[1]).split(","))) else ""

    return EMPTY.sub("", RULE.sub(kept, css))


def merged(sheets, folder, words, beginnings):
    """One style sheet for all these, to lie in the folder."""
    css = "\n".join(read(sheet, folder) for sheet in sheets)
    notices = dict.fromkeys(NOTICE.findall(css))
    css = pruned(REMARK.sub("", css), words, beginnings)
    return "\n".join(['@charset "utf-8";', *notices, ICON_STYLE, css])


def with_icons(text, known):
    """The page with its icons as drawings; one that isn't known is left to the icons' font."""

    def draw(found):
        _, classes, rest = found.groups()
        names = [one[3:] for one in classes.split() if one[3:] in known]
        if not names:
            return found[0]
        width, height, path = known[names[0]]
        kept = " ".join(one for one in classes.split() if one not in ("fa-solid", "fas"))
        title = re.search(r'title="([^"]*)"', rest)
        role = 'role="img"' if title else 'aria-hidden="true"'
        label = f"<title>{title[1]}</title>" if title else ""
        return (
            f'<svg class="svg-inline--fa {kept}"{rest} {role} viewBox="0 0 {width} {height}">'
            f'{label}<path fill="currentColor" d="{path}"/></svg>'
        )

    return ICON.sub(draw, ICON_SCRIPT.sub("", text))


def with_late_scripts(text, name, static):
    """The page with the scripts that it needs, to run when all of it is there.

    static: where the folder of scripts lies, as seen from the page.
    """
    text = PRELOAD.sub("", text).replace(UNSETTLED, SETTLED)
    if name != "search.html":  # no other page finds anything while you type
        text = SEARCH.sub("", text)
    mathjax = MATHJAX.search(text) if 'class="math' in text else None
    address = f' data-mathjax="{mathjax[1]}"' if mathjax else ""
    text = MATHJAX.sub("", text if mathjax else MATHJAX_OPTIONS.sub("", text))
    text = text.replace("</body>", f'<script src="{static}/later.js"{address}></script></body>')
    text = PROMPT.sub("<script defer ", text)
    # These lines need a script before them. A module waits for it, with no file of its own either.
    return re.sub(r"<script>(?=DOCUMENTATION_OPTIONS\.)", '<script type="module">', text)


def colourless(css):
    """The classes of code that look like the code around them, in every theme; and docutils' pre.

    They are half of a chapter's elements, each of which a browser would have to place.
    """
    rules = CODE_RULE.findall(css)
    around = {theme: colour for theme, name, colour in rules if not name}
    coloured = {name for theme, name, colour in rules if colour != around.get(theme)}
    return {name for _, name, _ in rules if name} - coloured | {"pre"}


def without_spans(text, classes):
    """The page whose words of these classes stand there as plain text."""
    names = "|".join(sorted(classes))
    inner = re.compile(rf'<span class="(?:{names})">([^<]*)</span>')
    return inner.sub(r"\1", inner.sub(r"\1", text))  # some are within another


def lighten(app, error):
    """Rewrite the pages, except that for unknown addresses, whose addresses have no folder."""
    if error or app.builder.name != "html":
        return
    static = Path(app.outdir, "_static").resolve()
    pages = [page for page in static.parent.rglob("*.html") if static not in page.parents]
    pages = {page: page.read_text(encoding="utf-8") for page in pages}
    theme = static / "scripts" / "pydata-sphinx-theme.js"
    changed = SCROLLS.sub("0", theme.read_text(encoding="utf-8"))
    theme.write_text(SOURCE_MAP.sub("", changed), encoding="utf-8")
    scripts = (*static.glob("*.js"), *static.glob("scripts/*.js"))  # MathJax has its own styles
    scripts = {script.name: script.read_text(encoding="utf-8") for script in scripts}
    icons = DRAWING.findall(scripts.pop("fontawesome.js", ""))
    icons = {name: drawing for name, *drawing in icons}  # the solid ones, which come last
    words = set(re.findall(r"[\w-]+", " ".join((*pages.values(), *scripts.values()))))
    beginnings = tuple(set(BEGINNING.findall(" ".join(scripts.values()))))
    made, plain = {}, colourless((static / "pygments.css").read_text(encoding="utf-8"))
    for page, text in pages.items():
        sheets = tuple((page.parent / address).resolve() for address in SHEET.findall(text))
        if page.name == "404.html" or len(sheets) < 2:  # one: from an earlier build
            continue
        if sheets not in made:
            css = merged(sheets, static, words, beginnings)
            made[sheets] = static / f"light-{hashlib.sha256(css.encode()).hexdigest()[:12]}.css"
            made[sheets].write_text(css, encoding="utf-8")
        link = f'<link rel="stylesheet" href="{relative(made[sheets], page.parent)}" />'
        before, _, after = SHEET.split(text, maxsplit=1)
        text = before + link + SHEET.sub("", after)
        text = with_late_scripts(text, page.name, relative(static, page.parent))
        # A figure too wide for a phone becomes smaller; with its height fixed it would be squeezed.
        text = SIZE.sub(r'style="width: \1px; height: auto; aspect-ratio: \1 / \2;"', text)
        text = without_spans(with_icons(text, icons), plain)
        page.write_text(text, encoding="utf-8")


def setup(app):
    app.connect("build-finished", lighten, priority=900)  # after all that look at the pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
