"""A grid's best settings as a file: what each node and baseline did best with on validation rows.

Every method tries the same configurations (protocol 7), test rows choose nothing, and locked rows take no part: the
file is a fragment that another config may `use:`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from omegaconf import OmegaConf

from kd.ablate.grid import Grid, shown
from kd.ablate.sweep import ablate
from kd.errors import ConfigError, RecordError
from kd.record import RunRecord, load_record, write_atomic
from kd.study.answers import FLOAT
from kd.study.replicate import Listener
from kd.tasks import LOWER_IS_BETTER
from kd.tree import files_of, merge

OPENING = "# Settings tuned on validation rows"
"""First words of a file that this module wrote, and may write again."""
SECTIONS = {"nodes": "nodes", "defaults": "nodes", "baselines": "baselines"}
"""First word of an axis -> section of the config whose entries it changes."""
FORMS = "nodes.*.FIELD, defaults.FIELD or baselines.*.FIELD"
Over = Literal["subsets", "complete"]
SCORES: dict[Over, str] = {
    "subsets": "the mean over the subsets that a method answers",
    "complete": "where everything that a method sees is there",
}
ABSENT = object()
"""Stands for a field that a part does not have."""
Settings = dict[str, dict[str, dict[str, Any]]]
"""Section -> name -> its fields."""


@dataclass
class Tuned:
    """What a grid found.

    Attributes:
        over: what a method's score is: the mean over the `subsets` that it answers, or that on `complete` rows.
        settings: section -> name -> fields.
        scores: name -> its best validation score.
        tried: configurations of each method.
        metric: that the validation rows were scored by.
        rows: validation rows of a seed, all its folds.
        run: id of the sweep.
        failed: cells of the sweep without a score, which were passed over.
    """

    over: Over
    settings: Settings
    scores: dict[str, float]
    tried: int
    metric: str
    rows: int
    run: str
    failed: int


def tune(grid: Grid, path: Path | str, listener: Listener | None = None, *, over: Over = "subsets") -> Tuned:
    """Run a grid and write every method's best settings as a fragment.

    Args:
        grid: its axes change fields that all nodes, or all baselines, have.
        path: the file to write.
        listener: hears of progress.
        over: best in the mean over the `subsets` that a method answers, or on `complete` validation rows.

    Raises:
        ConfigError: an axis that cannot be frozen, the final phase, or a file that must not be written.
        RecordError: a method has no configuration in which all seeds gave a score.
    """
    found = tuning_faults(grid) + file_faults(Path(path), grid.source)
    if found:
        raise ConfigError(found, grid.source)
    folder = ablate(grid, listener)
    record = load_record(folder)
    if "validation" not in record.files:
        raise RecordError(f"{record.id}: no training ended with a score; its page says why: kd report {record.id}")
    tuned = best(grid, pd.read_parquet(folder / record.files["validation"]), record, over)
    write_atomic(Path(path), fragment(grid, tuned))
    return tuned


def tuning_faults(grid: Grid) -> list[str]:
    """Return why a grid's best settings cannot be written, in one sentence each."""
    found = [
        f"grid.{axis}: no setting of single methods; tuning takes {FORMS}" for axis in grid.axes if not _fits(axis)
    ]
    if not grid.axes:
        found.append(f"grid: nothing to tune; name values of {FORMS}")
    if grid.first.split.phase == "final":
        found.append("split.phase: final tests on locked rows, which must choose nothing; tune in phase search")
    counts = {section: tried(grid, section) for section in dict.fromkeys(SECTIONS.values())}
    if not found and len({count for count in counts.values() if count > 1}) > 1:
        told = " and ".join(f"{count} configurations of {section}" for section, count in counts.items())
        found.append(f"grid: {told}; every method tries as many, so name as many values for both")
    return found


def _fits(axis: str) -> bool:
    first, *rest = axis.split(".")
    return bool(rest) and (first == "defaults" or (first in SECTIONS and rest[0] == "*" and len(rest) > 1))


def tried(grid: Grid, section: str) -> int:
    """Return how many configurations the entries of a section try: the values of their own axes, combined."""
    return math.prod(len(values) for axis, values in grid.axes.items() if SECTIONS.get(axis.split(".")[0]) == section)


