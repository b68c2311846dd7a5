"""What a page shows of many methods beside each other: the best few and the simple ones first, the rest folded away."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kd.report.advised import of_run
from kd.report.evidence import Evidence
from kd.report.grid import column_order, scores_at_test
from kd.report.heatmap import as_text, heat_map, over_seeds
from kd.report.leading import OVERS, SUBSETS, ranked, shown_first, simple_methods, validation_means
from kd.report.matrix import Matrix, matrix
from kd.report.stamps import MNAR

NO_RATES = pd.DataFrame(columns=["node", "stage", "seed", "rate", "value"])
PLACES = {SUBSETS: "mean over all subsets", "complete": "complete rows"}


@dataclass(frozen=True)
class Pairs:
    """The matrix of pairs for one question.

    Attributes:
        over: the question, as the table of pairs spells it.
        place: the same for people.
        first: of the best few by validation and the simple ones.
        whole: of all methods; None where the first has them all.
    """

    over: str
    place: str
    first: Matrix
    whole: Matrix | None


def pair_matrices(pairs: pd.DataFrame, validation: pd.DataFrame, simple: Collection[str]) -> list[Pairs]:
    """Return the matrices of a run, or of all settings of an ablation, which they count.

    Args:
        pairs: a run's table of that name, or an ablation's.
        validation: the same run's scores on validation rows; they order the methods.
        simple: names of simple methods.
    """
    found = []
    for over in OVERS:
        own = pairs[pairs["over"] == over]
        means = validation_means(validation, over)
        methods = ranked(list(dict.fromkeys([*own["method"], *own["baseline"]])), means)
        first, rest = shown_first(methods, means, simple)
        if methods:
            whole = matrix(own, over, methods) if rest else None
            found.append(Pairs(over, PLACES[over], matrix(own, over, ranked(first, means)), whole))
    return found


def run_comparison(evidence: Evidence) -> dict[str, Any]:
    """Return what a run's page shows of its methods beside each other; empty parts where an older record has none."""
    simple, found = simple_methods(evidence.provenance.get("config")), of_run(evidence)
    return {
        "paragraphs": found.paragraphs,
        "advised": found,
        "matrices": pair_matrices(evidence.pairs, evidence.validation, simple),
        **mask_comparison(evidence.test_masks, evidence.metric),
    }


def mask_comparison(masks: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return the heat map of methods by test masks, and the same as text; nothing where a config names none.

    Args:
        masks: a run's table of scores under test masks.
        metric: the one the report leads with; where it was not scored under masks, the first is shown.
    """
    if not len(masks):
        return {"test_masks": None, "test_mask_table": pd.DataFrame(), "mnar_tested": False}
    known = metric if metric in set(masks["metric"]) else str(masks["metric"].iloc[0])
    scores = scores_at_test(NO_RATES, masks[masks["metric"] == known], [])
    means, columns = over_seeds(scores, ["node", "column"]), column_order(list(scores["column"]))
    return {
        "test_masks": heat_map(means, ["node"], known, columns),
        "test_mask_table": as_text(means, ["node"], known, columns),
        "mnar_tested": bool((masks["kind"] == MNAR).any()),
    }


def divided(nodes: Collection[str], validation: pd.DataFrame, config: object) -> tuple[list[str], list[str]]:
    """Return the methods that a page draws, the best on validation and the simple ones, and those it folds away."""
    return shown_first(nodes, validation_means(validation, SUBSETS), simple_methods(config))
