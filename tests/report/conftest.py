"""A finished run as `kd run` leaves it, with invented numbers: test data, and nowhere else."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kd.record import RunRecord, save_record
from kd.report.page import write_report

MODALITIES = ("fou", "kar", "zer")
SUBSETS = ["+".join(chosen) for size in (1, 2, 3) for chosen in combinations(MODALITIES, size)]
SEEDS = range(5)
NODES = {
    "fou": {"sees": ["fou"], "rows": "all", "drop": 0.0, "kind": "teacher"},
    "kar": {"sees": ["kar"], "rows": "all", "drop": 0.0, "kind": "teacher"},
    "zer": {"sees": ["zer"], "rows": "all", "drop": 0.0, "kind": "teacher"},
    "student": {"sees": list(MODALITIES), "rows": "complete", "drop": 0.5, "kind": "student"},
    "complete-case": {"sees": list(MODALITIES), "rows": "complete", "drop": 0.0, "kind": "baseline"},
    "late fusion": {"sees": list(MODALITIES), "rows": None, "drop": None, "kind": "ensemble"},
}


def subset_frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for node, facts in NODES.items():
        stages = ["float", "pruned", "tuned", "int8"] if node == "student" else ["float"]
        for stage in stages:
            for subset in SUBSETS:
                parts = subset.split("+")
                if len(facts["sees"]) == 1 and facts["sees"][0] not in parts:
                    continue
                size = len(parts) if len(facts["sees"]) > 1 else 1
                skill = 0.72 + 0.08 * size + 0.02 * (node == "student") - 0.03 * (stage == "pruned" and size == 1)
                for seed in SEEDS:
                    accuracy = skill + generator.normal(0, 0.006)
                    values = {"accuracy": accuracy, "macro_f1": accuracy - 0.01, "nll": 1.2 - accuracy, "ece": 0.04}
                    rows += [(node, stage, seed, subset, len(parts), 600, m, v) for m, v in values.items()]
    return pd.DataFrame(rows, columns=["node", "stage", "seed", "subset", "size", "n", "metric", "value"])


def summary_frame(subsets: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (node, stage), group in subsets[subsets["metric"] == "accuracy"].groupby(["node", "stage"], sort=False):
        per_seed = {
            "complete": group[group["size"] == 3].set_index("seed")["value"],
            "mean": group.groupby("seed")["value"].mean(),
            "worst": group[group["subset"] == group["subset"].iloc[0]].set_index("seed")["value"],
        }
        for what, values in per_seed.items():
            half = 2.776 * values.sem()
            note = f"worst on validation: {group['subset'].iloc[0]}" if what == "worst" else ""
            mean = values.mean()
            rows.append((node, stage, what, "accuracy", mean, mean - half, mean + half, len(values), note))
    return pd.DataFrame(rows, columns=["node", "stage", "what", "metric", "mean", "low", "high", "seeds", "note"])


def contrast_frame() -> pd.DataFrame:
    shared = ("accuracy", "new rows")
    rows = [
        ("student", "complete-case", "all three", 0.012, 0.003, 0.021, "better", 0.009),
        ("student", "complete-case", "mean over subsets", 0.004, -0.005, 0.013, "inconclusive", 0.009),
        ("student", "late fusion", "all three", -0.011, -0.018, -0.004, "worse", 0.007),
        ("student", "late fusion", "mean over subsets", 0.001, -0.003, 0.005, "tie", 0.004),
    ]
    facts = [(m, b, s, shared[0], e, low, high, 5, shared[1], v, d) for m, b, s, e, low, high, v, d in rows]
    columns = ["method", "baseline", "subset", "metric", "estimate", "low", "high"]
    return pd.DataFrame(facts, columns=[*columns, "seeds", "estimand", "verdict", "detectable"])


def curve_frame() -> pd.DataFrame:
    generator = np.random.default_rng(1)
    rows = []
    for node, facts in NODES.items():
        for seed in SEEDS if facts["kind"] != "ensemble" else ():
            for epoch in range(20):
                loss = 2.0 * np.exp(-epoch / 6) + 0.15 + generator.normal(0, 0.03)
                values = {"train_loss": loss, "validation_loss": loss + 0.1, "validation_accuracy": 0.95 - 0.35 * loss}
                rows += [(node, seed, epoch, quantity, value) for quantity, value in values.items()]
    return pd.DataFrame(rows, columns=["node", "seed", "epoch", "quantity", "value"])


def stage_frame() -> pd.DataFrame:
    rows = []
    for seed in SEEDS:
        for stage, size, ratio, gap in (
            ("float", 182_400, 1.0, np.nan),
            ("pruned", 96_300, 1.62, 1e-6),
            ("tuned", 96_300, 1.6, 1e-6),
            ("int8", 31_700, 2.4, 0.08),
        ):
            latency = 0.21 / ratio
            costs = (size, size // 5, size // 4, latency, 1.3 * latency, ratio, 1, gap, 2.0)
            rows.append(("student", stage, seed, *costs))
    columns = ["node", "stage", "seed", "bytes", "macs", "parameters", "latency_ms_median", "latency_ms_p95"]
    return pd.DataFrame(rows, columns=[*columns, "latency_ratio", "threads", "parity_max", "seconds"])


def robust_frames() -> dict[str, pd.DataFrame]:
    generator = np.random.default_rng(2)
    rows, games, patterns = [], [], []
    for node, facts in NODES.items():
        for stage in ["float", "int8"] if node == "student" else ["float"]:
            for seed in SEEDS:
                clean, drop = 0.94 + generator.normal(0, 0.004), 0.3 if len(facts["sees"]) == 3 else 1.2
                curve = {rate: clean - drop * rate**2 for rate in (0.0, 0.3, 0.5, 2 / 3)}
                shared = (node, stage, seed, "accuracy")
                rows += [(*shared, "chance", np.nan, 0.1), (*shared, "area", np.nan, np.mean(list(curve.values())))]
                rows += [(*shared, "rate", rate, value) for rate, value in curve.items()]
                rows += [(*shared, "retained", r, (curve[r] - 0.1) / (clean - 0.1)) for r in (0.3, 0.5)]
            for place, name in enumerate(facts["sees"]):
                value = 0.2 + 0.1 * place
                game = (value, value - 0.04, value + 0.04, 0.0, 0.9, "one model under masks", 5, 600)
                games.append((node, stage, "accuracy", name, *game))
        for seed in SEEDS:
            patterns += [(node, seed, subset, "+" in subset) for subset in SUBSETS if len(facts["sees"]) == 3]
    columns = ["node", "stage", "metric", "modality", "value", "low", "high", "sampling_error", "evenness", "game"]
    return {
        "robustness": pd.DataFrame(rows, columns=["node", "stage", "seed", "metric", "quantity", "rate", "value"]),
        "shapley": pd.DataFrame(games, columns=[*columns, "seeds", "n"]),
        "patterns": pd.DataFrame(patterns, columns=["node", "seed", "subset", "shown"]),
        "cost": pd.DataFrame(
            [
                (node, np.nan if node == "complete-case" else 400 * len(facts["sees"]), 46_000.0)
                for node, facts in NODES.items()
            ],
            columns=["node", "steps", "parameters"],
        ),
    }


def edge(teacher: str) -> dict:
    loss = {"name": "kl", "temperature": 3}
    return {"teacher": teacher, "student": "student", "loss": loss, "weight": 1.0, "view": None}


def write_run(
    folder: Path,
    *,
    data: str = "d" * 64,
    mask: str = "e" * 64,
    rename: str = "",
    stages: bool = True,
    robust: bool = True,
    more: Mapping[str, pd.DataFrame] | None = None,
    simple: Sequence[str] = (),
) -> Path:
    """Write a run folder; `rename` gives the student another name everywhere, `robust=False` makes an older record,
    `more` adds tables, and `simple` names simple methods."""
    folder.mkdir(parents=True)
    subsets = subset_frame()
    frames = {
        "subsets": subsets,
        "summary": summary_frame(subsets),
        "contrasts": contrast_frame(),
        "curves": curve_frame(),
    }
    if stages:
        frames["stages"] = stage_frame()
    if robust:
        frames |= robust_frames()
    frames |= dict(more or {})
    nodes, edges = dict(NODES), {name: edge(name) for name in MODALITIES}
    if rename:
        frames = {name: frame.replace({"student": rename}) for name, frame in frames.items()}
        nodes[rename] = nodes.pop("student")
        edges = {name: {**facts, "student": rename} for name, facts in edges.items()}
    provenance = {
        "config": {"simple": list(simple)} if simple else "data: {name: mfeat}\nseeds: 5\n",
        "hashes": {"data": data, "test mask": mask},
        "seeds": list(SEEDS),
        "audit": "passed: 0 of 600 test rows reached a fit",
        "selected_on": {"student": "validation accuracy, mean over subsets, 200 labels"},
    }
    documents = {"graph": {"nodes": nodes, "edges": edges}, "provenance": provenance}
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    files = {name: f"{name}.parquet" for name in frames} | {name: f"{name}.json" for name in documents}
    record = RunRecord(
        id=folder.name, verb="run", name="mfeat, severe mask", config={}, data=data, mask=mask, files=files
    )
    save_record(record, folder)
    return folder


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its report, for tests that only read."""
    folder = write_run(tmp_path_factory.mktemp("reported") / "0123456789ab")
    write_report(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "0123456789ab")
