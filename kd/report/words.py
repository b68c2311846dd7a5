"""Sentences a run's records allow, and no stronger ones (protocols on verdicts and negative transfer).

Differences of shares are in points (percent); NLL and Brier keep their own unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from kd.errors import RecordError
from kd.report import tables
from kd.report.tables import (
    LOWER_IS_BETTER,
    PERCENT,
    interval,
    metric_name,
    modalities,
    number,
)
from kd.statistics.verdicts import VERDICTS

TESTS = {
    "crossed": "T test over seeds and rows",
    "folds": "Corrected t test over folds",
    "wilcoxon": "Wilcoxon over seeds, on these test rows only",
    "permutation": "Sign flips over rows, of these networks only",
}


def contrast_sentence(contrast: Mapping[str, Any]) -> str:
    """Say one comparison: who, against whom, where, by how much, over how many seeds, and the verdict.

    Args:
        contrast: a row of the `contrasts` table.

    Raises:
        RecordError: the verdict is none that the statistics give.

    >>> row = {"method": "KDD 2020 student", "baseline": "complete-case", "subset": "all modalities", "seeds": 5,
    ...        "metric": "accuracy", "estimate": 0.012, "low": 0.003, "high": 0.021, "detectable": 0.009,
    ...        "estimand": "conditional on these rows", "verdict": "better"}
    >>> contrast_sentence(row)
    'KDD 2020 student vs complete-case on all modalities: +1.2 points [0.3, 2.1] over 5 seeds (conditional on these
     rows): better.'
    """
    verdict = contrast["verdict"]
    if verdict not in VERDICTS:
        raise RecordError(f"contrasts: expected a verdict among {', '.join(VERDICTS)}, got {verdict!r}; evaluate again")
    head = f"{contrast['method']} vs {contrast['baseline']} on {contrast['subset']}"
    measured = _measured(contrast)
    if verdict == "inconclusive":
        told = f"no clear {_direction(contrast)}: {measured}; {_detectable(contrast)}"
    elif verdict == "tie":
        told = f"{measured}: a tie, the whole interval is inside the stated margin"
    else:
        told = f"{measured}: {verdict}"
    return ". ".join([f"{head}: {told}", *_tested(contrast)]) + "."


def _tested(contrast: Mapping[str, Any]) -> list[str]:
    """Say how a comparison was tested or why not, and what could have been seen; records of old say neither."""
    if "untested" not in contrast:
        return []
    if contrast["untested"]:
        return [f"Not tested: {contrast['untested']}", *_power(contrast)]
    shown = tables.p_value(contrast["p_holm"])
    p = f"p {shown}" if shown.startswith("<") else f"p = {shown}"
    found = [f"{TESTS[contrast['test']]}: {p} after Holm over the declared comparisons"]
    return found + (_power(contrast) if contrast["verdict"] == "inconclusive" else [])


def _power(contrast: Mapping[str, Any]) -> list[str]:
    """Say what 80% power sees with these seeds and rows, and what the margin would take."""
    if pd.isna(contrast["seen"]):
        return []
    metric = contrast["metric"]
    smallest, margin = (f"{number(contrast[name], metric)} {unit(metric)}" for name in ("seen", "margin"))
    head = f"With these seeds and rows a true difference of {smallest} is seen with 80% power"
    if contrast["margin"] == 0:
        return [head]
    if pd.isna(contrast["seeds_needed"]):
        return [f"{head}; no number of seeds suffices for the margin, {margin}, the rows limit it"]
    return [f"{head}; the margin, {margin}, takes {count_seeds(int(contrast['seeds_needed']))}"]


def _direction(contrast: Mapping[str, Any]) -> str:
    gains = contrast["estimate"] < 0 if contrast["metric"] in LOWER_IS_BETTER else contrast["estimate"] > 0
    return "gain" if gains else "difference"


def _measured(contrast: Mapping[str, Any]) -> str:
    metric = contrast["metric"]
    shown = interval(contrast["estimate"], contrast["low"], contrast["high"], metric, signed=True)
    middle, _, ends = shown.partition(" ")
    seeds = count_seeds(int(contrast["seeds"]))
    estimand = f" ({contrast['estimand']})" if contrast["estimand"] else ""
    return f"{middle} {unit(metric)}{' ' + ends if ends else ''} over {seeds}{estimand}"


def _detectable(contrast: Mapping[str, Any]) -> str:
    if pd.isna(contrast["detectable"]):
        return "no interval under 5 seeds, so what could have been seen is unknown"
    shown = number(contrast["detectable"], contrast["metric"])
    return f"a difference under {shown} {unit(contrast['metric'])} could not have been seen"


def count_seeds(count: int) -> str:
    """Return a number of seeds in words.

    >>> count_seeds(1), count_seeds(5)
    ('1 seed', '5 seeds')
    """
    return f"{count} seed" + "s" * (count != 1)


def unit(metric: str) -> str:
    """Return what a difference in a metric is counted in.

    >>> unit("accuracy"), unit("macro_f1"), unit("nll")
    ('points', 'points of macro-F1', 'NLL')
    """
    if metric == "accuracy":
        return "points"
    return f"points of {metric_name(metric)}" if metric in PERCENT else metric_name(metric)


def modality_words(subset: str, everything: list[str]) -> str:
    """Name a subset for people.

    >>> modality_words("a+b", ["a", "b"]), modality_words("a", ["a", "b"])
    ('all modalities', 'a alone')
    """
    names = modalities([subset])
    if len(names) == len(everything):
        return "all modalities"
    return f"{names[0]} alone" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plain(text: str) -> str:
    """Return text as Markdown that shows it literally: no HTML, emphasis or line break of a name takes effect.

    >>> plain("<b> x_1")
    '&lt;b> x\\\\_1'
    """
    for sign, instead in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("*", "\\*"), ("_", "\\_"), ("`", "\\`")):
        text = text.replace(sign, instead)
    return " ".join(text.split())


def rich(text: str) -> str:
    """Return text as Markdown that keeps its code spans and shows the rest literally.

    >>> rich("`a_b` beats c_d")
    '`a_b` beats c\\\\_d'
    """
    parts = text.split("`")
    coded = [place % 2 == 1 and not set(part) & set("<&\n") for place, part in enumerate(parts)]
    return "".join(f"`{part}`" if code else _pad(part, plain(part)) for part, code in zip(parts, coded, strict=True))


def _pad(part: str, shown: str) -> str:
    """Keep the blanks at both ends of a part, which `plain` takes away."""
    head, tail = " " * part[:1].isspace(), " " * part[-1:].isspace()
    return f"{head}{shown}{tail}" if shown else head
