"""Which subsets of modalities training showed each node, baseline and ensemble of a study."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kd.baselines import BASELINES
from kd.config import Baseline, Node, Study
from kd.evaluate.patterns import was_shown
from kd.evaluate.predictions import SEPARATOR, all_subsets
from kd.study.replicate import Replicate


def pattern_rows(study: Study, modalities: Sequence[str], replicates: Sequence[Replicate]) -> pd.DataFrame:
    """Return whether training showed each node each tested subset: a row per node, seed and subset.

    With folds, in every one of them; an ensemble was shown what each member that can answer was shown. Networks whose
    weights were given have no rows: nothing is known of their training.
    """
    every, found = all_subsets(modalities), []
    for seed in dict.fromkeys(r.seed for r in replicates):
        shown = _shown(study, every, [r for r in replicates if r.seed == seed])
        for name, ensemble in study.ensembles.items():
            if all(member in shown for member in ensemble.members):
                shown[name] = [_together(parts) for parts in zip(*(shown[m] for m in ensemble.members), strict=True)]
        for name, flags in shown.items():
            found += [
                {"node": name, "seed": seed, "subset": subset, "shown": flag}
                for subset, flag in zip(every, flags, strict=True)
                if flag is not None
            ]
    return pd.DataFrame(found, columns=["node", "seed", "subset", "shown"])


def _shown(study: Study, every: Sequence[str], folds: Sequence[Replicate]) -> dict[str, list[bool | None]]:
    """Return node or baseline -> whether training showed it each subset; None for one of which it sees nothing."""
    fitted: dict[str, Node | Baseline] = {**study.nodes, **study.baselines}
    found: dict[str, list[bool | None]] = {}
    for name, node in fitted.items():
        if not all(name in fold.patterns for fold in folds):
            continue
        drop = node.drop > 0 if isinstance(node, Node) else BASELINES.build(node.model).drops
        found[name] = [
            all(was_shown(subset, fold.patterns[name], node.sees, drop=drop) for fold in folds)
            if set(subset.split(SEPARATOR)) & set(node.sees)
            else None
            for subset in every
        ]
    return found


def _together(parts: Sequence[bool | None]) -> bool | None:
    known = [part for part in parts if part is not None]
    return all(known) if known else None
