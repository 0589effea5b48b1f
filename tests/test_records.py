import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resnet_lib import UserError, experiments, records
from resnet_lib.experiments.attention import Attention
from resnet_lib.experiments.costs import Cost
from resnet_lib.experiments.serving import Serving
from resnet_lib.experiments.transfer import Transfer

RECORD = records.Record(
    experiment="quick", variant="b", seed=1, config={"lr": 0.1}, history=[{"epoch": 1}],
    result={"val_accuracy": 0.8}, environment=records.environment(), commit="abc",
    date=records.now(), seconds=1.5, command="python -m resnet_lib experiment quick",
)  # fmt: skip


def test_a_record_survives_the_file(tmp_path):
    path = tmp_path / "new" / "r.json"
    records.write(RECORD, path)
    assert records.read(path) == RECORD
    assert set(json.loads(path.read_text())) == {
        "experiment", "variant", "seed", "config", "history", "result", "environment", "commit",
        "date", "seconds", "command",
    }  # fmt: skip
    assert [found.name for found in path.parent.iterdir()] == ["r.json"]


def test_a_number_that_is_none_is_not_recorded(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(replace(RECORD, seconds=float("nan")), tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "no readable record"),
        ("[]", "not an object"),
        ("{}", "missing or unknown command"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, text, words):
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        records.read(path)


def test_a_record_without_its_command_is_refused(tmp_path):
    path = tmp_path / "r.json"
    records.write(RECORD, path)
    values = json.loads(path.read_text())
    del values["command"]
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="command"):
        records.read(path)


def test_load_orders_by_variant_and_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDERS", (tmp_path / "missing", tmp_path))
    for name, variant, seed in (("1", "b", 0), ("2", "a", 10), ("3", "a", 9)):
        record = replace(RECORD, variant=variant, seed=seed)
        records.write(record, tmp_path / "quick" / f"{name}.json")
    found = [(record.variant, record.seed) for record in records.load("quick")]
    assert found == [("a", 9), ("a", 10), ("b", 0)]
    with pytest.raises(UserError, match="no recorded experiment 'slow'; there are: quick"):
        records.load("slow")


def test_the_environment_names_the_machine_and_the_versions():
    found = records.environment("cpu")
    assert found["device"] == "cpu" and found["cuda"] is None
    assert found["torch"] == torch.__version__
    assert found["cpu_threads"] == torch.get_num_threads()
    assert len(found["name"]) > 2


def test_the_commit_is_gits(tmp_path, monkeypatch):
    def git(*words):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(records, "_HERE", tmp_path)
    assert records.commit() == ""
    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "first")
    assert records.commit() == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert records.commit() == git("rev-parse", "HEAD") + "-dirty"


def test_every_record_of_the_book_is_whole_and_says_how_to_repeat_it():
    results = records.FOLDERS[0]
    paths = sorted(results.glob("*/*.json"))
    assert paths
    for path in paths:
        record = records.read(path)
        name, precision = record.experiment, record.config["precision"]
        # A control in another number format lies beside the experiment.
        assert path.parent.name == (name if precision == "auto" else f"{name}-{precision}"), path
        assert f"python -m resnet_lib experiment {record.experiment} " in record.command, path
        assert record.commit and not record.commit.endswith("-dirty"), path
        # What looks at trained networks, times them, or fits a last layer only has no epochs.
        variant = experiments.find(record.experiment)[record.variant]
        fits = isinstance(variant, Transfer) and variant.start == "probe"
        trains = not (fits or isinstance(variant, (Attention, Cost, Serving)))
        assert bool(record.history) == trains and record.seconds > 0, path


def test_a_command_names_no_place_of_one_machine():
    out = str(Path("results").absolute() / "my runs")
    line = ["python", "-m", "resnet_lib", "experiment", "quick", "--out", out, "--limit", "9"]
    want = "python -m resnet_lib experiment quick --out 'my runs' --limit 9"
    assert records.portable(line) == want
    assert records.portable(["python", "--out", "book/results"]) == "python --out book/results"


def test_the_provenance_names_what_differs_and_says_once_what_is_shared():
    runs = [
        replace(RECORD, commit="a" * 40, date="2026-01-02T00:00:00+00:00", seconds=1800),
        replace(RECORD, commit="b" * 40, date="2026-01-01T00:00:00+00:00", seconds=3600, seed=2),
        replace(RECORD, commit="b" * 40, date="2026-01-03T00:00:00+00:00", seconds=3600, seed=2),
    ]
    first, machine, commits, command = records.provenance(runs).splitlines()
    assert first == "quick: 3 runs, 2 seeds, 2.5 hours of computing, 2026-01-01 to 2026-01-03"
    assert records.cpu_name() in machine and torch.__version__ in machine
    assert machine.count("thread") == 1
    assert commits == f"commit {'a' * 10}, {'b' * 10}"
    assert command == RECORD.command


def test_the_provenance_of_one_run_and_of_none():
    alone = replace(RECORD, command="python -m resnet_lib experiment quick --seeds 5 --out here")
    lines = records.provenance([alone]).splitlines()
    assert lines[0].startswith("quick: 1 run, 1 seed, 0.0 hours of computing, ")
    assert lines[-1] == "python -m resnet_lib experiment quick --seeds 5"
    with pytest.raises(UserError, match="no runs"):
        records.provenance([])
