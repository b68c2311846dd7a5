"""What every node of a study cost: optimiser steps, those of all it needs included, and parameters at use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kd.config import Study
from kd.distill.graph import made_from
from kd.distill.trained import package_folder
from kd.evaluate.cost import parameters
from kd.models.package import load_package
from kd.study.replicate import Replicate


def needed(study: Study, name: str) -> set[str]:
    """Return the nodes that must be trained before one answers: itself, its teachers and origins, and theirs.

    An ensemble needs what its members need; a baseline needs no network.
    """
    if name in study.ensembles:
        return set().union(*(needed(study, member) for member in study.ensembles[name].members))
    if name not in study.nodes:
        return set()
    found, open_ = {name}, {name}
    while open_:
        open_ = set().union(*(made_from(study, node) for node in open_)) & set(study.nodes) - found
        found |= open_
    return found


def cost_table(study: Study, replicates: Sequence[Replicate]) -> pd.DataFrame:
    """Return `node`, `steps` and `parameters`, a row per node, baseline and ensemble (protocol 7).

    Steps are those taken, each node's counted once, the mean over replicates; NaN where none is needed, and for
    parameters of baselines, which are no networks.
    """
    sizes = _sizes(study, replicates)
    rows = []
    for name in [*study.nodes, *study.baselines, *study.ensembles]:
        needs = needed(study, name)
        steps = [_steps(replicate, needs) for replicate in replicates if needs <= set(replicate.trained)]
        members = study.ensembles[name].members if name in study.ensembles else [name]
        rows.append(
            {
                "node": name,
                "steps": float(np.mean(steps)) if needs and steps else float("nan"),
                "parameters": float(sum(sizes.get(member, float("nan")) for member in members)),
            }
        )
    return pd.DataFrame(rows)


def _steps(replicate: Replicate, needs: set[str]) -> int:
    return sum(int(replicate.trained[node].metrics["steps"]) for node in needs)


def _sizes(study: Study, replicates: Sequence[Replicate]) -> Mapping[str, int]:
    """Return node -> parameters, the same in every replicate."""
    records = {node: r.trained[node] for r in reversed(replicates) for node in study.nodes if node in r.trained}
    return {node: parameters(load_package(package_folder(record))) for node, record in records.items()}
