"""Predictions -> tidy metrics per subset, and their summary: complete, mean over subsets, worst subset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from torch import Tensor

from kd.evaluate.predictions import SEPARATOR, all_subsets
from kd.statistics.intervals import mean_interval


def subset_rows(
    answers: Mapping[str, Tensor | None],
    label: Tensor,
    measure: Callable[[Tensor, Tensor], Mapping[str, float]],
    **identity: object,
) -> list[dict[str, object]]:
    """Return one row per subset and metric for one model; subsets it cannot answer give none.

    Args:
        answers: subset -> logits [N, C] or None.
        label: [N].
        measure: metric -> value, from logits and label: a task's `metrics`.
        identity: node, stage, seed: copied into each row.
    """
    rows = []
    # A network that sees less answers several subsets with the same logits.
    measured: dict[int, Mapping[str, float]] = {}
    for subset, logits in answers.items():
        if logits is None:
            continue
        size = len(subset.split(SEPARATOR))
        if id(logits) not in measured:
            measured[id(logits)] = measure(logits, label)
        for metric, value in measured[id(logits)].items():
            rows.append({**identity, "subset": subset, "size": size, "n": len(label), "metric": metric, "value": value})
    return rows


def count_subsets(tested: int, modalities: int) -> str:
    """Say how many subsets a mean is over, and of how many where that is a sample.

    >>> count_subsets(7, 3), count_subsets(252, 9)
    ('7 subsets', '252 of 511 subsets, sampled')
    """
    every = 2**modalities - 1
    return f"{tested} subsets" if tested == every else f"{tested} of {every} subsets, sampled"


def summarise(test: pd.DataFrame, validation: pd.DataFrame, modalities: Sequence[str], metric: str) -> pd.DataFrame:
    """Return complete, mean over all subsets and worst subset per node and stage, with 95% t intervals over seeds.

    The worst subset is the one that is worst on validation, measured on test (protocol 8). A node that cannot answer
    every subset has only the complete row.

    Args:
        test: rows of `subset_rows` on test.
        validation: the same on validation.
        modalities: of the study.
        metric: column `metric` to summarise.
    """
    every = all_subsets(modalities)
    complete = SEPARATOR.join(modalities)
    found = []
    for (node, stage), frame in test[test.metric == metric].groupby(["node", "stage"], sort=False):
        table = frame.pivot(index="seed", columns="subset", values="value")
        rows = {"complete": (table[complete], "")} if complete in table else {}
        if set(every) <= set(table.columns):
            chosen = validation[(validation.metric == metric) & (validation.node == node) & (validation.stage == stage)]
            worst = chosen.groupby("subset").value.mean()[every].idxmin()
            rows["mean"] = (table[every].mean(axis=1), count_subsets(len(every), len(modalities)))
            rows["worst"] = (
                table[worst],
                f"{worst}, worst on validation; test minimum {table[every].mean().min():.4f}",
            )
        for what, (values, note) in rows.items():
            mean, low, high = mean_interval(values.to_numpy())
            found.append(
                {
                    "node": node,
                    "stage": stage,
                    "what": what,
                    "metric": metric,
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "seeds": len(values),
                    "note": note,
                }
            )
    return pd.DataFrame(found)
