"""Tables of a comparison with a known answer, in the form that a run and an ablation record: test data only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd.record import RunRecord, save_record
from kd.statistics.verdicts import verdict

MODALITIES = ("fou", "kar", "zer")
SUBSETS = ["+".join(chosen) for size in (1, 2, 3) for chosen in combinations(MODALITIES, size)]
MARGIN = 0.01
TEST_MASKS = (("clean", "", 0.0, 0.0), ("mar", "MAR", 0.3, 0.1), ("sick", "MNAR", 0.5, 0.2))
"""Key, kind, share hidden, and what every method loses under it."""
Rows = list[dict[str, Any]]


def validation(skills: Mapping[str, float], seeds: int = 5, subsets: Sequence[str] = SUBSETS) -> pd.DataFrame:
    """Return scores whose mean over subsets and seeds is each method's skill; complete rows score 0.1 more."""
    rows = []
    shift = {s: 0.1 * (s == SUBSETS[-1]) - 0.1 / len(subsets) for s in subsets}
    for node, skill in skills.items():
        for seed in range(seeds):
            noise = 0.002 * (seed - (seeds - 1) / 2)
            for subset in subsets:
                identity = {"node": node, "stage": "float", "seed": seed, "subset": subset}
                score = {"size": subset.count("+") + 1, "n": 200, "metric": "accuracy"}
                rows.append({**identity, **score, "value": skill + shift[subset] + noise, "mask_kind": "MCAR"})
    return pd.DataFrame(rows)


def pairs(test: Mapping[str, float], half: float = 0.005, seeds: int = 5) -> pd.DataFrame:
    """Return every pair of methods by their scores on test rows, with intervals of a given half width."""
    rows = []
    for method, baseline in combinations(test, 2):
        estimate = test[method] - test[baseline]
        low, high = (estimate - half, estimate + half) if seeds >= 5 else (np.nan, np.nan)
        for over in ("complete", "mean over subsets"):
            facts = {"method": method, "baseline": baseline, "over": over, "metric": "accuracy", "seeds": seeds}
            found = {"estimate": estimate, "low": low, "high": high, "verdict": verdict(low, high, MARGIN)}
            rows.append({**facts, **found, "mask_kind": "MCAR"})
    columns = ["method", "baseline", "over", "metric", "seeds", "estimate", "low", "high", "verdict", "mask_kind"]
    return pd.DataFrame(rows, columns=columns)


def cost(steps: Mapping[str, float]) -> pd.DataFrame:
    """Return optimiser steps and, always 1,000, parameters."""
    return pd.DataFrame([{"node": node, "steps": own, "parameters": 1000.0} for node, own in steps.items()])


