"""What to use, in words: one paragraph for each question, its evidence, and what it holds for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from kd.report import advice as decided
from kd.report.advice import Advice
from kd.report.differences import Difference
from kd.report.leading import COMPLETE, SUBSETS
from kd.report.setting import Setting
from kd.report.tables import LOWER_IS_BETTER, NOTHING, interval, metric_name, number
from kd.report.words import count_seeds, unit

QUESTIONS = {SUBSETS: "Any modality may be missing at test", COMPLETE: "Complete rows at test"}
PLACES = {SUBSETS: "in the mean over all subsets", COMPLETE: "on complete rows"}
LISTED = 6
"""Methods that a sentence names; the matrix of pairs has all."""


def paragraph(advice: Advice, cost: pd.DataFrame) -> str:
    """Return what to use for a question, with its evidence; names of methods stand between backticks.

    Args:
        advice: the decision.
        cost: a run's table of optimiser steps and parameters; without rows, nothing is said of them.
    """
    verdict = {
        decided.BETTER: _better,
        decided.SIMPLE: _simple,
        decided.UNBEATEN: _unbeaten,
        decided.FEW_SEEDS: _few_seeds,
        decided.NO_SIMPLE: _no_simple,
        decided.NO_PAIR: _no_pair,
    }[advice.reason]
    sentences = [f"{QUESTIONS[advice.over]}: {verdict(advice, cost)}", *_others(advice), _left_out(advice)]
    return " ".join(sentence for sentence in sentences if sentence)


def _better(advice: Advice, cost: pd.DataFrame) -> str:
    rival, simple, difference = _code(advice.rival), _code(advice.simple), advice.difference
    assert difference is not None
    gain = _amount(difference, signed=False)
    head = f"use {rival}. Validation chose it ({_means(advice, advice.rival, advice.simple)})"
    where = f"{PLACES[advice.over]}, on test rows"
    return f"{head}, and it beats the best simple method, {simple}, by {gain} {where}.{_price(advice, cost)}"


def _simple(advice: Advice, cost: pd.DataFrame) -> str:
    head = f"use {_code(advice.simple)}. It is a simple method and has the {_best(advice)}, {_mean(advice)}."
    if advice.rival is None:
        return head
    rest = f"The best of the others there, {_code(advice.rival)} ({_mean(advice, advice.rival)})"
    if advice.difference is None:
        return f"{head} {rest}, was not compared with it on test rows."
    return f"{head} {rest}, differs from it by {_amount(advice.difference)} on test rows{_decided(advice.difference)}."


def _unbeaten(advice: Advice, cost: pd.DataFrame) -> str:
    rival, simple, difference = _code(advice.rival), _code(advice.simple), advice.difference
    assert difference is not None
    beats = f"{rival} does not beat it" if advice.above else "nothing beats it"
    told = (
        f"is behind it by {_amount(difference.reverse, signed=False)}"
        if difference.verdict == "worse"
        else f"differs from it by {_amount(difference)}{_decided(difference)}"
    )
    return (
        f"use {simple}: {beats} here. Validation preferred {rival} ({_means(advice, advice.rival, advice.simple)}), "
        f"but {PLACES[advice.over]}, on test rows, it {told}.{_price(advice, cost)} That complex methods do not "
        "reliably beat simple ones is known (arXiv 2512.22991)."
    )


def _few_seeds(advice: Advice, cost: pd.DataFrame) -> str:
    return f"no advice can be tested with {count_seeds(advice.seeds)}. {_described(advice)}"


def _no_simple(advice: Advice, cost: pd.DataFrame) -> str:
    return f"no advice without a simple method to compare with. {_described(advice)}"


def _no_pair(advice: Advice, cost: pd.DataFrame) -> str:
    missing = f"{_code(advice.rival)} was not compared with {_code(advice.simple)} on test rows"
    return f"no advice, for {missing}. {_described(advice)}"


def _described(advice: Advice) -> str:
    """Say what came first, with no claim that it would do so again."""
    told = f"A description only: {_code(advice.favourite)} has the {_best(advice)}, {_mean(advice, advice.favourite)}"
    if advice.simple is None or advice.simple == advice.favourite:
        return f"{told}{'; it is a simple method' if advice.simple else ''}."
    told += f", the best simple method, {_code(advice.simple)}, {_mean(advice, advice.simple)}"
    if advice.difference is None:
        return f"{told}."
    return f"{told}; on test rows they differ by {_amount(advice.difference)}."


def _best(advice: Advice) -> str:
    extreme = "lowest" if advice.metric in LOWER_IS_BETTER else "best"
    return f"{extreme} mean {metric_name(advice.metric)} on validation rows"


def _mean(advice: Advice, method: str | None = None) -> str:
    return number(advice.means[method or advice.favourite], advice.metric)


def _means(advice: Advice, one: str | None, other: str | None) -> str:
    return f"{metric_name(advice.metric)} {_mean(advice, one)} against {_mean(advice, other)}"


def _amount(difference: Difference, *, signed: bool = True) -> str:
    """Show a difference, its unit and its interval.

    >>> _amount(Difference(0.012, 0.003, 0.021, "better", "accuracy"))
    '+1.2 points [0.3, 2.1]'
    """
    shown = interval(difference.estimate, difference.low, difference.high, difference.metric, signed=signed)
    middle, _, bracket = shown.partition(" ")
    return f"{middle} {unit(difference.metric)} {bracket}".strip()


def _decided(difference: Difference) -> str:
    """Say what an interval decides, and what it could have shown."""
    if difference.verdict == "tie":
        return ", a tie"
    if difference.verdict != "inconclusive":
        return f", {difference.verdict}"
    if math.isnan(difference.detectable):
        return ", inconclusive"
    smallest = f"{number(difference.detectable, difference.metric)} {unit(difference.metric)}"
    return f", inconclusive: a difference under {smallest} could not have been seen"


def _price(advice: Advice, cost: pd.DataFrame) -> str:
    """Say what the rival costs, as a multiple of the simple method."""
    if not len(cost):
        return ""
    known = cost.drop_duplicates("node").set_index("node")
    facts = [_ratio(advice, known[column], words) for column, words in COSTS.items()]
    facts = [fact for fact in facts if fact]
    return f" It takes {' and '.join(facts)}." if facts else ""


COSTS = {"steps": "the optimiser steps", "parameters": "the parameters"}


def _ratio(advice: Advice, column: pd.Series, words: str) -> str:
    rival, simple = (column.get(name, math.nan) for name in (advice.rival, advice.simple))
    if pd.isna(rival):
        return ""
    if pd.isna(simple) or simple == 0:
        return f"{rival:,.0f} of {words} where the other has none"
    return f"{rival / simple:.1f} times {words}"


def _others(advice: Advice) -> list[str]:
    """Say what else test rows allow to be said of the advised method."""
    if advice.advised is None:
        return []
    found = []
    if advice.alike:
        found.append(f"Not told from {_code(advice.advised)} on test rows: {_list(advice.alike)}.")
    if advice.worse:
        found.append(f"Worse than it: {_list(advice.worse)}.")
    if advice.above:
        found.append(f"Above it on test rows, but not what validation chose, so not advised: {_list(advice.above)}.")
    return found


def _left_out(advice: Advice) -> str:
    return f"Left out, for a seed of theirs failed: {_list(advice.left_out)}." if advice.left_out else ""


def _list(names: Sequence[str]) -> str:
    rest = len(names) - LISTED
    shown = ", ".join(_code(name) for name in names[:LISTED])
    return f"{shown} and {rest} more" if rest > 0 else shown


def _code(name: object) -> str:
    return "`" + str(name).replace("`", "'") + "`"


def ground(setting: Setting, seeds: int) -> str:
    """Return what an advice rests on and holds for.

    >>> ground(Setting("mcar, rate 0.3", "MCAR", (600,)), 5)
    '5 seeds, 600 test rows, training modalities hidden by mcar, rate 0.3 (MCAR). This holds for these data.'
    """
    rows = f"{' or '.join(f'{count:,}' for count in setting.rows)} test rows"
    kind = f" ({setting.kind})" if setting.kind else ""
    hidden = f", training modalities hidden by {setting.mechanism}{kind}" if setting.mechanism else ""
    if setting.mechanism == "complete":
        hidden = ", no modality hidden in training"
    mnar = " Training was under an MNAR mask: it holds for that mechanism only." if setting.mnar else ""
    return f"{count_seeds(seeds)}, {rows}{hidden}. This holds for these data.{mnar}"


def advice_table(advices: Sequence[Advice], values: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Return one line per advice as text: what is used, what stood against it, and the difference on test rows.

    Args:
        advices: of any settings and questions.
        values: of the same length: what names the setting of each, column -> text.
    """
    rows = [
        {
            **names,
            "question": QUESTIONS[own.over],
            "use": own.advised or NOTHING,
            "best on validation": own.favourite,
            "best simple": own.simple or NOTHING,
            "best other": own.rival or NOTHING,
            "other − simple, test": NOTHING if own.difference is None else _plain(own.difference),
            "verdict": NOTHING if own.difference is None else own.difference.verdict,
            "not told apart": len(own.alike),
            "seeds": own.seeds,
            "reason": decided.REASONS[own.reason],
        }
        for own, names in zip(advices, values, strict=True)
    ]
    return pd.DataFrame(rows)


