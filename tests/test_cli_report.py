"""``report``: one page a run, whose figures are those of the run, and which loads nothing."""

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from commands import fails
from PIL import Image
from toys import draw_noise

from resnet_lib import checkpoint, cli, records, train
from resnet_lib.cli import options

TRAIN = [
    "train", "--model", "resnet18", "--data", "fashion", "--epochs", "2", "--limit", "64",
    "--val-limit", "20", "--image-size", "16", "--width", "4", "--batch-size", "32",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run of train, whose report nobody has asked for yet."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert cli.main([*TRAIN, "--out", str(out)]) == 0
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """Noise in two classes, so that some answers are wrong, and a network tuned on it."""
    folder = tmp_path_factory.mktemp("data")
    names = [f"{number:02d}" for number in range(30)]
    draw_noise(folder / "noise", ("one & all", "two"), names)
    line = ["finetune", "--data", str(folder / "noise"), "--image-size", "16", "--epochs", "1"]
    line += ["--seed", "3", "--test-fraction", "0.4", "--device", "cpu"]
    assert cli.main([*line, "--out", str(folder / "run")]) == 0
    return folder / "run"


class Page(HTMLParser):
    """Tags that are open, attributes that name an address, texts, and pictures with their alt."""

    def __init__(self, path):
        super().__init__()
        self.open, self.addresses, self.pictures, self.tags = [], [], [], set()
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = re.sub(r"<style>.*?</style>|<[^>]*>", " ", self.source, flags=re.DOTALL)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        self.addresses += [found[name] for name in ("src", "href", "srcset") if name in found]
        if tag == "img":
            self.pictures.append((found["alt"], found["src"]))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"


def report(capsys, *line):
    """The page, and what was printed."""
    capsys.readouterr()
    assert cli.main(["report", *map(str, line), "--device", "cpu"]) == 0
    return Page(line[0] / "report.html"), capsys.readouterr().out


def evaluated(capsys, run, *more):
    line = ["evaluate", "--checkpoint", str(run / "best.safetensors"), "--data", "fashion"]
    capsys.readouterr()
    assert cli.main([*line, "--device", "cpu", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_page_stands_alone_and_is_whole(run, capsys):
    page, _ = report(capsys, run, "--limit", "40")
    assert page.open == [] and "script" not in page.tags and "link" not in page.tags
    assert page.addresses and all(a.startswith("data:image/png;base64,") for a in page.addresses)
    assert "url(" not in page.source and "@import" not in page.source
    for alt, source in page.pictures:
        assert len(alt) > 8
        picture = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        assert picture.size >= (16, 16)
    before = page.source
    again, _ = report(capsys, run, "--limit", "40")
    assert again.source == before


def test_figures_are_those_of_evaluate(run, capsys):
    expected = evaluated(capsys, run, "--limit", "40")
    page, printed = report(capsys, run, "--limit", "40")
    assert "Results on the test part" in page.text
    for key in ("accuracy", "mean_precision", "mean_accuracy", "loss", "calibration_error"):
        assert f"{expected[key]:.4f}" in page.text, key
    for name, recall in zip(expected["classes"], expected["recall"], strict=True):
        row = re.search(rf'<th scope="row">{re.escape(name)}</th>(.*?)</tr>', page.source)[1]
        assert f">{recall:.3f}<" in row and ">4<" in row, name
    assert printed == f"report in {run / 'report.html'}\n"
    record = records.read(run / "record.json")
    assert f"{record.result['val_accuracy']:.4f} on the validation part" in page.text
    assert record.command in page.text and record.environment["torch"] in page.text
    assert re.search(r"spec\.width</th><td>4<", page.source)


def test_mistakes_are_the_surest_wrong_answers(run, capsys):
    page, _ = report(capsys, run, "--limit", "40")
    said = re.findall(r'alt="([^"]*), taken for ([^"]*)">.*? with (\d\.\d\d)', page.source)
    assert len(said) == 12 and all(label != answer for label, answer, _ in said)
    sure = [float(probability) for *_, probability in said]
    assert sure == sorted(sure, reverse=True)


def test_another_part_says_that_it_flatters(run, capsys):
    expected = evaluated(capsys, run, "--split", "val", "--limit", "20")
    page, printed = report(capsys, run, "--split", "val", "--limit", "20")
    assert "Results on the val part" in page.text and f"{expected['accuracy']:.4f}" in page.text
    assert "chosen on the validation part" in page.text and "chosen on" in printed


def test_finetune_is_measured_on_the_part_that_it_held_out(tuned, capsys):
    held = json.loads((tuned / "report.json").read_text())
    assert 0 < held["accuracy"] < 1, "the test needs mistakes"
    page, _ = report(capsys, tuned)
    assert held["images"] == 24
    low, high = held["accuracy_interval"]
    assert f"{held['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})" in page.text
    assert "one &amp; all" in page.source and "one & all" not in page.source
    for wrong in held["mistakes"]:
        name = wrong["image"].rpartition("/")[2]
        assert re.search(rf"with {wrong['probability']:.2f}\s*<br><small>[^<]*{name}", page.source)


def test_a_run_that_was_interrupted_has_its_curves(run, capsys):
    (run / "record.json").unlink()
    expected = evaluated(capsys, run, "--limit", "40")
    page, printed = report(capsys, run, "--limit", "40")
    assert "last state is that after epoch 2 of 2" in page.text and "--resume" in printed
    assert f"{expected['accuracy']:.4f}" in page.text and "Curves" in page.text
    (run / "best.safetensors").unlink()
    page, printed = report(capsys, run)
    assert "No figures on the test part: best.safetensors is missing" in page.text
    assert "No figures" in printed and len(page.pictures) == 1 and "Curves" in page.text


def test_an_interrupted_run_on_a_folder_does_not_guess_the_parts(tuned, tmp_path, capsys):
    run = shutil.copytree(tuned, tmp_path / "run")
    (run / "record.json").unlink()
    page, _ = report(capsys, run)
    assert "only a run that has ended says how its folder of images was divided" in page.text


def test_a_probe_has_no_curves(tuned, tmp_path, capsys):
    line = records.read(tuned / "record.json").command.split()[3:]
    line[line.index("--out") + 1] = str(tmp_path / "probe")
    assert cli.main([*line, "--probe"]) == 0
    page, _ = report(capsys, tmp_path / "probe")
    assert "there are no curves" in page.text and "Confusion" in page.text


def test_data_that_have_moved_are_named_again(tuned, tmp_path, capsys):
    run = shutil.copytree(tuned, tmp_path / "run")
    words = json.loads((run / "record.json").read_text())
    old = words["config"]["data"]
    words["command"] = words["command"].replace(old, str(tmp_path / "gone"))
    (run / "record.json").write_text(json.dumps(words))
    page, _ = report(capsys, run)
    assert f"test part: there is no folder {tmp_path / 'gone'}: say with --data" in page.text
    page, _ = report(capsys, run, "--data", old)
    accuracy = json.loads((run / "report.json").read_text())["accuracy"]
    assert f"{accuracy:.4f}" in page.text
    assert "there is no folder" in fails(capsys, "report", run, "--data", tmp_path / "gone")


def test_mistakes_of_the_user_get_one_line(run, tmp_path, capsys):
    assert "holds no run: give the folder" in fails(capsys, "report", tmp_path)
    assert "invalid choice: 'all'" in fails(capsys, "report", run, "--split", "all")
    (run / "record.json").write_text("{}")
    assert "is no record of a run" in fails(capsys, "report", run)
    (run / "record.json").unlink()
    (run / checkpoint.LAST).write_bytes(b"PK")
    assert "truncated or not a checkpoint" in fails(capsys, "report", run)


def test_images_are_normalised_as_the_network_learned(run, monkeypatch):
    evaluate, load, seen = train.evaluate, options.load_data, []

    def brighter(*arguments, **settings):
        return replace(load(*arguments, **settings), mean=(0.9,), std=(0.9,))

    def watched(model, part, place):
        seen.append((list(part.mean), list(part.std)))
        return evaluate(model, part, place)

    monkeypatch.setattr(options, "load_data", brighter)
    monkeypatch.setattr(train, "evaluate", watched)
    assert cli.main(["report", str(run), "--limit", "20", "--device", "cpu"]) == 0
    learned = checkpoint.restore_model(run / "best.safetensors")[1]["data"]
    assert seen == [(learned["mean"], learned["std"])]
