"""Draws which chapter needs which, as SVG in layers from top to bottom.

Colours are those of the text around, so that the drawing fits a bright page, a dark one, and
paper. Needs that follow from others are left out: a chapter that needs 8 needs what 8 needs.
"""

import html
import textwrap

BOX, HEIGHT = 164, 58  # pixels
GAP, RISE = 14, 34  # between two boxes of a layer, between two layers
LANE = 12  # a line that passes a layer
LETTERS = 22  # in a line of a box
SWEEPS = 12  # over the layers, to untangle the lines


def ancestors(number, needs):
    """All that a chapter needs, directly or not."""
    found = set()
    for one in needs[number]:
        found |= {one} | ancestors(one, needs)
    return found


def direct(needs):
    """The needs without those that follow from others."""
    reduced = {}
    for number, wanted in needs.items():
        implied = set().union(*(ancestors(one, needs) for one in wanted)) if wanted else set()
        reduced[number] = [one for one in wanted if one not in implied]
    return reduced


def levels(needs):
    """{number: layer}, each one below all that it needs."""
    found = {}
    for number in sorted(needs):
        found[number] = max((found[one] + 1 for one in needs[number]), default=0)
    return found


def layers(needs):
    """([[node …] …] from the top, {node: the nodes above it}).

    A line that passes a layer is a node there, ``(number, layer)``, and all lines that come from
    one chapter share it.
    """
    level = levels(needs)
    rows = [[] for _ in range(max(level.values()) + 1)]
    above = {number: [] for number in needs}
    for number in sorted(needs):
        rows[level[number]].append(number)
        for one in needs[number]:
            last = one
            for passed in range(level[one] + 1, level[number]):
                lane = (one, passed)
                if lane not in above:
                    above[lane] = [last]
                    rows[passed].append(lane)
                last = lane
            above[number].append(last)
    return rows, above


def width(node):
    return LANE if isinstance(node, tuple) else BOX


def spread(row):
    """{node: the middle of it}, the row around 0."""
    total, at = sum(map(width, row)) + GAP * (len(row) - 1), 0
    found = {}
    for node in row:
        found[node] = at + width(node) / 2 - total / 2
        at += width(node) + GAP
    return found


def place(rows, above):
    """{node: x}: each row in the order of the mean place of its neighbours, down and up again."""
    below = {node: [other for other in above if node in above[other]] for node in above}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        places = {node: x for row in rows for node, x in spread(row).items()}
        for row in rows if down else reversed(rows):

            def wish(node, places=places, neighbours=neighbours):
                wanted = [places[other] for other in neighbours[node]]
                return sum(wanted) / len(wanted) if wanted else places[node]

            row.sort(key=wish)
            places |= spread(row)
    return {node: x for row in rows for node, x in spread(row).items()}


def box(x, y, number, title, note):
    """A chapter's box with its number, its title in up to two lines, and the note."""
    lines = textwrap.wrap(f"{number}. {title}", LETTERS, max_lines=2, placeholder=" …")
    middle = y + HEIGHT / 2 - 8 * len(lines) + 5
    texts = [
        f'<text x="{x:g}" y="{middle + 16 * index:g}">{html.escape(line)}</text>'
        for index, line in enumerate(lines)
    ]
    texts.append(
        f'<text x="{x:g}" y="{middle + 16 * len(lines):g}" font-size="11">'
        f"{html.escape(note)}</text>"
    )
    shape = (
        f'<rect x="{x - BOX / 2:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="6" '
        'fill="none" stroke="currentColor" stroke-width="1.2"/>'
    )
    return shape + "".join(texts)


def draw(chapters, needs, description):
    """The SVG of chapters {number: (title, note)} and their needs {number: [number …]}."""
    needs = direct(needs)
    rows, above = layers(needs)
    places = place(rows, above)
    level = {node: index for index, row in enumerate(rows) for node in row}
    left = min(x - width(node) / 2 for node, x in places.items()) - 4
    right = max(x + width(node) / 2 for node, x in places.items()) + 4
    parts = []
    for node, others in above.items():
        x, top = places[node] - left, 4 + level[node] * (HEIGHT + RISE)
        for other in others:
            start = top - RISE
            middle = start + RISE / 2
            parts.append(
                f'<path d="M{places[other] - left:g} {start:g} C{places[other] - left:g} '
                f'{middle:g} {x:g} {middle:g} {x:g} {top:g}" '
                'fill="none" stroke="currentColor" stroke-width="1.4"/>'
            )
        if isinstance(node, tuple):
            parts.append(
                f'<path d="M{x:g} {top:g}V{top + HEIGHT:g}" '
                'fill="none" stroke="currentColor" stroke-width="1.4"/>'
            )
        else:
            parts.append(box(x, top, node, *chapters[node]))
    size = right - left, len(rows) * (HEIGHT + RISE) - RISE + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]:g} {size[1]:g}" '
        f'role="img" aria-label="{html.escape(description)}" width="{size[0]:g}" '
        'style="max-width: 100%; height: auto" font-family="sans-serif" font-size="13" '
        f'text-anchor="middle"><g fill="currentColor">{"".join(parts)}</g></svg>'
    )
