"""What a paper claims, put to a grid: a comparison, or its trend along an axis, and the verdict on the sentence.

A difference rises with an axis where its slope over the sweep is above 0. With the axis's values at steps 0, 1, ... and
`D_v[s, r]` the difference of seed s on test row r at step v (the mean over the grid's other axes), the slope

    L[s, r] = sum_v (v - mean v) D_v[s, r] / sum_v (v - mean v)^2

is a table like that of one comparison, and so is the crossed interval of its mean (`kd.statistics.crossed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kd.config import Contrast, Study, family_contrasts
from kd.parsing import schema_faults
from kd.registry import suggest
from kd.report.setting import value_name
from kd.statistics import ALPHA
from kd.statistics.attainable import untested
from kd.statistics.intervals import Difference, crossed_difference
from kd.statistics.significance import holm

REPRODUCED, CONTRADICTED, INCONCLUSIVE = "reproduced", "contradicted", "inconclusive"
UNCHECKED = "cannot be checked"
DIFFERENCE, SLOPE = "difference", "slope per step"
NAN = float("nan")
COLUMNS = [
    *("claim", "says", "verdict", "reason", "method", "baseline", "subset", "measure", "setting", "metric"),
    *("seeds", "rows", "estimate", "low", "high", "detectable", "margin", "p", "p_holm"),
]


@dataclass
class Claim:
    """One sentence of a paper, and what a grid has to show for it."""

    says: str
    """The sentence."""
    contrast: str = ""
    """The declared comparison that it speaks of: the method has to be better."""
    rises_with: str = ""
    """Axis along which the difference has to rise, step by step of its values as they are written."""
    falls_with: str = ""
    """Axis along which it has to fall."""
    at: dict[str, Any] = field(default_factory=dict)
    """Axis -> value, or list of values, that count; by default all, of which the mean is taken."""
    unchecked: str = ""
    """Why nothing here can check it."""

    @property
    def along(self) -> str:
        """The axis of its trend; empty where it has none."""
        return self.rises_with or self.falls_with


def read_claims(tree: Any) -> tuple[dict[str, Claim], list[str]]:
    """Return the claims of a config by name, and a sentence for every fault of their keys and types."""
    if not isinstance(tree, Mapping):
        return {}, [f"claims: expected a mapping by name, got {tree!r}"]
    found = [fault for name, written in tree.items() for fault in schema_faults(Claim, written, f"claims.{name}")]
    return ({} if found else {str(name): Claim(**written) for name, written in tree.items()}), found


def claim_faults(claims: Mapping[str, Claim], axes: Mapping[str, Sequence[Any]], studies: Sequence[Study]) -> list[str]:
    """Return why claims cannot be put to a grid, in one sentence each.

    Args:
        claims: by name.
        axes: of the grid.
        studies: of its variants.
    """
    return [f"claims.{name}{fault}" for name, claim in claims.items() for fault in _faults(claim, axes, studies)]


def _faults(claim: Claim, axes: Mapping[str, Sequence[Any]], studies: Sequence[Study]) -> list[str]:
    if claim.unchecked:
        written = [key for key in ("contrast", "rises_with", "falls_with", "at") if getattr(claim, key)]
        return [f".{key}: it is unchecked; drop one of the two" for key in written]
    found = [*_contrast_faults(claim.contrast, studies)]
    if claim.rises_with and claim.falls_with:
        found.append(": both rises_with and falls_with are written; keep one")
    key = "rises_with" if claim.rises_with else "falls_with"
    if claim.along and claim.along not in axes:
        found.append(f".{key}: {claim.along!r} is no axis of the grid; {suggest(claim.along, axes)}")
    for axis in claim.at:
        if axis not in axes:
            found.append(f".at.{axis}: no axis of the grid; {suggest(axis, axes)}")
        elif strange := [value for value in _listed(claim.at[axis]) if value not in axes[axis]]:
            found.append(f".at.{axis}: {strange[0]!r} is none of its values, {list(axes[axis])!r}")
    if not found and claim.along and len(_steps(claim, axes)) < 2:
        found.append(f".{key}: a trend needs at least 2 values of {claim.along}, got {_steps(claim, axes)!r}")
    if any(study.split.folds for study in studies):
        found.append(": split.folds: folds share training rows; test on one share of the rows instead")
    return found


def _contrast_faults(name: str, studies: Sequence[Study]) -> list[str]:
    if not name:
        return [".contrast: required, unless unchecked: says why nothing here can check it"]
    declared = [key for key in studies[0].contrasts if key not in family_contrasts(studies[0])]
    if any(name not in study.contrasts for study in studies):
        return [f".contrast: {name!r} is unknown; {suggest(name, declared)}"]
    if name not in declared:
        return [f".contrast: {name!r} is spelt out by family; declare it under contrasts, by a name of its own"]
    return []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _steps(claim: Claim, axes: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Return the values of a claim's axis that count, in order."""
    kept = claim.at.get(claim.along, axes[claim.along])
    return [value for value in axes[claim.along] if value in _listed(kept)]


