"""Which methods come first: by their mean on validation rows, and the simple ones, which others must beat.

Nothing here reads a test score, so that what it puts first may be advised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from kd.evaluate import BAYES
from kd.report.tables import LOWER_IS_BETTER

SUBSETS, COMPLETE = "mean over subsets", "complete"
"""What a mean is over, as the table of pairs spells it."""
OVERS = (SUBSETS, COMPLETE)
BEST = 6
"""Methods, the best by validation, that a crowded page shows unfolded beside the simple ones."""


def validation_means(validation: pd.DataFrame, over: str) -> pd.Series:
    """Return method -> mean validation score over seeds, the best first.

    Left out are methods that lack a seed which others have, those that cannot answer the question, and the Bayes rule.

    Args:
        validation: a run's table of that name, or the rows of one setting of an ablation's.
        over: `mean over subsets` asks methods that answer every subset, `complete` those that answer complete rows.
    """
    chosen = answering(validation, over)
    if not len(chosen):
        return pd.Series(dtype=float)
    per_seed = chosen.groupby(["node", "seed"], sort=False)["value"].mean()
    means = per_seed.groupby("node", sort=False).agg(["mean", "size"])
    whole = means[means["size"] == means["size"].max()]["mean"]
    lowest_first = str(chosen["metric"].iloc[0]) in LOWER_IS_BETTER
    return whole.sort_values(ascending=lowest_first, kind="stable")


def answering(validation: pd.DataFrame, over: str) -> pd.DataFrame:
    """Return the rows of trained methods, before compression, that answer a question."""
    chosen = validation[(validation["stage"] == "float") & (validation["node"] != BAYES)]
    if over == COMPLETE:
        return chosen[chosen["size"] == chosen["size"].max()]
    answered = chosen.groupby(["node", "seed"])["subset"].transform("nunique")
    return chosen[answered == chosen["subset"].nunique()]


def simple_methods(config: object) -> list[str]:
    """Return the methods to use unless another one is better, as a study's provenance names them; else none.

    >>> simple_methods({"simple": ["late"]}), simple_methods({}), simple_methods("data: {name: mfeat}")
    (['late'], [], [])
    """
    return list(config.get("simple") or []) if isinstance(config, Mapping) else []


def shown_first(methods: Iterable[str], means: pd.Series, simple: Collection[str]) -> tuple[list[str], list[str]]:
    """Divide methods into those a crowded page shows and those it folds away: the best few and the simple ones first.

    Args:
        methods: all of them, in the order of a page.
        means: of `validation_means`, the best first; without rows, the first methods stand for the best.
        simple: names of simple methods.
    """
    known = list(dict.fromkeys(methods))
    if len(known) <= 2 * BEST:
        return known, []
    best = [str(name) for name in means.index if name in known][:BEST] or known[:BEST]
    first = [*best, *ranked([name for name in simple if name in known and name not in best], means)[:BEST]]
    return first, [name for name in known if name not in first]


def ranked(methods: Sequence[str], means: pd.Series) -> list[str]:
    """Return methods by their validation means, the best first; those without one last, in their order.

    >>> ranked(["c", "a", "b"], pd.Series({"b": 0.9, "a": 0.8}))
    ['b', 'a', 'c']
    """
    place = {name: number for number, name in enumerate(means.index)}
    return sorted(methods, key=lambda name: place.get(name, len(place)))
