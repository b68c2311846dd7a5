"""What a process does of a sweep: train a stack, evaluate a variant."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from kd.ablate.places import Places
from kd.ablate.plan import Stack, Training
from kd.config import Study
from kd.distill.fit import train_node
from kd.distill.together import Member, train_together
from kd.errors import OF_WHAT_WAS_ASKED
from kd.record import RunRecord, code_address, finished, load_record, run_folder, save_record, staged_folder
from kd.study.answers import node_answers
from kd.study.replicate import Listener, Silent, places, run_replicate
from kd.study.run import conclude


@cache
def _places() -> Places:
    """Return what this process has loaded and drawn so far."""
    return Places()


def train_stack(stack: Stack, studies: list[Study], listener: Listener) -> dict[int, str]:
    """Train a stack where that is not done yet; return place -> reason of the trainings that failed.

    The stack's own record is written last. One that was cut short trains again, and to the same bits: what its members
    have written by then stays.
    """
    done = trained_before(stack)
    if done is not None:
        return done
    started = time.perf_counter()
    failed = _orphans(stack)
    left = [place for place in range(len(stack.trainings)) if place not in failed]
    name = f"{stack.trainings[0].node} {stack.id[:8]}"
    if left and len(stack.trainings) == 1:
        failed |= _train_alone(stack, studies[0], listener)
    elif left:
        members = [_member(stack, studies, place) for place in left]
        failed |= train_together(members, stack.members, lambda step, steps: listener.tick(name, step, steps))
    for place in left:
        if place not in failed:
            _answer(stack.trainings[place], studies[place])
    _save(stack, studies[0], failed, time.perf_counter() - started)
    return failed


def trained_before(stack: Stack) -> dict[int, str] | None:
    """Return what `train_stack` returned where all that it trained is in the store, else None."""
    done = finished("stack", stack.id)
    if done is None:
        return None
    failed = {int(place): reason for place, reason in done.metrics["failed"].items()}
    whole = all(_trained(t.run) for place, t in enumerate(stack.trainings) if place not in failed)
    return failed if whole else None


def _trained(run: str) -> bool:
    return (run_folder("train", run) / "record.json").exists()


def _orphans(stack: Stack) -> dict[int, str]:
    """Return the trainings of which a teacher, or whose weights it starts from, failed."""
    found = {}
    for place, training in enumerate(stack.trainings):
        lost = [node for node, run in training.parents.items() if not _trained(run)]
        if lost:
            found[place] = f"{', '.join(lost)}: failed, and {training.node} is made from it"
    return found


def _member(stack: Stack, studies: list[Study], place: int) -> Member:
    training = stack.trainings[place]
    _, seed, fold = training.place
    setting = _places().setting(studies[place], seed, fold)
    return Member(studies[place], training.node, setting, training.parents, place)


def _answer(training: Training, study: Study) -> None:
    """Have a trained node's answers in the store: several variants ask for them."""
    _, seed, fold = training.place
    record = load_record(run_folder("train", training.run))
    node_answers(record, _places().setting(study, seed, fold), study.threads)


def _train_alone(stack: Stack, study: Study, listener: Listener) -> dict[int, str]:
    training = stack.trainings[0]
    _, seed, fold = training.place
    before = {node: load_record(run_folder("train", run)) for node, run in training.parents.items()}
    try:
        train_node(study, training.node, _places().setting(study, seed, fold), before, listener.tick)
    except OF_WHAT_WAS_ASKED as error:
        return {0: str(error)}
    return {}


def _save(stack: Stack, study: Study, failed: Mapping[int, str], seconds: float) -> None:
    address = {"members": stack.members}
    record = RunRecord(
        id=stack.id,
        verb="stack",
        name=f"{len(stack.trainings)} x {stack.trainings[0].node}",
        config=address,
        parents={str(place): training.run for place, training in enumerate(stack.trainings) if place not in failed},
        threads=study.threads,
        code=code_address("distill"),
        seconds=seconds,
        metrics={"failed": {str(place): failed[place] for place in sorted(failed)}},
    )
    with staged_folder(run_folder("stack", stack.id)) as folder:
        save_record(record, folder)


def evaluate(study: Study, runs: dict[tuple[int, int], dict[str, str]], listener: Listener) -> Path | str | None:
    """Evaluate a variant whose nodes are trained; return its folder, why it has none, or None where no node trained."""
    started, told = time.perf_counter(), Silent()
    source = _places().source(study)
    replicates = []
    try:
        for seed, fold in places(study):
            own = {node: run for node, run in runs.get((seed, fold), {}).items() if _trained(run)}
            trained = {node: load_record(run_folder("train", run)) for node, run in own.items()}
            if trained:
                replicates.append(run_replicate(study, source, seed, fold, told, trained))
        return conclude(study, source, replicates, told, started) if replicates else None
    except OF_WHAT_WAS_ASKED as error:
        return str(error)
