"""Copy a finished run's tables into docs/records, where `make docs` reads them; weights and predictions stay behind.

python scripts/keep_records.py runs/run/ID demo
python scripts/keep_records.py runs/ablate/ID ablate_mfeat    (a table along each axis instead)
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.errors import KDError
from kd.record import RunRecord, code_address, load_record, machine, package_versions, write_atomic

if TYPE_CHECKING:
    import pandas as pd

RECORDS = Path(__file__).parent.parent / "docs" / "records"
TABLES = ("summary", "stages", "retained", "contrasts")


def keep(folder: Path, prefix: str) -> list[Path]:
    """Copy the tables and the record they came from; return what was written."""
    import pandas as pd

    from kd.report.retained import retained_sentences

    record = load_record(folder)
    RECORDS.mkdir(parents=True, exist_ok=True)
    if record.verb == "ablate":
        return keep_ablation(record, folder, prefix)
    kept = [
        (folder / record.files[table], RECORDS / f"{prefix}_{table}.parquet")
        for table in TABLES
        if table in record.files
    ]
    kept.append((folder / record.files["provenance"], RECORDS / f"{prefix}_provenance.json"))
    for source, target in kept:
        shutil.copyfile(source, target)
    found = [target for _, target in kept]
    if "retained" in record.files:
        found.append(RECORDS / f"{prefix}_retained.json")
        sentences = retained_sentences(pd.read_parquet(folder / record.files["retained"]))
        found[-1].write_text(json.dumps(sentences, indent=1, ensure_ascii=False) + "\n")
    return found


def keep_bench(
    bench: str, rooms: Iterable[str], figures: Mapping[str, float], tables: Mapping[str, list[dict[str, Any]]]
) -> None:
    """Write a bench's figures and tables, with the code and the machine that gave them."""
    about = {"code": code_address(*rooms), "packages": package_versions(), "machine": machine()}
    content = {**about, "figures": figures, "tables": tables}
    write_atomic(RECORDS / f"bench_{bench}.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def keep_ablation(record: RunRecord, folder: Path, prefix: str) -> list[Path]:
    """Write an ablation's tables along its axes, and what it took; return what was written."""
    import pandas as pd

    from kd.report.ablation import by_setting, gather, scores
    from kd.report.advised import advice_summary, first_study
    from kd.report.declared import tally, verdicts
    from kd.report.evidence import leading_metric
    from kd.report.export import file_name
    from kd.report.heatmap import over_seeds
    from kd.report.parts import comparable
    from kd.report.stamps import under_mnar

    content = gather(record, folder)
    frames = {f"axis{place}": axis["table"] for place, axis in enumerate(content["axes"], 1)}
    declared = pd.read_parquet(folder / record.files["contrasts"])
    declared = declared[~under_mnar(declared)]  # those under MNAR masks stay with the run
    frames["contrasts"] = tally(declared)
    results = pd.read_parquet(folder / record.files["results"])
    metric, axes = leading_metric(results, pd.DataFrame()), [axis for axis, _ in record.config["axes"]]
    if len(content["contests"]):
        frames |= {"contests": content["contests"], "rivals": content["rivals"]}
    if "claims" in record.files:
        frames["claims"] = pd.read_parquet(folder / record.files["claims"])
    frames["scores"] = scores(results, metric)[[*axes, "node", "seed", "what", "value"]].astype({"value": "float32"})
    if "cost" in record.files:
        frames["cost"] = pd.read_parquet(folder / record.files["cost"])[[*axes, "node", "steps", "parameters"]]
    frames["calibration"] = calibration(results)
    frames["subsets"] = over_seeds(results[results["metric"] == metric], ["node", "subset"])
    study = first_study(json.loads((folder / record.files["provenance"]).read_text()))
    if study.get("family"):
        table = verdicts(declared, axes, study["family"]["baselines"][0])
        heads = {name: f"{study['data']['name']} {name}".strip() for name in table.columns[1:]}
        frames["verdicts"] = table.rename(columns=heads)
    for label, own in comparable(record, scores(results, metric), axes).items():
        frames[file_name(f"settings{label}")] = by_setting(own, axes, metric)
    facts = {
        "cells": f"{record.metrics['cells']:,}",
        "trainings": f"{record.metrics['trainings']:,}",
        "failed": str(record.metrics["failed"]),
        "minutes": f"{record.seconds / 60:.1f}",
        "machine": record.machine,
    }
    frames["facts"] = pd.DataFrame(facts.items(), columns=["fact", "value"])
    found = []
    for name, frame in frames.items():
        found.append(RECORDS / f"{prefix}_{name}.parquet")
        frame.to_parquet(found[-1])
    (RECORDS / f"{prefix}_advice.json").write_text(json.dumps(advice_summary(folder), indent=1) + "\n")
    shutil.copyfile(folder / record.files["provenance"], RECORDS / f"{prefix}_provenance.json")
    return [*found, RECORDS / f"{prefix}_advice.json", RECORDS / f"{prefix}_provenance.json"]


def calibration(results: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy, NLL and ECE with everything present as text, a row per method, the mean over settings."""
    from kd.report import tables
    from kd.report.ablation import everything_present
    from kd.report.heatmap import over_seeds

    whole = everything_present(results[results["stage"] == "float"])
    shown = [name for name in ("accuracy", "nll", "ece") if name in set(whole["metric"])]
    found = over_seeds(whole[whole["metric"].isin(shown)], ["node", "metric"])
    text = [tables.interval(r.mean, r.low, r.high, r.metric) for r in found.itertuples(index=False)]
    table = found.assign(text=text).pivot(index="node", columns="metric", values="text")
    table = table.loc[list(dict.fromkeys(found["node"])), shown]
    return table.rename(columns=tables.metric_name).rename_axis(columns=None).reset_index()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("prefix", help="name of its tables in docs/records")
    arguments = parser.parse_args()
    try:
        for path in keep(arguments.run, arguments.prefix):
            print(path.relative_to(RECORDS.parent.parent))
    except KDError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
