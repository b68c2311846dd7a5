"""Verbs that run a study, or many at once."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kd.cli.advising import print_advice
from kd.cli.arguments import arguments, settings, study_of
from kd.cli.quantising import compress_graph
from kd.cli.store import find
from kd.errors import ConfigError

if TYPE_CHECKING:
    from kd.ablate.plan import Plan
    from kd.config import Study


def check(words: Sequence[str]) -> int:
    """Name every fault of a config, with a grid or without."""
    path, overrides, as_json = arguments(words, "check", "a config")
    from kd.ablate import load_grid
    from kd.ablate.plan import distinct, grid_faults
    from kd.distill.same import notes

    grid = load_grid(path, overrides)
    found = distinct(grid, grid_faults(grid))
    if as_json:
        print(json.dumps({"config": path, "faults": found}))
    for fault in found if not as_json else []:
        print(f"{path}: {fault}", file=sys.stderr)
    if not found and not as_json:
        study = grid.first
        counts = {"variants": len(grid.variants), "nodes": len(study.nodes), "seeds": study.seeds}
        counts["folds"] = study.split.folds or 1
        optional = ("variants", "folds")
        shown = " x ".join(f"{count} {what}" for what, count in counts.items() if what not in optional or count > 1)
        print(f"{path}: no fault found; {shown} = {math.prod(counts.values())} {'cells' if grid.axes else 'trainings'}")
        for note in notes(study):
            print(f"{path}: note: {note}")
    return 2 if found else 0


def run(words: Sequence[str]) -> int:
    """Run a study and name its report."""
    study, path, as_json = study_of(words, "run")
    return _run_and_print(study, path, as_json, _print_summary)


def evaluate(words: Sequence[str]) -> int:
    """Run a study without its compression and print every subset's score."""
    from dataclasses import replace

    study, path, as_json = study_of(words, "evaluate")
    return _run_and_print(replace(study, compress=None), path, as_json, _print_subsets)


def compress(words: Sequence[str]) -> int:
    """Run a study and print what each stage of compression costs and keeps; of an ONNX file, quantise it."""
    if words and words[0].lower().endswith(".onnx"):
        return compress_graph(words)
    study, path, as_json = study_of(words, "compress")
    if study.compress is None:
        raise ConfigError(f"{path}: compress: required here, as in configs/best.yaml: a student and its passes")
    return _run_and_print(study, path, as_json, _print_stages)


def _run_and_print(study: Study, path: str, as_json: bool, show: Callable[[Path], None]) -> int:
    from kd.progress import Screen
    from kd.study import run as run_study

    with Screen() as screen:
        folder = run_study(study, source_file=path, listener=screen)
    if as_json:
        print((folder / "record.json").read_text(), end="")
        return 0
    show(folder)
    print_advice(folder)
    print(f"report: {folder / 'report.html'}")
    return 0


def _print_subsets(folder: Path) -> None:
    from kd.report.evidence import load_evidence
    from kd.report.tables import markdown, subset_grid

    found = load_evidence(folder)
    print(markdown(subset_grid(found.subsets, found.metric)))


def _print_stages(folder: Path) -> None:
    from kd.report.evidence import load_evidence
    from kd.report.retained import NOTE, retained_table
    from kd.report.tables import markdown, stage_table

    found = load_evidence(folder)
    print(markdown(stage_table(found.stages)))
    print(f"\n{markdown(retained_table(found.retained))}\n{NOTE}\n")
    _print_summary(folder)


def _print_summary(folder: Path) -> None:
    import pandas as pd

    summary = pd.read_parquet(folder / "summary.parquet")
    print(
        f"{'node':24} {'stage':8} {'on':9} {summary.metric.iloc[0]:>9}  95% interval over {summary.seeds.max()} seeds"
    )
    for row in summary.itertuples():
        print(f"{row.node:24} {row.stage:8} {row.what:9} {row.mean:9.4f}  [{row.low:.4f}, {row.high:.4f}]")


def report(words: Sequence[str]) -> int:
    """Write the report of a finished run again, and its tables as files where they are asked for."""
    name, rest, _ = arguments(words, "report", "a run")
    tables = settings(rest, {"tables": ""}, "report")["tables"]
    from kd.record import load_record
    from kd.report.ablation import write_ablation_report
    from kd.report.page import write_report

    folder = find(name)
    write = write_ablation_report if load_record(folder).verb == "ablate" else write_report
    print(f"report: {write(folder)}")
    if tables:
        from kd.report.export import write_tables

        written = write_tables(folder, Path(tables))
        print(f"tables: {len(written)} files in {tables}")
    return 0