def verdicts(
    claims: Mapping[str, Claim],
    axes: Mapping[str, Sequence[Any]],
    variants: Sequence[tuple[Mapping[str, Any], Study]],
    folders: Mapping[int, Path],
) -> pd.DataFrame:
    """Return a row per claim: what was measured, and the verdict on the sentence.

    *Reproduced* and *contradicted* take 20 seeds and, after Holm over the claims, a p below 0.05; a comparison whose
    whole interval lies inside the margin contradicts that the method is better. All else is *inconclusive*.

    Args:
        claims: by name.
        axes: of the grid.
        variants: of the grid, (axis -> value, study).
        folders: variant -> folder of its evaluated study.
    """
    rows = [_row(name, claim, axes, variants, folders) for name, claim in claims.items()]
    found = pd.DataFrame(rows, columns=COLUMNS)
    checked = [not claims[name].unchecked for name in found["claim"]]
    found.loc[checked, "p_holm"] = holm(found.loc[checked, "p"].astype(float))
    told = [_told(row, claims[row["claim"]]) for row in found.to_dict("records")]
    return found.assign(verdict=[verdict for verdict, _ in told], reason=[reason for _, reason in told])


def _row(
    name: str,
    claim: Claim,
    axes: Mapping[str, Sequence[Any]],
    variants: Sequence[tuple[Mapping[str, Any], Study]],
    folders: Mapping[int, Path],
) -> dict[str, Any]:
    row = {"claim": name, "says": claim.says, "reason": claim.unchecked, "p": NAN}
    if claim.unchecked:
        return row
    chosen = [place for place, (values, _) in enumerate(variants) if _counts(claim, values)]
    study = variants[chosen[0]][1]
    contrast, margin = study.contrasts[claim.contrast], NAN if claim.along else study.margin
    row |= _about(claim, contrast, axes) | {"margin": margin}
    lost = [place for place in chosen if place not in folders]
    if lost:
        return row | {"reason": f"{len(lost)} of {len(chosen)} settings have no result"}
    tables = {place: _differences(folders[place], claim.contrast) for place in chosen}
    row["metric"] = pd.read_parquet(folders[chosen[0]] / "contrasts.parquet")["metric"].iloc[0]
    seeds = sorted(set.intersection(*(set(table.index) for table in tables.values())))
    if any(not table.columns.equals(tables[chosen[0]].columns) for table in tables.values()):
        return row | {"reason": "its settings are tested on different rows"}
    stacked = np.stack([tables[place].loc[seeds].to_numpy(dtype=float) for place in chosen])
    combined = np.tensordot(_weights(claim, axes, [variants[place][0] for place in chosen]), stacked, axes=1)
    group = tables[chosen[0]].columns.get_level_values("group").to_numpy()
    found = crossed_difference(combined, margin=0.0 if claim.along else margin, group=group)
    return row | _measured(found, seeds=len(seeds), rows=combined.shape[1])


def _counts(claim: Claim, values: Mapping[str, Any]) -> bool:
    return all(values[axis] in _listed(kept) for axis, kept in claim.at.items())


def _about(claim: Claim, contrast: Contrast, axes: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    counted = {axis: _listed(claim.at.get(axis, list(values))) for axis, values in axes.items()}
    return {
        "method": contrast.method,
        "baseline": contrast.baseline,
        "subset": "complete" if contrast.over == "complete" else "mean over subsets",
        "measure": SLOPE if claim.along else DIFFERENCE,
        "setting": "; ".join(f"{axis} = {', '.join(map(value_name, values))}" for axis, values in counted.items()),
    }


def _differences(folder: Path, contrast: str) -> pd.DataFrame:
    """Return a contrast's differences of one variant, seeds down, test rows (with their groups) across."""
    frame = pd.read_parquet(folder / "differences.parquet", filters=[("contrast", "==", contrast)])
    return frame.pivot(index="seed", columns=["row", "group"], values="difference").sort_index(axis=1)


def _weights(
    claim: Claim, axes: Mapping[str, Sequence[Any]], settings: Sequence[Mapping[str, Any]]
) -> NDArray[np.float64]:
    """Return the weight of each setting's differences in what the claim speaks of: their mean, or their slope."""
    if not claim.along:
        return np.full(len(settings), 1 / len(settings))
    values = _steps(claim, axes)
    steps = np.array([values.index(own[claim.along]) for own in settings], dtype=float)
    away = steps - steps.mean()
    return np.asarray(away / (away**2).sum())


def _measured(found: Difference, *, seeds: int, rows: int) -> dict[str, Any]:
    own = {name: getattr(found, name) for name in ("estimate", "low", "high", "detectable")}
    why = untested(seeds) or ("its rows are one group" if np.isnan(found.error) else "")
    return own | {"seeds": seeds, "rows": rows, "p": NAN if why else found.p, "reason": why}


def _told(row: Mapping[str, Any], claim: Claim) -> tuple[str, str]:
    """Return the verdict on a claim and, where there is none, why."""
    if claim.unchecked:
        return UNCHECKED, claim.unchecked
    if row["reason"]:
        return INCONCLUSIVE, row["reason"]
    ties = not claim.along and -row["margin"] < row["low"] and row["high"] < row["margin"]
    if row["p_holm"] >= ALPHA:
        return (CONTRADICTED, "no difference beyond the margin") if ties else (INCONCLUSIVE, "")
    agrees = row["estimate"] < 0 if claim.falls_with else row["estimate"] > 0
    return (REPRODUCED if agrees else CONTRADICTED), ""
