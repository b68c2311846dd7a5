"""What teachers knew of what they taught, how faithful their students became, and whether it helped (protocol 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kd.data import SOURCES
from kd.registry import keywords
from kd.report.evidence import Evidence
from kd.report.setting import value_name
from kd.report.tables import NOTHING, metric_name, number, subset_order
from kd.report.words import contrast_sentence

NUMBERS = (
    *("taught", "labelled", "teacher_taught", "teacher_hidden", "teacher_test", "student_test"),
    *("entropy", "agreement", "agreement_subsets", "information"),
)
NOTE = (
    "Taught are the training rows on which the teacher counts. Its score is on those that show their label, and on "
    "those whose label is hidden, which the data know and nobody learnt from. Fidelity is the share of test rows for "
    "which student and teacher name the same class first: with everything present, and in the mean over the student's "
    "subsets, against the teacher that has everything. Label information is a lower bound, the labels' entropy less "
    "the teacher's loss on test rows, in nats. The verdict is that of the declared comparisons of the student."
)


def taught_content(evidence: Evidence) -> dict[str, Any]:
    """Return what the section on teaching shows; no rows where a run has no edge."""
    config = evidence.provenance.get("config")
    known, note = information_table(
        evidence.teaching, evidence.subsets, evidence.validation, config if isinstance(config, Mapping) else {}
    )
    return {
        "teaching": teaching_table(evidence.teaching, evidence.contrasts, evidence.primary),
        "teaching_words": negative_transfer(evidence.teaching, evidence.contrasts, evidence.primary),
        "teaching_note": NOTE,
        "information": known,
        "information_note": note,
    }


def teaching_table(
    teaching: pd.DataFrame, contrasts: pd.DataFrame, metric: str, axes: Sequence[str] = ()
) -> pd.DataFrame:
    """Return a row per edge, means over seeds, as text; `axes` come first where an ablation has some.

    Args:
        teaching: a run's table of that name, or an ablation's.
        contrasts: its declared comparisons.
        metric: of the scores.
        axes: columns that tell settings apart.
    """
    if not len(teaching):
        return pd.DataFrame()
    keys = [axis for axis in axes if axis in teaching and teaching[axis].nunique() > 1]
    rows = []
    for place, own in teaching.groupby([*keys, "edge"], sort=False, dropna=False):
        setting = dict(zip(keys, place if isinstance(place, tuple) else (place,), strict=False))
        mean = own[list(NUMBERS)].mean()
        student = str(own["student"].iloc[0])
        rows.append(
            {
                **{axis: value_name(value) for axis, value in setting.items()},
                "edge": str(own["edge"].iloc[0]),
                "teacher": own["teacher"].iloc[0],
                "student": student,
                "rows taught": f"{mean['taught']:,.0f}",
                "labelled": f"{mean['labelled']:,.0f}",
                "teacher, labelled": number(mean["teacher_taught"], metric),
                "teacher, hidden labels": number(mean["teacher_hidden"], metric),
                "teacher, test": number(mean["teacher_test"], metric),
                "student, test": number(mean["student_test"], metric),
                "entropy": number(mean["entropy"], "nll"),
                "fidelity": number(mean["agreement"]),
                "fidelity, subsets": number(mean["agreement_subsets"]),
                "label information": number(mean["information"], "nll"),
                "verdict": _verdicts(contrasts, student, setting),
            }
        )
    return pd.DataFrame(rows)


def information_table(
    teaching: pd.DataFrame, subsets: pd.DataFrame, validation: pd.DataFrame, config: Mapping[str, Any]
) -> tuple[pd.DataFrame, str]:
    """Return how much every subset of modalities tells of the label, at least, and what is known beside it.

    Of each subset the method with the best validation score is taken: how far its loss on test rows is below the
    entropy of the labels is a lower bound, and a low one where every model is poor. Nothing where no loss was measured.

    Args:
        teaching: a run's table of that name.
        subsets: its scores on test rows.
        validation: its scores on validation rows.
        config: its config; synthetic data say in `gamma` what their modalities share.
    """
    surprise = subsets[(subsets["metric"] == "nll") & (subsets["stage"] == "float")]
    if not len(teaching) or not len(surprise) or teaching["label_entropy"].isna().all():
        return pd.DataFrame(), ""
    entropy = float(teaching["label_entropy"].mean())
    scores = validation[validation["stage"] == "float"].groupby(["subset", "node"], sort=False)["value"].mean()
    rows = []
    for subset in subset_order(surprise["subset"]):
        method = str(scores[subset].idxmax())
        loss = surprise[(surprise["subset"] == subset) & (surprise["node"] == method)]["value"].mean()
        rows.append({"subset": subset, "at least": number(entropy - loss, "nll"), "by": method})
    gamma = _shared(config.get("data", {}))
    told = f"Of {number(entropy, 'nll')} nats that the labels have."
    known = (
        "" if gamma is None else f" In these synthetic data gamma = {gamma:g} of every modality's features is shared."
    )
    return pd.DataFrame(rows), told + known


def _shared(data: Mapping[str, Any]) -> float | None:
    """Return what the modalities of synthetic data share, also where a config leaves it as it is; None of others."""
    if data.get("name") != "synthetic":
        return None
    return float(data.get("gamma", keywords(SOURCES["synthetic"].load())["gamma"].default))


def _verdicts(contrasts: pd.DataFrame, student: str, setting: dict[str, object]) -> str:
    """Return `better than plain; tie with shuffled` of a student's declared comparisons."""
    own = contrasts[contrasts["method"] == student]
    for axis, value in setting.items():
        own = own[own[axis] == value] if axis in own else own
    words = {"better": "better than", "worse": "worse than", "tie": "tie with", "inconclusive": "undecided against"}
    told = [f"{words[verdict]} {name}" for verdict, name in zip(own["verdict"], own["baseline"], strict=True)]
    return "; ".join(told) or NOTHING


def negative_transfer(teaching: pd.DataFrame, contrasts: pd.DataFrame, metric: str) -> list[str]:
    """Return a sentence per declared comparison that a taught student loses, with what its teachers knew."""
    found = []
    for contrast in contrasts[contrasts["verdict"] == "worse"].to_dict("records"):
        own = teaching[teaching["student"] == contrast["method"]]
        if not len(own):
            continue
        knew = [
            f"{teacher}, right on {number(rows['teacher_taught'].mean(), metric)} of what it taught"
            if metric == "accuracy"
            else f"{teacher}, {metric_name(metric)} {number(rows['teacher_taught'].mean(), metric)} on what it taught"
            for teacher, rows in own.groupby("teacher", sort=False)
        ]
        found.append(f"{contrast_sentence({str(k): v for k, v in contrast.items()})} Its teachers: {'; '.join(knew)}.")
    return found
