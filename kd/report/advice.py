"""Which method to use, decided on a study's own tables: validation chooses, test rows only confirm.

The simple methods are used unless what validation prefers is shown to beat the best of them, for more complex methods
do not reliably do so (arXiv 2512.22991).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from kd.report.differences import Difference, Differences, differences
from kd.report.leading import answering, validation_means
from kd.statistics import SEEDS_FOR_INTERVAL
from kd.statistics.verdicts import VERDICTS

BETTER, SIMPLE, UNBEATEN = "better", "simple", "unbeaten"
FEW_SEEDS, NO_SIMPLE, NO_PAIR = "few seeds", "no simple method", "not compared"
REASONS = {
    BETTER: "validation prefers it, and on test rows it beats the best simple method",
    SIMPLE: "validation prefers it, and it is simple",
    UNBEATEN: "the best simple method, which what validation prefers does not beat on test rows",
    FEW_SEEDS: f"nothing is advised with fewer than {SEEDS_FOR_INTERVAL} seeds",
    NO_SIMPLE: "nothing is advised without a simple method to compare with",
    NO_PAIR: "nothing is advised, for the comparison with the best simple method was not recorded",
}


@dataclass(frozen=True)
class Advice:
    """What to use for one question, and why.

    Attributes:
        over: the question, as the table of pairs spells it.
        favourite: best mean on validation rows.
        simple: best of the simple methods on validation rows; None where none can answer.
        rival: best of the others there; None where all are simple.
        advised: None where nothing can be advised.
        reason: a key of `REASONS`.
        difference: rival minus simple on test rows; None where it was not recorded.
        means: method -> mean validation score, the best first.
        metric: of these means.
        seeds: behind every mean.
        alike: methods that test rows do not tell from the advised one: ties and inconclusive.
        worse: those that it beats there.
        above: those that beat it there, which validation did not choose.
        left_out: methods that lack a seed.
    """

    over: str
    favourite: str
    simple: str | None
    rival: str | None
    advised: str | None
    reason: str
    difference: Difference | None
    means: dict[str, float]
    metric: str
    seeds: int
    alike: tuple[str, ...]
    worse: tuple[str, ...]
    above: tuple[str, ...]
    left_out: tuple[str, ...]


def advise(validation: pd.DataFrame, pairs: pd.DataFrame, over: str, simple: Collection[str]) -> Advice | None:
    """Return what to use for a question, or None where no method can answer it.

    Args:
        validation: scores of every method, seed and subset on validation rows, of one setting.
        pairs: differences of every two methods on test rows, of the same setting.
        over: `mean over subsets`, where any modality may be missing, or `complete`.
        simple: names of the methods to use unless another one is better.
    """
    means = validation_means(validation, over)
    if not len(means):
        return None
    plain, others = ([str(name) for name in means.index if (name in simple) == kind] for kind in (True, False))
    best, rival = (names[0] if names else None for names in (plain, others))
    found = differences(pairs, over)
    difference = between(found, rival, best)
    favourite = _favourite(means, best, rival)
    seeds = _seeds(validation, pairs, over, means)
    reason = _reason(favourite, best, difference, seeds)
    advised = {BETTER: rival, SIMPLE: best, UNBEATEN: best}.get(reason)
    told = told_apart(found, advised, means)
    known = dict.fromkeys(answering(validation, over)["node"])
    return Advice(
        over=over,
        favourite=favourite,
        simple=best,
        rival=rival,
        advised=advised,
        reason=reason,
        difference=difference,
        means={str(name): float(value) for name, value in means.items()},
        metric=str(validation["metric"].iloc[0]),
        seeds=seeds,
        alike=told["tie"] + told["inconclusive"],
        worse=told["better"],
        above=told["worse"],
        left_out=tuple(str(name) for name in known if name not in means.index),
    )


def _favourite(means: pd.Series, best: str | None, rival: str | None) -> str:
    """Return the best on validation; of two that are equal the simple one."""
    if best is not None and means[best] == means.iloc[0]:
        return best
    return rival if rival is not None else str(means.index[0])


def _seeds(validation: pd.DataFrame, pairs: pd.DataFrame, over: str, means: pd.Series) -> int:
    """Return how many seeds stand behind every number: of validation, and of the pairs where there are any."""
    counts = [validation[validation["node"].isin(means.index)].groupby("node")["seed"].nunique().min()]
    own = pairs[(pairs["over"] == over) & pairs["method"].isin(means.index) & pairs["baseline"].isin(means.index)]
    return int(min([*counts, *own["seeds"]]))


def _reason(favourite: str, best: str | None, difference: Difference | None, seeds: int) -> str:
    if seeds < SEEDS_FOR_INTERVAL:
        return FEW_SEEDS
    if best is None:
        return NO_SIMPLE
    if favourite == best:
        return SIMPLE
    if difference is None:
        return NO_PAIR
    return BETTER if difference.verdict == "better" else UNBEATEN


def told_apart(found: Differences, method: str | None, means: pd.Series) -> dict[str, tuple[str, ...]]:
    """Return verdict -> the candidates against which test rows give it to a method, the best on validation first."""
    told: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for other in map(str, means.index) if method is not None else ():
        own = between(found, method, other)
        if own is not None:
            told[own.verdict].append(other)
    return {verdict: tuple(names) for verdict, names in told.items()}


def between(found: Differences, method: str | None, baseline: str | None) -> Difference | None:
    """Return the difference of two methods in one setting; None where it was not recorded."""
    own = found.get((method, baseline), []) if method is not None and baseline is not None else []
    return own[0] if own else None