def config(simple: Sequence[str], nodes: Sequence[str] = (), mask: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a study as plain data, as provenance holds it."""
    own = {"sees": list(MODALITIES), "rows": "any", "drop": 0.0, "model": {}, "init": None}
    return {"simple": list(simple), "nodes": dict.fromkeys(nodes, own), "mask": dict(mask or {"name": "mcar"})}


def masked_tests(skills: Mapping[str, float], seeds: int = 5) -> pd.DataFrame:
    """Return scores under a clean test, one under MAR and one under MNAR masks."""
    rows: Rows = []
    for node, skill in skills.items():
        for seed in range(seeds):
            for name, kind, hidden, loss in TEST_MASKS:
                share = hidden + 0.001 * seed * (hidden > 0)
                identity = {"node": node, "stage": "float", "seed": seed, "test_mask": name, "kind": kind}
                rows.append({**identity, "hidden": share, "metric": "accuracy", "value": skill - loss, "n": 600})
    return pd.DataFrame(rows)


def rates(skills: Mapping[str, float], seeds: int = 5) -> pd.DataFrame:
    """Return scores along the missing rate: each method loses a quarter of the rate."""
    return pd.DataFrame(
        [
            {"node": node, "stage": "float", "seed": seed, "rate": rate, "value": skill - 0.25 * rate}
            for node, skill in skills.items()
            for seed in range(seeds)
            for rate in (0.0, 0.2, 0.5)
        ]
    )


def shapley(skills: Mapping[str, float]) -> pd.DataFrame:
    """Return Shapley values, the same for every method."""
    facts = {"stage": "float", "metric": "accuracy", "sampling_error": 0.0, "evenness": 0.9, "seeds": 5, "n": 600}
    return pd.DataFrame(
        [
            {"node": node, **facts, "game": "one model under masks", "modality": name, "value": value}
            | {"low": value - 0.02, "high": value + 0.02}
            for node in skills
            for name, value in zip(MODALITIES, (0.1, 0.2, 0.3), strict=True)
        ]
    )


def write_ablation(
    folder: Path,
    settings: Sequence[Mapping[str, float]],
    simple: Sequence[str],
    *,
    axis: str = "mask.rate",
    values: Sequence[Any] = (0.2, 0.5, 0.8),
    kinds: Sequence[str] = ("MCAR", "MCAR", "MCAR"),
    lacking: Sequence[str] = (),
) -> Path:
    """Write an ablation along one axis, a setting per entry, each method with its score on validation and test rows.

    Args:
        folder: to make.
        settings: method -> its score, for each value of the axis.
        simple: names of simple methods.
        axis: of the grid.
        values: of it.
        kinds: of mask, for each value.
        lacking: tables that an older record lacks.
    """
    folder.mkdir(parents=True)
    nodes = list(settings[0])
    gathered: dict[str, list[pd.DataFrame]] = {}
    for variant, (skills, value, kind) in enumerate(zip(settings, values, kinds, strict=False)):
        scores = validation(skills)
        own = {"results": scores.assign(n=600), "validation": scores, "pairs": pairs(skills)}
        own |= {"cost": cost(dict.fromkeys(nodes, 400.0)), "test_masks": masked_tests(skills)}
        own |= {"rates": rates(skills), "shapley": shapley(skills), "summary": summary(scores)}
        for name, frame in own.items():
            stamp = {"mask_kind": kind} if "mask_kind" in frame or name == "summary" else {}
            gathered.setdefault(name, []).append(located(frame.assign(**stamp), variant, axis, value))
    frames = {name: pd.concat(parts, ignore_index=True) for name, parts in gathered.items() if name not in lacking}
    columns = ["method", "baseline", "subset", "metric", "estimate", "low", "high", "seeds", "estimand", "verdict"]
    frames["contrasts"] = pd.DataFrame(columns=["variant", axis, *columns, "detectable"])
    frames["cells"] = pd.DataFrame([{"variant": 0, axis: values[0], "node": nodes[0], "seed": 0, "failed": ""}])
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet")
    masks = {str(n): v if isinstance(v, dict) else {"name": "mcar", "rate": v} for n, v in enumerate(values)}
    about = {"config of the first variant": config(simple, nodes, masks["0"]), "masks": masks}
    (folder / "provenance.json").write_text(json.dumps(about))
    files = {name: f"{name}.parquet" for name in frames} | {"provenance": "provenance.json"}
    origins = {str(variant): "same rows" for variant in range(len(settings))}
    metrics = {"trainings": 1, "cells": 1, "failed": 0, "origins": origins}
    address = {"axes": [[axis, list(values[: len(settings)])]]}
    record = RunRecord(id=folder.name, verb="ablate", name="planted", config=address, files=files, metrics=metrics)
    save_record(record, folder)
    return folder


def located(frame: pd.DataFrame, variant: int, axis: str, value: object) -> pd.DataFrame:
    """Return a table with the leading columns of an ablation."""
    own = {"variant": variant, axis: json.dumps(value) if isinstance(value, dict) else value}
    return frame.assign(**own)[[*own, *frame.columns]]


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a summary of scores with intervals of no width."""
    means = scores.groupby("node", sort=False)["value"].mean()
    facts = {"stage": "float", "metric": "accuracy", "seeds": 5, "note": ""}
    return pd.DataFrame(
        [
            {"node": node, **facts, "what": what, "mean": value, "low": value, "high": value}
            for node, value in means.items()
            for what in ("complete", "mean", "worst")
        ]
    )