def file_faults(path: Path, source: str) -> list[str]:
    """Return why a file must not be written: the config is made from it, or it is something else."""
    if source and path.resolve() in {used.resolve() for used in files_of(Path(source))}:
        return [f"{path}: the config itself uses this file; name another"]
    if path.is_dir():
        return [f"{path}: is a folder; name a file to write"]
    if path.exists() and not path.read_text(errors="replace").startswith(OPENING):
        return [f"{path}: exists, and was not written by kd tune; name another"]
    return []


def best(grid: Grid, validation: pd.DataFrame, record: RunRecord, over: Over = "subsets") -> Tuned:
    """Return each method's settings of the variant with the best validation score.

    The score is the mean over the subsets that the method answers, or that on the largest of them, then over seeds; of
    equal ones the first counts.

    Args:
        grid: the grid.
        validation: the sweep's table of that name.
        record: the sweep's.
        over: what a score is.

    Raises:
        RecordError: a method has no configuration in which all seeds gave a score.
    """
    metric = str(validation["metric"].iloc[0])
    settings: Settings = {}
    scores: dict[str, float] = {}
    for section in dict.fromkeys(SECTIONS.values()):
        axes = [axis for axis in grid.axes if SECTIONS[axis.split(".")[0]] == section]
        for name in getattr(grid.first, section) if axes else ():
            score = variant_scores(validation, name, grid.first.seeds, over)
            if score.empty:
                raise RecordError(f"{name}: no configuration gave a score for every seed; see kd report {record.id}")
            chosen = (score if metric not in LOWER_IS_BETTER else -score).idxmax()
            scores[name] = float(score[chosen])
            entry = asdict(getattr(grid.variants[int(chosen)].study, section)[name])
            settings.setdefault(section, {})[name] = fields_of(entry, axes)
    count = max(tried(grid, section) for section in settings)
    rows, failed = int(validation["n"].max()), int(record.metrics["failed"])
    return Tuned(over, settings, scores, count, metric, rows, record.id, failed)


def variant_scores(validation: pd.DataFrame, name: str, seeds: int, over: Over = "subsets") -> pd.Series:
    """Return variant -> validation score of one method, of the variants whose every seed has one, in order."""
    own = validation[(validation["node"] == name) & (validation["stage"] == FLOAT)]
    own = own[own["size"] == own["size"].max()] if over == "complete" else own
    per_seed = own.groupby(["variant", "seed"])["value"].agg(lambda values: values.mean(skipna=False))
    every = per_seed.groupby("variant").agg(["mean", "count"])
    return every.loc[every["count"] == seeds, "mean"]


def fields_of(entry: Mapping[str, Any], axes: Sequence[str]) -> dict[str, Any]:
    """Return what an entry has where axes reach, as it stands in effect; nothing where a part of it has no such field.

    >>> entry = {"drop": 0.5, "optimizer": {"name": "adam", "lr": 0.01}}
    >>> fields_of(entry, ["nodes.*.optimizer.lr", "defaults.drop", "defaults.model.width"])
    {'optimizer': {'lr': 0.01}, 'drop': 0.5}
    """
    found: dict[str, Any] = {}
    for axis in axes:
        keys = axis.split(".")[1:] if axis.startswith("defaults.") else axis.split(".")[2:]
        # What a further * reaches is written as a whole.
        keys = keys[: keys.index("*")] if "*" in keys else keys
        value: Any = entry
        for key in keys:
            value = value.get(key, ABSENT) if isinstance(value, Mapping) else ABSENT
        if value is not ABSENT:
            for key in reversed(keys):
                value = {key: value}
            found = merge(found, value)
    return found


def fragment(grid: Grid, tuned: Tuned) -> str:
    """Return the text of the file: where the settings come from, then the settings."""
    study = grid.first
    last = study.first_seed + study.seeds - 1
    seeds = f"seed {last}" if study.seeds == 1 else f"seeds {study.first_seed} to {last}"
    values = "; ".join(f"{axis}: {', '.join(map(shown, own))}" for axis, own in grid.axes.items())
    locked = study.split.locked
    about = [
        f"{OPENING}: best {tuned.metric}, {SCORES[tuned.over]}, the mean over seeds.",
        f"From {grid.source or 'a config in Python'}, run {tuned.run}, {seeds}, {tuned.rows} validation rows.",
        f"{tuned.tried} configurations of every method named here ({values}).",
        f"No locked row took part ({locked})." if locked else "No rows are locked: split.locked names none.",
    ]
    if tuned.failed:
        about.append(f"{tuned.failed} trainings failed; their configurations were passed over.")
    return "\n# ".join(about) + "\n" + str(OmegaConf.to_yaml(OmegaConf.create(tuned.settings)))
