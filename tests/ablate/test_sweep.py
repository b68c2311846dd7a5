"""Sweeps: stacks that are what separate trainings are, one table whatever the processes, kills and failures."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import torch

from kd.ablate import ablate, make_plan
from kd.ablate.grid import Grid
from kd.cli import main
from kd.models.package import load_package
from kd.record import RunRecord, load_record, run_folder
from kd.report.ablation import gather
from kd.statistics.significance import holm
from kd.study import run
from kd.study.replicate import Silent

WEIGHTS = {"edges.*.weight": [0.5, 2.0]}
DIVERGES = {"nodes.student.optimizer": [{"name": "adam"}, {"name": "sgd", "lr": 1e30}]}


def results(folder: Path) -> str:
    return str(load_record(folder).metrics["results"])


def records(grid: Grid) -> dict[tuple[object, str], RunRecord]:
    return {
        (cell.place, cell.node): load_record(run_folder("train", cell.run))
        for cell in make_plan(grid).cells
        if (run_folder("train", cell.run) / "record.json").exists()
    }


class Heard(Silent):
    """A listener that keeps what it hears of stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, text: str) -> None:
        self.stages.append(text)


def test_every_cell_has_a_record_and_rows_in_one_table(small_grid) -> None:
    grid = small_grid(WEIGHTS)
    folder = ablate(grid)
    assert len(records(grid)) == len(make_plan(grid).cells) == 12
    table = pd.read_parquet(folder / "results.parquet")
    assert set(table["edges.*.weight"]) == {0.5, 2.0}
    assert set(table.node) == {"one", "two", "student", "product", "Bayes rule"}
    student = table[(table.node == "student") & (table.metric == "accuracy")]
    assert len(student) == 2 * 2 * 3  # weights, seeds, subsets
    cells = pd.read_parquet(folder / "cells.parquet")
    assert len(cells) == 12
    assert set(cells.failed) == {""}
    page = (folder / "report.html").read_text()
    assert all(word in page for word in ("edges.*.weight", "student", "<svg"))
    assert "http" not in page.replace("http://www.w3.org", "")
    areas = pd.read_parquet(folder / "areas.parquet").query(
        "node == 'student' and metric == 'accuracy' and variant == 0"
    )
    shown = gather(load_record(folder), folder)["summaries"][""].query("node == 'student'")["area"].iloc[0]
    assert shown.startswith(f"{100 * areas['value'].mean():.1f}")


def test_the_bayes_rule_is_a_bound_over_all_settings_at_once(small_grid) -> None:
    node = {"sees": ["m0", "m1"], "steps": 20, "model": {"width": 4}}
    plain = {"nodes": {"both": node}, "edges": {}, "ensembles": {}, "contrasts": {}}
    folder = ablate(small_grid({"nodes.*.optimizer.lr": [0.001, 0.003]}, **plain))
    found = pd.read_parquet(folder / "bound.parquet")
    alone = [pd.read_parquet(run_folder("run", run) / "bound.parquet") for run in load_record(folder).parents.values()]
    assert found["p"].tolist() == [p for frame in alone for p in frame["p"]]
    assert found["adjusted"].tolist() == pytest.approx(holm(found["p"].to_numpy()).tolist())
    said = f"no method passes the Bayes rule (Holm over {len(found)} cells)"
    assert json.loads((folder / "provenance.json").read_text())["bayes_bound"] == said
    assert f"{said[0].upper()}{said[1:]}." in gather(load_record(folder), folder)["answer"]


def test_seeds_of_mask_and_split_are_axes_and_their_shares_of_variance_are_told(small_grid) -> None:
    node = {"sees": ["m0", "m1"], "steps": 20, "model": {"width": 4}}
    alone = {"nodes": {"both": node}, "edges": {}, "ensembles": {}, "contrasts": {}}
    grid = small_grid({"mask_seed": [0, 1], "split": {"seed": [0, 1]}}, **alone)
    folder = ablate(grid)
    masks = {place[:2]: record.mask for (place, _), record in records(grid).items()}
    assert masks[0, 0] == masks[0, 1] != masks[2, 0]
    told = gather(load_record(folder), folder)
    assert list(told["variance"].columns) == ["node", "score", "mask, SD", "split, SD", "training, SD", "rest, SD"]
    assert "Where the variance comes from" in (folder / "report.html").read_text()
    assert "`both`, mean: " in (folder / "report.md").read_text()


