"""What the receptive-field explorer shows comes from the package and the records."""

import base64
import io
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import explorer
import explorer_data
import nbformat
import notebooks
import pytest
import torch
from PIL import Image

from resnet_lib import UserError, experiments, models, pyramid, records

LARGEST = 200_000  # bytes that the explorer may add to a page


@pytest.fixture(scope="module")
def page():
    return explorer_data.collect()[0]


def measured(heat, side=3, cell=5, width=10.0, square=15):
    values = bytes(heat).hex()
    return {"cell": cell, "side": side, "heat": values, "width": width, "square": square}


def record(experiment, variant, seed=0, **spec):
    """A record as the experiment writes it, with a small map for each stage."""
    setting = experiments.find(experiment)[variant]
    stages = {stage: measured([0, 1, 0, 1, 255, 1, 0, 1, 0]) for stage in ("C2", "C3", "C4", "C5")}
    config = {"spec": setting.spec | spec, "data": setting.data}
    result = {"before": stages, "after": stages}
    return records.Record(
        experiment, variant, seed, config, [], result, {}, "", records.now(), 1.0, ""
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only place where records are looked for; empty."""
    monkeypatch.setattr(records, "FOLDERS", (tmp_path,))
    return tmp_path


def keep(folder, *found):
    for one in found:
        path = folder / one.experiment / f"{one.variant}-seed{one.seed}.json"
        records.write(one, path)


def test_fields_are_the_packages(page):
    for network in ("resnet50", "resnet101"):
        for version, stride_in in (("v1", "1x1"), ("v1.5", "3x3")):
            with torch.device("meta"):
                computed = pyramid.receptive_field(models.build(network, stride_in=stride_in))
            shown = page["fields"][network][version]
            assert list(shown) == list(computed)
            for stage, field in computed.items():
                assert (shown[stage]["size"], shown[stage]["jump"]) == (field.size, field.jump)
                for unit in (0, 7):
                    first = shown[stage]["first"] + shown[stage]["jump"] * unit
                    assert (first, first + field.size - 1) == field.span(unit)
    assert page["fields"]["resnet50"]["v1"] != page["fields"]["resnet50"]["v1.5"]


def test_maps_have_the_size_that_a_picture_gives(page):
    model = models.build("resnet50", 2, width=1, in_channels=1).eval()
    with torch.no_grad():
        maps = model.features(torch.zeros(1, 1, explorer_data.SIDE, explorer_data.SIDE))
    shown = page["fields"]["resnet50"]["v1.5"]
    assert {stage: field["units"] for stage, field in shown.items()} == {
        stage: features.shape[-1] for stage, features in maps.items()
    }


def test_one_seeds_heat_stays_as_recorded():
    heat = [0, 3, 20, 77, 255, 128, 1, 0, 9]
    assert base64.b64decode(explorer_data.mean_heat([measured(heat)])["heat"]) == bytes(heat)


def test_several_seeds_count_alike_whatever_their_largest_value():
    # Sums of squares 100 and 10000: the maps, with the sum 1, are (0.36, 0.64) and (1, 0).
    one = measured([6, 8, 0, 0, 0, 0, 0, 0, 0], width=10.0, square=15)
    other = measured([100, 0, 0, 0, 0, 0, 0, 0, 0], width=13.0, square=20)
    mean = explorer_data.mean_heat([one, other])
    second = round(255 * (0.32 / 0.68) ** 0.5)
    assert list(base64.b64decode(mean["heat"])) == [255, second, 0, 0, 0, 0, 0, 0, 0]
    assert (mean["width"], mean["square"]) == (11.5, 17.5)


@pytest.mark.parametrize(
    ("maps", "words"),
    [
        ([measured([1] * 9), measured([1] * 9, cell=7)], "differ in their cells"),
        ([measured([1] * 8)], "3 x 3 cells has 8 values"),
        ([measured([0] * 9)], "3 x 3 cells"),
    ],
    ids=["cells", "length", "cold"],
)
def test_heat_that_cannot_be_shown_is_refused(maps, words):
    with pytest.raises(UserError, match=words):
        explorer_data.mean_heat(maps)


def test_measurements_that_are_there_are_shown_and_the_others_named(folder):
    keep(folder, *(record("receptive-fields", "resnet50-w16", seed) for seed in range(2)))
    keep(folder, record("receptive-fields-v1", "resnet101-w16"))
    page, files = explorer_data.collect()
    assert page["measured"]["resnet50"].keys() == {"v1.5"}
    assert page["measured"]["resnet50"]["v1.5"]["seeds"] == 2
    assert page["measured"]["resnet101"].keys() == {"v1"}
    names = [words.partition(" (")[0] for words in page["missing"]]
    assert names == ["ResNet-50 v1", "ResNet-101 v1.5"]
    assert len(files) == 3
    text = explorer.markup(page)
    assert "Not measured" in text and "ResNet-101 v1.5 (no record in" in text
    assert "16 base channels instead of 64" in text and "96 pixels" in text


def test_a_page_without_any_measurement_says_so(folder):
    page, files = explorer_data.collect()
    assert len(page["missing"]) == 4 and not files
    text = explorer.markup(page)
    assert "Not measured" in text and "base channels" not in text


def test_nothing_is_said_to_be_missing_when_all_is_there(folder):
    for experiment in ("receptive-fields", "receptive-fields-v1"):
        keep(folder, *(record(experiment, f"{name}-w16") for name in ("resnet50", "resnet101")))
    page, _ = explorer_data.collect()
    assert page["missing"] == []
    assert "Not measured" not in explorer.markup(page)


def test_records_of_another_network_are_refused(folder):
    keep(folder, record("receptive-fields", "resnet50-w16", stride_in="1x1"))
    with pytest.raises(UserError, match=r"resnet50-w16 is not resnet50 v1\.5"):
        explorer_data.collect()


def test_measurements_of_different_settings_are_refused(folder):
    keep(folder, record("receptive-fields", "resnet50-w16"))
    keep(folder, record("receptive-fields-v1", "resnet50-w16", width=8))
    with pytest.raises(UserError, match="differ in width and image size"):
        explorer_data.collect()


def test_a_broken_record_is_no_missing_one(folder):
    found = record("receptive-fields", "resnet50-w16")
    result = {"before": {"C2": measured([1] * 8)}, "after": found.result["after"]}
    keep(folder, replace(found, result=result))
    with pytest.raises(UserError, match="8 values"):
        explorer_data.collect()


def test_pictures_are_grey_and_of_the_size_that_the_page_believes(page):
    assert len(page["pictures"]) >= 2
    seen = set()
    for picture in page["pictures"]:
        head, data = picture["address"].split(",")
        assert head == "data:image/webp;base64"
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (picture["size"],) * 2 == (explorer_data.SIDE,) * 2
        red, _, blue = image.convert("RGB").split()
        assert red.tobytes() == blue.tobytes()
        assert len(set(red.tobytes())) > 100
        seen.add(data)
    assert len(seen) == len(page["pictures"])


def test_sheet_puts_images_in_rows():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    assert explorer_data.sheet(images)[::2, ::2].tolist() == [[0, 1], [2, 3]]


def test_explorer_is_light_and_its_data_can_be_read_back(page):
    text = explorer.markup(page)
    assert len(text.encode()) < LARGEST
    data = re.search(r'class="fe-data">(.*?)</script>', text, re.DOTALL)[1]
    assert json.loads(data) == page


def test_data_cannot_end_the_script_element():
    value = {"title": "</script><b>"}
    assert "</" not in explorer.embedded(value)
    assert json.loads(explorer.embedded(value)) == value


def test_table_lists_every_size_and_jump(page):
    rows = [row.strip("| ").split(" | ") for row in explorer.table(page).splitlines()[2:]]
    with torch.device("meta"):
        c5 = pyramid.receptive_field(models.build("resnet101", stride_in="1x1"))["C5"]
    units = explorer_data.SIDE // c5.jump
    last = ["ResNet-101 v1", "C5", str(c5.size), str(c5.jump), f"{units} × {units}"]
    assert len(rows) == 16
    assert last in rows
    assert all(len(row) == 5 for row in rows)


# Where it is put


NINTH = [path for path in notebooks.chapters() if path.stem.startswith("09_")]


@pytest.mark.parametrize("chapter", NINTH, ids=lambda path: path.stem)
def test_chapter_9_has_the_heading_once(chapter):
    """Another heading would leave the page without its explorer."""
    cells = notebooks.read(chapter).cells
    assert sum(explorer.has_heading(cell) for cell in cells) == 1


def inserted(*texts, suffix=".ipynb", kind=nbformat.v4.new_markdown_cell):
    """The sources of a page's cells after the extension has seen it."""
    cells = [kind(text) for text in texts]
    source = [nbformat.writes(nbformat.v4.new_notebook(cells=cells))]
    before = source[0]
    noted = []
    env = SimpleNamespace(doc2path=lambda name: f"{name}{suffix}", note_dependency=noted.append)
    explorer.insert(SimpleNamespace(env=env), "page", source)
    assert bool(noted) == (source[0] != before)  # what the page is to be built anew for
    changed = json.loads(source[0])["cells"]
    return ["".join(cell["source"]) for cell in changed], source[0] == before


def test_explorer_follows_the_cell_with_its_heading():
    texts = ("# 9. Scale", f"{explorer.HEADING}\n\nMove over it.", "## Next")
    sources, same = inserted(*texts)
    assert not same
    assert [sources[index] for index in (0, 1, 4)] == list(texts)
    assert explorer.MARK in sources[2] and "raw} html" in sources[2]
    assert "| ResNet-50 v1 | C2 |" in sources[3]


@pytest.mark.parametrize(
    "options",
    [{}, {"suffix": ".md"}, {"kind": nbformat.v4.new_code_cell}],
    ids=["in a sentence", "no notebook", "code"],
)
def test_other_pages_stay_as_they_are(options):
    text = f"See {explorer.HEADING}." if not options else explorer.HEADING
    _, same = inserted(text, **options)
    assert same


@pytest.mark.parametrize(("body", "count"), [(f"<div {explorer.MARK}>", 1), ("<div>", 0)])
def test_only_pages_with_the_explorer_load_its_files(body, count):
    files = []

    def add(name, **options):
        files.append(name)

    app = SimpleNamespace(add_css_file=add, add_js_file=add)
    explorer.add_files(app, "page", "page.html", {"body": body}, None)
    assert files == ["explorer.css", "explorer.js"] * count
