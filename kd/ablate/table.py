"""What a grid's variants gave, as one table: every row with the values of its axes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from kd.ablate.claims import verdicts
from kd.ablate.plan import Cell, Failures, Plan
from kd.config import simple_methods
from kd.evaluate.bound import one_family
from kd.record import (
    RunRecord,
    code_address,
    digest,
    load_record,
    machine,
    package_versions,
    run_folder,
    save_record,
    staged_folder,
)
from kd.report.ablation import write_ablation_report
from kd.study.bound import sentence
from kd.study.evidence import results_digest

FRAMES = {"results": "subsets", "summary": "summary", "contrasts": "contrasts"}
"""Table of the sweep -> table of each variant that it is made of."""
FURTHER = ("validation", "pairs", "test_masks", "shapley", "cost", "teaching", "contests", "bound")
"""Tables of the variants that the sweep has under the same name, where they have them."""


def write_sweep(plan: Plan, folders: Mapping[int, Path], failed: Failures, started: float, reused: int) -> Path:
    """Write a sweep's tables, report and record and return its folder.

    Args:
        plan: what was asked for.
        folders: variant -> folder of its evaluated study.
        failed: cells without a result, and why.
        started: when, by `time.perf_counter`.
        reused: trainings that were in the store before; the record of a sweep that is there already keeps its own.
    """
    records = {variant: load_record(folder) for variant, folder in folders.items()}
    frames = {name: _gathered(plan, folders, table) for name, table in FRAMES.items()}
    further = {name: _gathered(plan, folders, name) for name in FURTHER} | _curves(plan, folders, frames["summary"])
    frames |= {name: frame for name, frame in further.items() if len(frame)}
    grid = plan.grid
    if "bound" in frames:
        frames["bound"] = one_family(frames["bound"])
    if grid.claims:
        told = [(variant.values, variant.study) for variant in grid.variants]
        frames["claims"] = verdicts(grid.claims, grid.axes, told, folders)
    cells = _cells(plan, failed)
    record = _record(plan, records, failed)
    record.metrics |= {"cells": len(cells), "results": "", "reused": reused}
    if len(frames["results"]):
        record.metrics["results"] = results_digest({**frames, "subsets": frames["results"]})
    folder = run_folder("ablate", record.id)
    with staged_folder(folder) as stage:
        for name, frame in {**frames, "cells": cells}.items():
            frame.to_parquet(stage / f"{name}.parquet")
            record.files[name] = f"{name}.parquet"
        about = _about(plan, folders, failed)
        about |= {"bayes_bound": sentence(frames["bound"])} if "bound" in frames else {}
        (stage / "provenance.json").write_text(json.dumps(about, indent=1, default=str))
        record.files["provenance"] = "provenance.json"
        record.seconds = time.perf_counter() - started
        save_record(record, stage)
    write_ablation_report(folder)
    return folder


def _record(plan: Plan, records: Mapping[int, RunRecord], failed: Failures) -> RunRecord:
    """Return the record of a sweep, from those of its variants."""
    grid, code = plan.grid, code_address("ablate")
    parents = {grid.variants[variant].name: record.id for variant, record in records.items()}
    address = {
        "variants": parents,
        "failed": [reason for _, reason in sorted(failed.items())],
        "axes": list(grid.axes.items()),  # in the config's order, which a mapping in JSON loses
        "claims": [[name, asdict(claim)] for name, claim in grid.claims.items()],
        "replicas": grid.replicas,
        "code": code,
    }
    run_id = digest(address)[:20]
    origins = {str(variant): digest([record.data, record.mask])[:12] for variant, record in records.items()}
    return RunRecord(
        id=run_id,
        verb="ablate",
        name=grid.first.title or run_id,
        config=address,
        parents=parents,
        data=digest(sorted({record.data for record in records.values()})),
        mask=digest(sorted({record.mask for record in records.values()})),
        code=code,
        threads=grid.first.threads,
        metrics={"trainings": plan.trainings, "failed": len(failed), "origins": origins},
        selected_on="; ".join(sorted({record.selected_on for record in records.values()})),
    )


def _cells(plan: Plan, failed: Failures) -> pd.DataFrame:
    """Return a row per cell, those that nothing could be planned for last."""
    rows = [{**listed(plan, cell), "failed": failed.get((cell.place, cell.node), "")} for cell in plan.cells]
    planned = {(cell.place, cell.node) for cell in plan.cells}
    for ((variant, seed, fold), node), reason in failed.items():
        if ((variant, seed, fold), node) not in planned:
            values = plan.grid.variants[variant].values
            rows.append({"variant": variant, "node": node, "seed": seed, "fold": fold, **values, "failed": reason})
    return pd.DataFrame([{key: flat(value) for key, value in row.items()} for row in rows])


def listed(plan: Plan, cell: Cell) -> dict[str, Any]:
    """Return a cell's fields, its run, its place in a stack of how many, and why it is alone where it is."""
    stack, place = plan.stack_of[cell.run]
    here = {"run": cell.run, "stack": stack.id, "of": len(stack.trainings), "place": place, "alone": stack.reason}
    return {**cell.fields, **here}


def flat(value: Any) -> Any:
    """Return a value that a column of a table can hold: lists and mappings as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _gathered(plan: Plan, folders: Mapping[int, Path], table: str) -> pd.DataFrame:
    found = []
    for variant, folder in sorted(folders.items()):
        if not (folder / f"{table}.parquet").exists():
            continue  # data of one modality have no rate curve
        frame = pd.read_parquet(folder / f"{table}.parquet")
        values = plan.grid.variants[variant].values
        for place, (axis, value) in enumerate({"variant": variant, **values}.items()):
            frame.insert(place, axis, pd.Series([flat(value)] * len(frame), index=frame.index))
        found.append(frame)
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def _curves(plan: Plan, folders: Mapping[int, Path], summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the areas under the rate curves as `areas` and, of the primary metric only, the curves as `rates`.

    Of all metrics the curves of a large sweep would be heavy.
    """
    found = _gathered(plan, folders, "robustness")
    if not len(found):
        return {}
    primary = summary.drop_duplicates("variant").set_index("variant")["metric"]
    areas = found[found["quantity"] == "area"].drop(columns=["quantity", "rate"])
    rates = found[(found["quantity"] == "rate") & (found["metric"] == found["variant"].map(primary))]
    return {"areas": areas, "rates": rates.drop(columns="quantity").reset_index(drop=True)}


def _about(plan: Plan, folders: Mapping[int, Path], failed: Failures) -> dict[str, Any]:
    grid = plan.grid
    study = asdict(grid.first) | {"simple": simple_methods(grid.first)}
    return {
        "title": grid.first.title,
        "axes": grid.axes,
        "config of the first variant": study,
        "masks": {str(place): variant.study.mask for place, variant in enumerate(grid.variants)},
        "variants": {grid.variants[variant].name: str(folder.name) for variant, folder in folders.items()},
        "seeds": list(range(grid.first.first_seed, grid.first.first_seed + grid.first.seeds)),
        "trainings": plan.trainings,
        "stacks": {stack.id: len(stack.trainings) for stack in plan.stacks},
        "failed": {
            f"{grid.variants[variant].name} seed {seed} fold {fold}: {node}": reason
            for ((variant, seed, fold), node), reason in sorted(failed.items())
        },
        "packages": package_versions(),
        "machine": machine(),
        "threads": grid.first.threads,
    }