def test_a_training_of_a_stack_is_recorded_like_one_alone(small_grid) -> None:
    stacked, alone = (small_grid(WEIGHTS, replicas=replicas) for replicas in (128, 1))
    ablate(stacked)
    ablate(alone)
    ours, theirs = records(stacked), records(alone)
    for key, record in ours.items():
        other = theirs[key]
        same = ("verb", "name", "seed", "data", "mask", "code", "threads", "files", "selected_on", "saw")
        assert {name: getattr(record, name) for name in same} == {name: getattr(other, name) for name in same}
        assert set(record.metrics) == set(other.metrics)
        assert record.metrics["steps"] == other.metrics["steps"]
        assert len(record.config["stack"]["members"]) > 1
        curves = [pd.read_parquet(run_folder("train", r.id) / "curves.parquet") for r in (record, other)]
        assert set(curves[0].quantity) == set(curves[1].quantity)
        assert len(curves[0]) == len(curves[1])
        merged = curves[0].merge(curves[1], on=["epoch", "quantity"])
        # The noise of dropout is another, the rest is the same.
        assert abs(merged.value_x - merged.value_y).mean() < 0.1


def test_without_noise_a_stack_trains_what_each_would_be_alone(small_grid, small_study) -> None:
    nodes = {name: asdict(node) for name, node in small_study().nodes.items()}
    for node in nodes.values():
        node["model"] = {"width": 8, "encoder": {"name": "mlp", "hidden": [8], "dropout": 0.0}}
    stacked, alone = (small_grid(WEIGHTS, replicas=replicas, nodes=nodes) for replicas in (128, 1))
    ablate(stacked)
    ablate(alone)
    theirs = records(alone)
    for key, record in records(stacked).items():
        ours = load_package(run_folder("train", record.id) / "package").state_dict()
        other = load_package(run_folder("train", theirs[key].id) / "package").state_dict()
        assert record.metrics["best_round"] == theirs[key].metrics["best_round"]
        for name, value in ours.items():
            torch.testing.assert_close(value, other[name], atol=1e-4, rtol=1e-4)


def test_trainings_alone_are_those_of_a_plain_run(small_grid, small_study) -> None:
    folder = run(small_study())
    grid = small_grid(replicas=1)
    assert {cell.run for cell in make_plan(grid).cells} == set(load_record(folder).parents.values())
    before = {cell.run: stamp(cell.run) for cell in make_plan(grid).cells}
    ablate(grid)
    assert {i: stamp(i) for i in before} == before


def stamp(run_id: str) -> int:
    return (run_folder("train", run_id) / "record.json").stat().st_mtime_ns


def test_one_and_two_processes_give_the_same_table(small_grid, tmp_path, monkeypatch) -> None:
    folder = ablate(small_grid(WEIGHTS, replicas=3))
    table = pd.read_parquet(folder / "results.parquet")
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "other"))
    other = ablate(small_grid(WEIGHTS, replicas=3, jobs=2))
    pd.testing.assert_frame_equal(pd.read_parquet(other / "results.parquet"), table)
    assert results(other) == results(folder)