def ablate(words: Sequence[str]) -> int:
    """Run a grid of studies, or list its cells."""
    listing = "--list" in words
    path, overrides, as_json = arguments([word for word in words if word != "--list"], "ablate", "a config")
    from kd.ablate import ablate as run_grid
    from kd.ablate import load_grid, make_plan

    grid = load_grid(path, overrides)
    if listing:
        return _print_cells(make_plan(grid), as_json)
    from kd.progress import Screen

    with Screen() as screen:
        folder = run_grid(grid, screen)
    return _print_ablation(folder, as_json)


def _print_cells(plan: Plan, as_json: bool) -> int:
    from kd.ablate.table import listed

    cells = [listed(plan, cell) for cell in plan.cells]
    if as_json:
        print(json.dumps(cells))
    for cell in cells if not as_json else []:
        values = plan.grid.variants[cell["variant"]].name
        where = f"stack {cell['stack'][:8]}, {cell['place'] + 1} of {cell['of']}"
        where = f"alone: {cell['alone']}" if cell["alone"] else where
        print(f"{cell['node']:20} seed {cell['seed']:<3} {values}  {where}")
    for (place, node), reason in plan.failed.items():
        variant, seed, _ = place
        print(f"cannot run: {node} {plan.grid.variants[variant].name} seed {seed}: {reason}", file=sys.stderr)
    if not as_json:
        counts = f"{len(cells)} cells, {plan.trainings} trainings in {len(plan.stacks)} stacks"
        print(f"{plan.grid.source}: {counts} of at most {plan.grid.replicas}", file=sys.stderr)
    return 2 if plan.failed else 0


def _print_ablation(folder: Path, as_json: bool) -> int:
    from kd.record import load_record

    record = load_record(folder)
    if as_json:
        print((folder / "record.json").read_text(), end="")
    else:
        from kd.report.ablation import gather
        from kd.report.tables import markdown

        content = gather(record, folder)
        for axis in content["axes"]:
            print(f"{content['metric']} along {axis['name']}\n\n{markdown(axis['table'])}\n")
        for table in content["summaries"].values() if not content["axes"] else []:
            print(markdown(table))
        for row in content["claims"].to_dict("records"):
            print(f"claim: {row['claim']}: {row['verdict']}. {row['measured']} {row['why']}".rstrip())
        for row in content["failed"].to_dict("records"):
            values = " ".join(f"{axis}={row[axis]}" for axis, _ in record.config["axes"])
            print(f"failed: {row['node']} {values} seeds {row['seeds']}: {row['reason']}", file=sys.stderr)
        print_advice(folder)
        print(f"results: {folder / 'results.parquet'}")
        print(f"report: {folder / 'report.html'}")
    return 2 if record.metrics["failed"] else 0


def tune(words: Sequence[str]) -> int:
    """Run a grid and write every method's best settings, by validation, as a fragment."""
    path, overrides, as_json = arguments(words, "tune", "a config")
    own = [word for word in overrides if word.startswith(("to=", "over="))]
    asked = settings(own, {"to": "", "over": "subsets"}, "tune")
    if not asked["to"]:
        raise ConfigError(f"kd tune: expected one to=FILE, the fragment to write, e.g. kd tune {path} to=tuned.yaml")
    from dataclasses import asdict

    from kd.ablate import load_grid
    from kd.ablate import tune as tune_grid
    from kd.ablate.tuning import SCORES
    from kd.progress import Screen

    over = next((known for known in SCORES if known == asked["over"]), None)
    if over is None:
        raise ConfigError(f"kd tune: over: expected {' or '.join(SCORES)}, got {asked['over']!r}")
    grid = load_grid(path, [word for word in overrides if word not in own])
    with Screen() as screen:
        tuned = tune_grid(grid, asked["to"], screen, over=over)
    if as_json:
        print(json.dumps({**asdict(tuned), "file": asked["to"]}))
        return 0
    for name, fields in [pair for section in tuned.settings.values() for pair in section.items()]:
        print(f"{name:24} {tuned.metric} {tuned.scores[name]:.4f} on validation  {json.dumps(fields)}")
    print(f"settings: {asked['to']}")
    return 0
