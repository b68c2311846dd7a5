"""Tuned settings: chosen on validation rows alone, as many tries for all, as a fragment for other configs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from kd.ablate.grid import Grid, load_grid, make_grid
from kd.ablate.tuning import best, fields_of, fragment, tune, tuning_faults, variant_scores
from kd.cli import main
from kd.errors import ConfigError, RecordError
from kd.parsing import load
from kd.record import RunRecord, load_record, run_folder

BASE = """
data: {name: synthetic, modalities: 2, rows: 300, classes: 3, width: 4}
seeds: 2
nodes:
  one: {sees: [m0], steps: 20, model: {width: 4}}
  both: {sees: [m0, m1], steps: 20, model: {width: 4}}
"""
GRID = """
use: base.yaml
baselines:
  flat: {sees: [m0, m1]}
grid:
  nodes.*.optimizer.lr: [1.0e-6, 0.02]
  baselines.*.rows: [any, complete]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grid_over(axes: dict[str, list[float]]) -> Grid:
    nodes = {"one": {"sees": ["m0"]}, "both": {"sees": ["m0", "m1"]}}
    return make_grid({"data": {"name": "synthetic"}, "seeds": 2, "nodes": nodes, "grid": axes})


def scores(values: dict[str, list[list[float]]]) -> pd.DataFrame:
    """Return a table of validation scores: name -> for each variant, for each seed a score on two subsets' mean."""
    rows = [
        (variant, name, "float", seed, subset, 1 + subset.count("+"), 30, "accuracy", value + shift)
        for name, own in values.items()
        for variant, seeds in enumerate(own)
        for seed, value in enumerate(seeds)
        for subset, shift in (("m0", -0.1), ("m0+m1", 0.1))
    ]
    return pd.DataFrame(rows, columns=["variant", "node", "stage", "seed", "subset", "size", "n", "metric", "value"])


def record(failed: int = 0) -> RunRecord:
    return RunRecord(id="abc", verb="ablate", name="", config={}, metrics={"failed": failed})


def test_the_file_holds_each_methods_best_by_validation_and_fits_other_configs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "grid.yaml", "to=tuned.yaml", "json=true"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (set(told["settings"]), told["file"]) == ({"nodes", "baselines"}, "tuned.yaml")
    # At a rate of 1e-6 nothing is learnt in 20 steps.
    assert told["settings"]["nodes"] == {name: {"optimizer": {"lr": 0.02}} for name in ("one", "both")}
    sweep = run_folder("ablate", told["run"])
    validation = pd.read_parquet(sweep / load_record(sweep).files["validation"])
    assert told["scores"]["both"] == pytest.approx(
        validation[validation.node == "both"].groupby("variant").value.mean().max()
    )
    text = (folder / "tuned.yaml").read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    source = f"From grid.yaml, run {told['run']}, seeds 0 to 1, {validation.n.max()} validation rows."
    for line in (source, "2 configurations of every method", "No rows are locked"):
        assert any(line in own for own in head)
    (folder / "other.yaml").write_text("use: [base.yaml, tuned.yaml]\nbaselines: {flat: {sees: [m0]}}\n")
    study = load("other.yaml")
    assert [node.optimizer for node in study.nodes.values()] == [{"name": "adam", "lr": 0.02}] * 2
    assert main(["tune", "grid.yaml", "to=tuned.yaml"]) == 0
    out = capsys.readouterr().out
    assert f"both                     accuracy {told['scores']['both']:.4f} on validation" in out
    assert out.endswith("settings: tuned.yaml\n")
    assert (folder / "tuned.yaml").read_text() == text


def test_of_equal_scores_the_first_counts_and_each_method_has_its_own() -> None:
    grid = grid_over({"defaults.drop": [0.0, 0.1, 0.2]})
    values = {"one": [[0.5, 0.7], [0.5, 0.7], [0.1, 0.2]], "both": [[0.1, 0.2], [0.3, 0.3], [0.5, 0.4]]}
    found = best(grid, scores(values), record())
    assert found.settings == {"nodes": {"one": {"drop": 0.0}, "both": {"drop": 0.2}}}
    assert found.scores == {"one": pytest.approx(0.6), "both": pytest.approx(0.45)}
    assert found.tried == 3


def test_over_complete_only_the_score_with_everything_there_counts() -> None:
    grid = grid_over({"nodes.*.drop": [0.0, 0.1]})
    table = scores({name: [[0.5, 0.5], [0.5, 0.5]] for name in ("one", "both")})
    ahead = (table["variant"] == 1) & (table["node"] == "both")
    table.loc[ahead, "value"] += table.loc[ahead, "size"].map({1: -0.3, 2: 0.2})
    chosen = {over: best(grid, table, record(), over) for over in ("subsets", "complete")}
    assert {over: found.settings["nodes"]["both"] for over, found in chosen.items()} == {
        "subsets": {"drop": 0.0},
        "complete": {"drop": 0.1},
    }
    assert chosen["complete"].scores["both"] == pytest.approx(0.8)
    assert "where everything that a method sees is there" in fragment(grid, chosen["complete"])


def test_a_configuration_that_lacks_a_seed_is_passed_over() -> None:
    grid = grid_over({"nodes.*.drop": [0.0, 0.1]})
    table = scores({"one": [[0.5, 0.5], [0.9]], "both": [[0.5], [0.5]]})
    assert variant_scores(table, "one", 2).to_dict() == {0: pytest.approx(0.5)}
    diverged = scores({"one": [[0.5, 0.5], [0.9, float("nan")]]})
    assert variant_scores(diverged, "one", 2).to_dict() == {0: pytest.approx(0.5)}
    with pytest.raises(RecordError, match="both: no configuration gave a score for every seed"):
        best(grid, table, record())


def test_what_a_node_has_in_effect_is_written_and_not_what_the_axis_says() -> None:
    entry = {"steps": 40, "model": {"encoder": {"name": "mlp"}}, "learning_rates": {"m0": 0.1}}
    axes = ["defaults.steps", "defaults.model.encoder.kernel", "nodes.*.learning_rates.*"]
    assert fields_of(entry, axes) == {"steps": 40, "learning_rates": {"m0": 0.1}}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("grid.mask=[{name: complete}]", "grid.mask: no setting of single methods; tuning takes nodes.*.FIELD"),
        ("grid.nodes.one.drop=[0.1,0.2]", "grid.nodes.one.drop: no setting of single methods"),
        (
            "grid.nodes.*.drop=[0.0,0.1]",
            "grid: 4 configurations of nodes and 2 configurations of baselines",
        ),
        ("split={locked: mfeat, phase: final}", "split.phase: final tests on locked rows, which must choose nothing"),
    ],
)
def test_what_cannot_be_tuned_is_one_fault(folder: Path, override: str, expected: str) -> None:
    found = tuning_faults(load_grid("grid.yaml", [override]))
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize("name", ["grid.yaml", "base.yaml", "notes.txt", "."])
def test_a_file_of_another_kind_is_never_overwritten(folder: Path, name: str) -> None:
    (folder / "notes.txt").write_text("mine\n")
    before = {path: path.read_text() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(ConfigError, match="name a"):
        tune(load_grid("grid.yaml"), name)
    assert {path: path.read_text() for path in before} == before


def test_the_command_asks_for_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "grid.yaml"]) == 2
    assert "expected one to=FILE" in capsys.readouterr().err
    assert main(["tune", "grid.yaml", "to=tuned.yaml", "over=worst"]) == 2
    assert "over: expected subsets or complete, got 'worst'" in capsys.readouterr().err
