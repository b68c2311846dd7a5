"""What a finished run or ablation advises: its tables read, setting by setting, and the decisions put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kd.errors import RecordError
from kd.record import RunRecord, load_record
from kd.report.advice import Advice, advise
from kd.report.advice_words import advice_table, ground, over_settings, paragraph
from kd.report.evidence import Evidence, load_evidence, optional_table, read_document, read_table
from kd.report.leading import OVERS, simple_methods
from kd.report.parts import comparable
from kd.report.setting import Setting, setting_name, setting_of, value_name
from kd.report.stamps import APART


@dataclass(frozen=True)
class Advised:
    """What one setting advises, in words and as decided.

    Attributes:
        values: axis -> its value; empty for a run.
        setting: what it holds for.
        advices: a decision per question that some method can answer.
        paragraphs: one for each, and a last one on what they rest on.
    """

    values: dict[str, Any]
    setting: Setting
    advices: list[Advice]
    paragraphs: list[str]

    @property
    def name(self) -> str:
        """What tells it from other settings; empty for a run."""
        return setting_name(self.values)


def advised(
    frames: Mapping[str, pd.DataFrame], mask: object, values: Mapping[str, Any], simple: Sequence[str]
) -> Advised:
    """Return what the tables of one setting advise; no advice where they hold no validation scores.

    Args:
        frames: `subsets`, `validation`, `pairs` and `cost` of this setting.
        mask: what hid modalities in training, as plain data; None where an older record does not say.
        values: axis -> its value.
        simple: names of the methods to use unless another one is better.
    """
    setting = setting_of(mask, frames["subsets"])
    found = [advise(frames["validation"], frames["pairs"], over, simple) for over in OVERS]
    advices = [one for one in found if one is not None]
    told = [paragraph(one, frames["cost"]) for one in advices]
    rests = [ground(setting, min(one.seeds for one in advices))] if advices else []
    return Advised(dict(values), setting, advices, [*told, *rests])


def of_run(evidence: Evidence) -> Advised:
    """Return what a run advises."""
    frames = {name: getattr(evidence, name) for name in ("subsets", "validation", "pairs", "cost")}
    config = study_of(evidence.provenance.get("config"))
    return advised(frames, config.get("mask"), {}, simple_methods(config))


def of_settings(
    frames: Mapping[str, pd.DataFrame], provenance: Mapping[str, Any], axes: Sequence[str]
) -> list[Advised]:
    """Return what each variant of an ablation advises, in their order.

    Args:
        frames: `results`, `validation`, `pairs` and `cost` of an ablation, of variants that share test rows.
        provenance: of the ablation.
        axes: of the grid.
    """
    results = frames["results"]
    simple, masks = simple_methods(first_study(provenance)), provenance.get("masks", {})
    varied = varying(results, axes)
    found = []
    for variant, own in results.groupby("variant", sort=False):
        values = {axis: own[axis].iloc[0] for axis in axes}
        of = {name: of_variant(frames[name], variant) for name in ("validation", "pairs", "cost")}
        told = {axis: values[axis] for axis in varied}
        found.append(advised({**of, "subsets": own}, masks.get(str(variant)), told, simple))
    return found


def varying(frame: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """Return the axes whose values tell settings apart; all of them where there is one setting."""
    return [axis for axis in axes if frame[axis].nunique() > 1] or list(axes)


def of_variant(frame: pd.DataFrame, variant: object) -> pd.DataFrame:
    """Return the rows of one variant; none of a table that an older record lacks."""
    return frame[frame["variant"] == variant] if "variant" in frame else frame.iloc[:0]


def first_study(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the study of an ablation's first variant; what all of them share is there."""
    return study_of(provenance.get("config of the first variant"))


def study_of(config: object) -> Mapping[str, Any]:
    """Return a study as its provenance holds it; empty where an older record has none as plain data."""
    return config if isinstance(config, Mapping) else {}


def settings_table(found: Sequence[Advised]) -> pd.DataFrame:
    """Return a line per setting and question as text."""
    advices = [one for own in found for one in own.advices]
    names = [{axis: value_name(value) for axis, value in own.values.items()} for own in found for _ in own.advices]
    return advice_table(advices, names)


def settings_words(found: Sequence[Advised]) -> list[str]:
    """Return what holds over all settings."""
    return over_settings([one for own in found for one in own.advices])


def read_advice(folder: Path) -> list[tuple[str, list[Advised]]]:
    """Return what a finished run or ablation advises, a list for every part whose settings may be compared.

    Raises:
        RecordError: it is unfinished or damaged, or older than the tables that an advice needs.
    """
    record = load_record(folder)
    parts = _ablation_parts(record, folder) if record.verb == "ablate" else [("", [of_run(load_evidence(folder))])]
    if not any(own.advices for _, found in parts for own in found):
        raise RecordError(f"{folder}: holds no validation scores of its methods, which an advice needs; run it again")
    return parts


def _ablation_parts(record: RunRecord, folder: Path) -> list[tuple[str, list[Advised]]]:
    results = read_table(record, folder, "results")
    frames = {name: optional_table(record, folder, name) for name in ("validation", "pairs", "cost")}
    provenance = read_document(record, folder, "provenance")
    axes = [axis for axis, _ in record.config["axes"]]
    parts = comparable(record, results, axes)
    return [(label, of_settings({**frames, "results": own}, provenance, axes)) for label, own in parts.items()]


def advice_summary(folder: Path) -> list[str]:
    """Return what a run advises, or what holds over all settings of an ablation, as lines for a terminal.

    Raises:
        RecordError: see `read_advice`.
    """
    lines: list[str] = []
    for label, found in read_advice(folder):
        lines += [f"What should I use?{label.replace(APART, ' Trained under MNAR masks')}"]
        lines += settings_words(found) if found[0].values else [line for own in found for line in own.paragraphs]
    return lines


def advice_lines(folder: Path) -> list[str]:
    """Return the same with every setting of an ablation in words.

    Raises:
        RecordError: see `read_advice`.
    """
    settings = [own for _, found in read_advice(folder) for own in found if own.values]
    return [*advice_summary(folder), *(line for own in settings for line in ("", f"{own.name}:", *own.paragraphs))]


def advice_document(folder: Path) -> list[dict[str, Any]]:
    """Return the same for machines: setting, part, words, and every decision."""
    return [
        {
            "setting": {axis: value_name(value) for axis, value in own.values.items()},
            "apart": label,
            "words": own.paragraphs,
            "advice": [asdict(one) for one in own.advices],
        }
        for label, found in read_advice(folder)
        for own in found
    ]
