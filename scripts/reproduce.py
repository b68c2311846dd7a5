"""Make the records, pictures and numbers of paper_repro.md again, or recompute a few cells of those committed.

python scripts/reproduce.py            every sweep that the page leads with, then the page (`make repro`)
python scripts/reproduce.py --full     every further sweep on record (`make repro-full`)
python scripts/reproduce.py --emoji    pictures and words, which no stack makes cheap (`make repro-emoji`)
python scripts/reproduce.py RECORD     one of these sweeps alone, by the name of its record (`best_contest`)
python scripts/reproduce.py --quick    two cells, chosen by the commit, against the records (`make repro-quick`)

All but the last start from an empty store of their own, so nothing finished before counts; one that was stopped goes on
with `--resume`. They end by saying which verdicts and figures are those that were committed.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keep_records
import make_docs

from kd.errors import KDError, StorageError
from kd.record import load_record

if TYPE_CHECKING:
    import pandas as pd

    from kd.ablate.plan import Cell, Plan

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "records"
PAGE = {
    "kdd2020_mfeat_sweep": "configs/kdd2020/mfeat_sweep.yaml",
    "kdd2020_mfeat_weights": "configs/kdd2020/mfeat_weights.yaml",
    "kdd2020_synthetic_gamma": "configs/kdd2020/synthetic_gamma.yaml",
    "kdd2020_synthetic_modalities": "configs/kdd2020/synthetic_modalities.yaml",
}
"""Record -> the sweep that it is of."""
FURTHER = {
    "kdd2020_synthetic_sweep": "configs/kdd2020/synthetic_sweep.yaml",
    "kdd2020_digits_sweep": "configs/kdd2020/digits_sweep.yaml",
    "kdd2020_mfeat_views": "configs/kdd2020/mfeat_views.yaml",
    "kdd2020_mfeat_six": "configs/kdd2020/mfeat_six.yaml",
    "best_contest": "configs/best/contest.yaml",
    "best_trials": "configs/best/trials.yaml",
    "ablate_mfeat": "configs/ablate/mfeat.yaml",
}
EMOJI = {"kdd2020_emoji": "configs/kdd2020/emoji.yaml", "best_emoji": "configs/best/emoji.yaml"}
CELLS = 2
"""How many are recomputed by --quick."""
MOST = 700
"""Trainings that a cell may need, its teachers' and its stack's, to be among those chosen from."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 where what was made again agrees with what is committed, 1 where it does not, 2 for the user's error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = {**PAGE, **FURTHER, **EMOJI}
    parser.add_argument("record", nargs="?", choices=every, metavar="RECORD", help=f"one of {', '.join(every)}")
    parser.add_argument("--full", action="store_true", help="the sweeps that have no limit of time")
    parser.add_argument("--emoji", action="store_true", help="the sweeps of pictures and words")
    parser.add_argument("--quick", action="store_true", help="recompute two cells, write nothing")
    parser.add_argument("--resume", action="store_true", help="go on with a store that was stopped")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args(arguments)
    try:
        if options.quick:
            return quick()
        if options.record:
            return again({options.record: every[options.record]}, options.record, options)
        name = "full" if options.full else "emoji" if options.emoji else "page"
        return again({"full": FURTHER, "emoji": EMOJI, "page": PAGE}[name], name, options)
    except KDError as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2


def again(sweeps: Mapping[str, str], name: str, options: argparse.Namespace) -> int:
    """Run sweeps from an empty store, keep their records, write the documents, and compare with what was there."""
    import os

    from kd.ablate import ablate, load_grid
    from kd.progress import Screen

    store = ROOT / "runs" / f"reproduced_{name}"
    if store.exists() and not options.resume:
        raise StorageError(f"{store}: is there already, and counts as finished work; remove it, or go on with --resume")
    os.environ["KD_RUNS"] = str(store)
    started, computed, reused, differ = time.perf_counter(), 0, 0, False
    for prefix, config in sweeps.items():
        print(f"{config}", flush=True)
        before = recorded(prefix)
        with Screen() as screen:
            folder = ablate(load_grid(ROOT / config, [f"jobs={options.jobs}"]), screen)
        metrics = load_record(folder).metrics
        computed, reused = computed + metrics["trainings"] - metrics["reused"], reused + metrics["reused"]
        keep_records.keep(folder, prefix)
        told, same = compared(before, recorded(prefix))
        differ = differ or not same
        print(f"{prefix}: {told}", flush=True)
    minutes = (time.perf_counter() - started) / 60
    # What an empty store has, this very run has put there.
    shared = f" ({reused} that two sweeps share are counted once)" if reused else ""
    told = f"reused {reused}" if options.resume else f"reused 0{shared}"
    print(f"trainings: computed {computed}, {told}, {minutes:.1f} minutes")
    make_docs.run_documents(ROOT, write=True)
    print(f"page: {ROOT / 'paper_repro.md'}")
    return int(differ)


def recorded(prefix: str) -> dict[str, pd.DataFrame]:
    """Return the committed scores, claims and contests of a sweep, those that are there."""
    import pandas as pd

    files = {name: RECORDS / f"{prefix}_{name}.parquet" for name in ("scores", "claims", "contests")}
    return {name: pd.read_parquet(path) for name, path in files.items() if path.is_file()}