def test_a_second_sweep_trains_nothing_and_a_lost_cell_comes_back_to_the_same_bits(small_grid) -> None:
    grid = small_grid(WEIGHTS)
    folder = ablate(grid)
    runs = sorted({cell.run for cell in make_plan(grid).cells if cell.node == "student"})
    before = {i: load_record(run_folder("train", i)).checksums["weights"] for i in runs}
    stamps = {i: stamp(i) for i in runs}
    assert [load_record(folder).metrics[name] for name in ("trainings", "reused")] == [8, 0]
    heard = Heard()
    assert ablate(grid, heard) == folder
    assert {i: stamp(i) for i in runs} == stamps
    assert heard.stages[-1] == "table; trainings: computed 0, reused 8"
    for file in sorted(run_folder("train", runs[0]).rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    ablate(grid, heard)
    assert heard.stages[-1] == f"table; trainings: computed {len(runs)}, reused {8 - len(runs)}"
    assert {i: load_record(run_folder("train", i)).checksums["weights"] for i in runs} == before
    assert {i: stamp(i) for i in runs[1:]} == {i: stamps[i] for i in runs[1:]}


@pytest.mark.parametrize("replicas", [128, 1])
def test_cells_that_fail_are_listed_with_their_reason_and_stop_no_other(small_grid, replicas) -> None:
    folder = ablate(small_grid(DIVERGES, replicas=replicas))
    cells = pd.read_parquet(folder / "cells.parquet")
    failed = cells[cells.failed != ""]
    assert set(failed.node) == {"student"}
    assert len(failed) == 2
    assert all("lower optimizer.lr" in reason for reason in failed.failed)
    table = pd.read_parquet(folder / "results.parquet")
    assert set(table[table.node == "student"].variant) == {0}
    assert set(table[table.node == "product"].variant) == {0, 1}
    assert "lower optimizer.lr" in (folder / "report.html").read_text()
    assert load_record(folder).metrics["failed"] == 2


def test_a_variant_that_cannot_run_is_listed_and_the_others_run(small_grid) -> None:
    grid = small_grid({"mask": [{"name": "mcar", "rate": 0.2}, {"name": "mcar", "rate": 0.9}]})
    folder = ablate(grid)
    cells = pd.read_parquet(folder / "cells.parquet")
    failed = cells[cells.failed != ""]
    assert set(failed.variant) == {1}
    assert len(failed) == 2 * 3
    assert all("at most 0.5 is possible" in reason for reason in failed.failed)
    assert set(pd.read_parquet(folder / "results.parquet").variant) == {0}
    assert "at most 0.5 is possible" in (folder / "report.html").read_text()


def test_what_is_made_from_a_failed_teacher_fails_with_its_name(small_grid) -> None:
    axes = {"nodes.one.optimizer": [{"name": "adam"}, {"name": "sgd", "lr": 1e30}]}
    cells = pd.read_parquet(ablate(small_grid(axes)) / "cells.parquet")
    reasons = dict(zip(cells.node, cells.failed, strict=True))  # the last variant's
    assert "lower optimizer.lr" in reasons["one"]
    assert reasons["student"] == "one: failed, and student is made from it"
    assert reasons["two"] == ""
    assert set(cells[cells.variant == 0].failed) == {""}


def test_an_early_stopped_replica_takes_fewer_steps_than_its_neighbours(small_grid, small_study) -> None:
    nodes = {name: asdict(node) | {"patience": 2, "steps": 200} for name, node in small_study().nodes.items()}
    for replicas in (128, 1):
        grid = small_grid(replicas=replicas, nodes=nodes, seeds=4)
        ablate(grid)
        steps = [record.metrics["steps"] for record in records(grid).values()]
        assert min(steps) < max(steps) <= 200
        for record in records(grid).values():
            rounds = record.metrics["steps"] // 10
            assert rounds == 20 or rounds - 1 - record.metrics["best_round"] == 2


CONFIG = """
data: {name: synthetic, modalities: 2, rows: 400, classes: 3, width: 4}
mask: {name: severe, complete: 40, pool: 60}
defaults: {steps: 60, validate_every: 20, model: {width: 8, encoder: {name: mlp, hidden: [8]}}}
seeds: 4
replicas: 4
nodes:
  one: {sees: [m0]}
  two: {sees: [m1]}
  student: {sees: [m0, m1], rows: complete}
edges:
  one: {teacher: one, student: student}
  two: {teacher: two, student: student}
grid:
  edges.*.weight: [0.5, 1, 2]
"""


def test_killed_sweeps_go_on_with_finished_cells_untouched_to_the_same_table(tmp_path, capsys, monkeypatch) -> None:
    config = tmp_path / "grid.yaml"
    config.write_text(CONFIG)
    assert main(["ablate", str(config), "json=true"]) == 0
    expected = json.loads(capsys.readouterr().out)["metrics"]["results"]
    other = tmp_path / "killed"
    monkeypatch.setenv("KD_RUNS", str(other))
    environment = {**os.environ, "KD_RUNS": str(other)}
    drawn, kills, seen = random.Random(0), 0, {}
    while kills < 2:
        process = subprocess.Popen(
            [sys.executable, "-m", "kd", "ablate", str(config)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        started, before = time.monotonic(), len(finished(other))
        # Let it train at least one more cell, then some more, and kill it wherever it is.
        while process.poll() is None and len(finished(other)) == before and time.monotonic() - started < 60:
            time.sleep(0.02)
        time.sleep(drawn.uniform(0, 0.3))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert {path: time_ for path, time_ in finished(other).items() if path in seen} == seen
        seen = finished(other)
    assert kills == 2
    assert main(["ablate", str(config), "json=true"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["results"] == expected
    assert {path: time_ for path, time_ in finished(other).items() if path in seen} == seen


def finished(store: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in store.glob("train/*/record.json")}


def test_the_list_runs_nothing_and_prints_a_cell_a_line(tmp_path, capsys, store) -> None:
    config = tmp_path / "grid.yaml"
    config.write_text(CONFIG)
    assert main(["ablate", str(config), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 4 * 3
    assert lines[0].split()[:3] == ["one", "seed", "0"]
    assert "1 of 4" in lines[0]
    assert main(["ablate", str(config), "--list", "json=true", "replicas=1"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert len(cells) == len(lines)
    fields = {"handling", "mechanism", "rate", "objective", "seed", "node", "run", "stack", "of", "edges.*.weight"}
    assert fields <= set(cells[0])
    assert {cell["alone"] for cell in cells} == {"replicas: 1"}
    assert not (store / "train").exists()


def test_what_the_command_prints_is_the_table_along_each_axis(tmp_path, capsys) -> None:
    config = tmp_path / "grid.yaml"
    config.write_text(CONFIG)
    assert main(["ablate", str(config), "seeds=2", "grid.edges.*.weight=[1,2]"]) == 0
    shown = capsys.readouterr()
    assert "accuracy along edges.*.weight" in shown.out
    assert shown.out.rstrip().endswith("report.html")
    assert "18 of 18" not in shown.err
    assert "8 of 8 trainings" in shown.err


def test_folds_stack_each_by_itself_and_answer_every_row(small_grid) -> None:
    grid = small_grid(WEIGHTS, split={"folds": 2})
    table = pd.read_parquet(ablate(grid) / "results.parquet")
    assert set(table.n) == {400}
    assert {len(stack.trainings) for stack in make_plan(grid).stacks if stack.trainings[0].node == "student"} == {4}


def test_variants_with_other_test_rows_stand_in_tables_of_their_own(small_grid) -> None:
    folder = ablate(small_grid({"split.seed": [0, 1], **WEIGHTS}))
    content = gather(load_record(folder), folder)
    assert list(content["summaries"]) == [", split.seed=0", ", split.seed=1"]
    assert [axis["name"] for axis in content["axes"]] == [
        "edges.*.weight, split.seed=0",
        "edges.*.weight, split.seed=1",
    ]
    assert all(set(table["split.seed"]) == {str(seed)} for seed, table in enumerate(content["summaries"].values()))
    assert "tables of their own" in (folder / "report.html").read_text()


def test_a_sweep_gathers_what_a_comparison_of_methods_needs(small_grid) -> None:
    grid = small_grid(WEIGHTS)
    folder = ablate(grid)
    own = [run_folder("run", run_id) for run_id in load_record(folder).parents.values()]
    for name in ("validation", "pairs", "shapley", "cost"):
        gathered = pd.read_parquet(folder / f"{name}.parquet")
        assert list(gathered.columns[:2]) == ["variant", "edges.*.weight"]
        each = pd.concat([pd.read_parquet(variant / f"{name}.parquet") for variant in own], ignore_index=True)
        pd.testing.assert_frame_equal(gathered.drop(columns=["variant", "edges.*.weight"]), each)
    rates = pd.read_parquet(folder / "rates.parquet")
    assert set(rates.metric) == {"accuracy"}
    clean = rates.query("node == 'student' and rate == 0 and variant == 1").sort_values("seed").value.to_list()
    results = pd.read_parquet(folder / "results.parquet").query("metric == 'accuracy' and subset == 'm0+m1'")
    assert clean == pytest.approx(results.query("node == 'student' and variant == 1").sort_values("seed").value)
    assert not (folder / "test_masks.parquet").exists()
