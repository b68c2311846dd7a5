"""How robust the nodes of a run are, for people: a table, the Shapley values, and what they mean in sentences.

Margins are over the training prior: what a constant answer scores on the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kd.evaluate import BAYES
from kd.report import tables
from kd.report.evidence import Evidence
from kd.report.opening import versatile
from kd.report.tables import LOWER_IS_BETTER, NOTHING, interval, metric_name, number
from kd.report.words import unit
from kd.statistics.intervals import mean_interval

KEPT = "margin kept at {:.0%} missing"
ORDERINGS = "Fixed random orderings of the modalities stand for all; what that errs is in the intervals."
NEEDED = 8
"""Baselines that a line of effective robustness goes through, at least (protocol 9)."""


def robust_content(evidence: Evidence) -> dict[str, Any]:
    """Return what the section on robustness shows; no table where an older run recorded nothing of it.

    It shows the nodes that answer every subset: of the others the rate alone decides what they keep.
    """
    if not len(evidence.robustness):
        return {"table": None}
    known = list(dict.fromkeys(evidence.robustness["metric"]))
    metric = evidence.metric if evidence.metric in known else known[0]
    whole = versatile(evidence.subsets) or list(evidence.robustness["node"])
    frame = evidence.robustness[(evidence.robustness["metric"] == metric) & evidence.robustness["node"].isin(whole)]
    games = evidence.shapley[(evidence.shapley["metric"] == metric) & evidence.shapley["node"].isin(whole)]
    return {
        "key": metric,
        "metric": metric_name(metric),
        "table": robust_table(frame, games, evidence.patterns, evidence.subsets, metric),
        "shapley": shapley_table(games, tables.modalities(evidence.subsets["subset"]), metric),
        "game": ", ".join(dict.fromkeys(games["game"])),
        "words": robust_sentences(frame, games, evidence.kinds, metric),
        "unseen": unseen_sentences(evidence.patterns, evidence.subsets, evidence.kinds, metric),
        "line": line_note(evidence),
        "orderings": ORDERINGS if (games["sampling_error"] > 0).any() else "",
    }


def robust_table(
    frame: pd.DataFrame, games: pd.DataFrame, patterns: pd.DataFrame, subsets: pd.DataFrame, metric: str
) -> pd.DataFrame:
    """Return area, margins kept, evenness and scores on patterns shown and never shown, per node and stage, as text.

    Args:
        frame: a run's `robustness`, of one metric.
        games: its `shapley`, of the same.
        patterns: which subsets training showed.
        subsets: the scores on each.
        metric: in whose unit areas stand.
    """
    evenness = games.groupby(["node", "stage"])["evenness"].first()
    rows = []
    for (node, stage), group in frame.groupby(["node", "stage"], sort=False):
        row: dict[str, object] = {"node": node, "stage": stage}
        row["area"] = interval(*_over_seeds(group, "area"), metric)
        for rate in sorted(group[group["quantity"] == "retained"]["rate"].unique()):
            row[KEPT.format(rate)] = interval(*_over_seeds(group, "retained", rate))
        row["evenness"] = number(evenness.get((node, stage), np.nan), "evenness")
        row |= _by_pattern(node, stage, patterns, subsets, metric)
        if "effective_robustness" in set(frame["quantity"]):
            row["effective robustness"] = interval(*_over_seeds(group, "effective_robustness"), "logit", signed=True)
        rows.append(row)
    return pd.DataFrame(rows).fillna(NOTHING)


def _over_seeds(group: pd.DataFrame, quantity: str, rate: float | None = None) -> tuple[float, float, float]:
    """Return mean and 95% t interval over seeds; nothing where one seed has none."""
    chosen = group[group["quantity"] == quantity]
    values = chosen if rate is None else chosen[np.isclose(chosen["rate"], rate)]
    return mean_interval(values["value"].to_numpy(float)) if len(values) else (np.nan, np.nan, np.nan)


def _by_pattern(node: str, stage: str, patterns: pd.DataFrame, subsets: pd.DataFrame, metric: str) -> dict[str, object]:
    found = pattern_means(patterns[patterns["node"] == node], subsets[subsets["stage"] == stage], metric)
    if found is None:
        return {}
    never, tested, shown, unseen = found
    return {"never shown": f"{never:g} of {tested}", "shown mean": shown, "never shown mean": unseen}


def pattern_means(own: pd.DataFrame, subsets: pd.DataFrame, metric: str) -> tuple[float, int, str, str] | None:
    """Return how many tested subsets training never showed a node, of how many, its mean on the others and on those.

    Which they are may differ from seed to seed, as the masks do; counts are means over seeds. None where nothing is
    known.
    """
    scored = own.merge(subsets[subsets["metric"] == metric], on=["node", "seed", "subset"])
    if not len(scored):
        return None
    never = (~scored["shown"].astype(bool)).groupby(scored["seed"]).sum().mean()
    means = scored.groupby(["shown", "seed"])["value"].mean()
    shown, unseen = (
        interval(*mean_interval(means[flag].to_numpy(float)), metric) if flag in means else NOTHING
        for flag in (True, False)
    )
    return round(float(never), 1), scored["subset"].nunique(), shown, unseen


def shapley_table(games: pd.DataFrame, names: list[str], metric: str) -> pd.DataFrame:
    """Return the Shapley value of every modality with its interval, a row per node and stage, as text.

    Args:
        games: a run's `shapley`, of one metric.
        names: of the modalities, in the source's order.
        metric: in whose unit values stand.
    """
    sizes = games.groupby(["node", "stage"])["modality"].transform("nunique")
    rows = []
    for (node, stage), group in games[sizes > 1].groupby(["node", "stage"], sort=False):
        values = {r.modality: interval(r.value, r.low, r.high, metric, signed=True) for r in group.itertuples()}
        together = number(group["value"].sum(), metric, signed=True)
        rows.append({"node": node, "stage": stage, **{n: values.get(n, NOTHING) for n in names}, "together": together})
    return pd.DataFrame(rows, columns=["node", "stage", *names, "together"])


def robust_sentences(frame: pd.DataFrame, games: pd.DataFrame, kinds: Mapping[str, str], metric: str) -> list[str]:
    """Say what the students keep when modalities go missing, and what they draw on; descriptions, not tests."""
    chosen = frame[frame["stage"] == "float"]
    sentences = [_highest(chosen, metric)]
    for node in dict.fromkeys(chosen["node"]):
        if kinds.get(node) == "student":
            own = games[(games["node"] == node) & (games["stage"] == "float")]
            sentences += [_kept(chosen[chosen["node"] == node], node), _draws(own, node, metric)]
    return [sentence for sentence in sentences if sentence]


def _highest(frame: pd.DataFrame, metric: str) -> str:
    areas = frame[(frame["quantity"] == "area") & (frame["node"] != BAYES)].groupby("node")["value"].mean()
    if not len(areas):
        return ""  # nothing that was trained answers every subset
    best = areas.idxmin() if metric in LOWER_IS_BETTER else areas.idxmax()
    extreme = "lowest" if metric in LOWER_IS_BETTER else "highest"
    shown = interval(*_over_seeds(frame[frame["node"] == best], "area"), metric)
    return f"Over all missing rates `{_name(best)}` has the {extreme} {metric_name(metric)}, {shown} in the mean."


def _kept(frame: pd.DataFrame, node: str) -> str:
    # A seed without a margin must not drop out of the mean.
    kept = frame[frame["quantity"] == "retained"].groupby("rate")["value"].agg(lambda seeds: seeds.mean(skipna=False))
    if not len(kept):
        return ""
    if kept.isna().any():
        return f"`{_name(node)}` is no better than the training prior with everything present, in one seed at least."
    rate = kept.index.max()
    missing = "half of the modalities are" if rate == 0.5 else f"{rate:.0%} of the modalities are"
    return f"`{_name(node)}` keeps {kept[rate]:.0%} of its margin over the training prior when {missing} missing."


def _draws(games: pd.DataFrame, node: str, metric: str) -> str:
    if len(games) < 2:
        return ""
    most, least = games.loc[games["value"].idxmax()], games.loc[games["value"].idxmin()]
    shown = [f"{row['modality']} ({number(row['value'], metric, signed=True)})" for row in (most, least)]
    return f"`{_name(node)}` draws most on {shown[0]} and least on {shown[1]}, Shapley values in {unit(metric)}."


def unseen_sentences(patterns: pd.DataFrame, subsets: pd.DataFrame, kinds: Mapping[str, str], metric: str) -> list[str]:
    """Say how each student scores on patterns of modalities that none of its training rows showed."""
    sentences = []
    for node, own in patterns.groupby("node", sort=False):
        found = pattern_means(own, subsets[subsets["stage"] == "float"], metric)
        if kinds.get(node) != "student" or found is None:
            continue
        never, tested, shown, unseen = found
        head = f"Training never showed `{_name(node)}` {never:g} of its {tested} patterns"
        if unseen == NOTHING:
            sentences.append(f"Training showed `{_name(node)}` all of its {tested} patterns.")
        elif shown == NOTHING:
            sentences.append(f"{head}: {unseen} in the mean.")
        else:
            sentences.append(f"{head}: {unseen} in the mean over those, {shown} over the others.")
    return sentences


def line_note(evidence: Evidence) -> str:
    """Say what effective robustness is, or why it is not reported."""
    if "effective_robustness" in set(evidence.robustness["quantity"]):
        return (
            "Effective robustness is the distance, in logits of accuracy at 50% missing, from the line through the "
            "baselines."
        )
    count = sum(evidence.kinds.get(node) not in ("student", None) for node in versatile(evidence.subsets))
    return (
        f"Effective robustness is not reported: {count} baseline{'s' * (count != 1)} answer every subset, and a line "
        f"needs {NEEDED}."
    )


def sample_note(subsets: pd.DataFrame) -> str:
    """Say that not every subset was tested, where that is so."""
    tested = subsets["subset"].nunique()
    every = 2 ** len(tables.modalities(subsets["subset"])) - 1
    if tested >= every:
        return ""
    return (
        f"{tested} of the {every:,} subsets were tested, a fixed sample: each modality alone, each missing alone, all, "
        "and the openings of random orderings. Every mean over subsets is over these."
    )


def _name(node: object) -> str:
    return str(node).replace("`", "'")