def _plain(difference: Difference) -> str:
    return interval(difference.estimate, difference.low, difference.high, difference.metric, signed=True)


def over_settings(advices: Sequence[Advice]) -> list[str]:
    """Return what holds over the settings of an ablation, a sentence or two for each question."""
    found = []
    for over, question in QUESTIONS.items():
        own = [one for one in advices if one.over == over]
        if own:
            found.append(f"{question}: {_tally(own)} {_beaten(own)}".strip())
    return found


def _tally(own: Sequence[Advice]) -> str:
    counts = Counter(one.advised for one in own if one.advised is not None)
    if not counts:
        return f"nothing is advised in any of {_settings(len(own))}."
    (first, most), *rest = counts.most_common()
    told = [f"{_code(first)} is advised in {most} of {_settings(len(own))}"]
    told += [f"{_code(name)} in {count}" for name, count in rest]
    unknown = len(own) - sum(counts.values())
    return ", ".join([*told, *([f"nothing in {unknown}"] if unknown else [])]) + "."


def _beaten(own: Sequence[Advice]) -> str:
    """Say how often what validation preferred was shown to beat the best simple method."""
    tested = [one for one in own if one.reason in (decided.BETTER, decided.SIMPLE, decided.UNBEATEN)]
    won = [one for one in tested if one.reason == decided.BETTER]
    if not tested:
        return ""
    if won:
        return f"The choice of validation beats the best simple method in {len(won)} of {_settings(len(tested))}."
    if any(one.above for one in tested):
        return "The choice of validation beats the best simple method in none of them."
    simple = list(dict.fromkeys(one.simple for one in tested))
    best = _code(simple[0]) if len(simple) == 1 else "the best simple method"
    return f"Nothing beats {best} in any of them."


def _settings(count: int) -> str:
    return f"{count} setting" + "s" * (count != 1)