def compared(before: Mapping[str, pd.DataFrame], after: Mapping[str, pd.DataFrame]) -> tuple[str, bool]:
    """Say how a sweep's new scores and verdicts stand to the old ones, and whether the verdicts are the same."""
    if "scores" not in before:
        return "no record was there before", True
    keys = [name for name in before["scores"] if name != "value"]
    both = before["scores"].merge(after["scores"], on=keys, how="outer", suffixes=("", "_new"))
    moved = int((both["value"] != both["value_new"]).sum())
    scores = f"all {len(both):,} scores bit for bit" if not moved else f"{moved:,} of {len(both):,} scores differ"
    if moved:
        scores += f", at most by {100 * (both['value'] - both['value_new']).abs().max():.1f} points"
    old, new = verdicts(before), verdicts(after)
    if not old:
        return scores, True
    other = [f"{name}: {old.get(name)} before, {found} now" for name, found in new.items() if found != old.get(name)]
    return f"{scores}; " + ("; ".join(other) if other else f"all {len(new)} verdicts as before"), not other


def verdicts(records: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return the verdict on every claim, and of every contest in every setting."""
    found = {}
    if "claims" in records:
        found = dict(zip(records["claims"]["claim"], records["claims"]["verdict"], strict=True))
    if "contests" in records:
        table = records["contests"]
        keys = table.columns[: table.columns.get_loc("verdict")]  # the contest, the axes of the grid, which rows
        names = table[keys].astype(str).agg(", ".join, axis=1)
        found |= dict(zip(names, table["verdict"], strict=True))
    return found


def quick() -> int:
    """Check the documents against the records, recompute two cells, and compare them with theirs."""
    import os

    from kd.ablate import load_grid, make_plan

    if make_docs.run_documents(ROOT, write=False):
        return 1
    sweeps = [name for name in PAGE if (RECORDS / f"{name}_scores.parquet").is_file()]
    draw = random.Random(commit())
    wrong = 0
    with tempfile.TemporaryDirectory() as store:
        os.environ["KD_RUNS"] = store
        for _ in range(CELLS):
            prefix = draw.choice(sweeps)
            plan = make_plan(load_grid(ROOT / PAGE[prefix]))
            cell = draw.choice([cell for cell in plan.cells if cell.run and cost(plan, cell) <= MOST])
            told, agrees = recompute(plan, cell, recorded(prefix)["scores"])
            wrong += not agrees
            name = f"{prefix}, {plan.grid.variants[cell.place[0]].name}, {cell.node}, seed {cell.place[1]}"
            print(f"{name}: {told}", flush=True)
    return int(wrong > 0)


def commit() -> str:
    """Return the hash of the commit that is checked out; of nothing where there is no repository."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def needed(plan: Plan, cell: Cell) -> list[Any]:
    """Return the stacks that a cell's number comes from, those that others need first."""
    found, left = set[str](), [cell.run]
    while left:
        stack, _ = plan.stack_of[left.pop()]
        if stack.id not in found:
            found.add(stack.id)
            left += [run for training in stack.trainings for run in training.parents.values()]
    return [stack for stack in plan.stacks if stack.id in found]


def cost(plan: Plan, cell: Cell) -> int:
    """Return how many trainings a cell's number comes from; a stack is trained whole, or its bits would be others."""
    return sum(len(stack.trainings) for stack in needed(plan, cell))


def recompute(plan: Plan, cell: Cell, scores: pd.DataFrame) -> tuple[str, bool]:
    """Train what a cell needs and compare its score with the recorded one.

    Returns:
        what came of it, and whether it agrees: bit for bit, or on another kind of machine within the recorded scores
        of its seeds.
    """
    from kd.ablate.table import flat
    from kd.ablate.work import train_stack
    from kd.study.replicate import Silent

    for stack in needed(plan, cell):
        studies = [plan.grid.variants[training.place[0]].study for training in stack.trainings]
        train_stack(stack, studies, Silent())
    variant, seed, _ = cell.place
    values = plan.grid.variants[variant].values
    own = scores[(scores["node"] == cell.node) & (scores["what"] == "complete")]
    for axis, value in values.items():
        own = own[own[axis] == flat(value)]
    recorded_score = float(own.loc[own["seed"] == seed, "value"].iloc[0])
    found = complete_score(plan, cell)
    if abs(found - recorded_score) < 1e-6:
        return f"{100 * found:.2f}, as recorded", True
    low, high = own["value"].min(), own["value"].max()
    within = low <= found <= high
    where = f"{'within' if within else 'outside'} the recorded seeds' {100 * low:.2f} to {100 * high:.2f}"
    return f"{100 * found:.2f}, recorded {100 * recorded_score:.2f}; {where}", bool(within)


def complete_score(plan: Plan, cell: Cell) -> float:
    """Return a trained cell's accuracy on test rows, everything that it sees there."""
    from kd.ablate.places import Places
    from kd.record import run_folder
    from kd.study.answers import node_answers
    from kd.tasks import make_task

    variant, seed, fold = cell.place
    study = plan.grid.variants[variant].study
    setting = Places().setting(study, seed, fold)
    answers = node_answers(load_record(run_folder("train", cell.run)), setting, study.threads).test
    largest = max(answers, key=lambda subset: subset.count("+"))
    source = setting.source
    task = make_task(source.task, source.classes, study.class_weight)
    return task.score(answers[largest], source.label[setting.split.test])


if __name__ == "__main__":
    sys.exit(main())
