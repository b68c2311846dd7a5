"""A grid's plan carried out: stacks trained, every variant evaluated, one table for all of them.

Whatever is finished is read from the run store: a sweep that was stopped goes on, one that grew trains what is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd.ablate.grid import Grid
from kd.ablate.plan import Failures, Plan, make_plan
from kd.ablate.table import write_sweep
from kd.ablate.work import evaluate, train_stack, trained_before
from kd.config import Study
from kd.record import open_store
from kd.study.jobs import Job, run_jobs
from kd.study.replicate import Listener, Silent, places

ALONE, EVALUATED = 15, 300
"""How long a step alone and the tables of one training take, in steps of one replica: for the time left."""


def ablate(grid: Grid, listener: Listener | None = None) -> Path:
    """Run a grid, reusing whatever is done, and write its table and report.

    Args:
        grid: the grid.
        listener: hears of progress.

    Returns:
        the sweep's folder: `results.parquet`, `cells.parquet`, `summary.parquet`, `contrasts.parquet`, `report.html`
        and the record.

    Raises:
        ConfigError: no variant can run; with every fault.
    """
    heard = listener or Silent()
    started = time.perf_counter()
    open_store()
    plan = make_plan(grid)
    heard.stage(f"{len(plan.cells)} cells: {plan.trainings} trainings in {len(plan.stacks)} stacks")
    reused = sum(len(stack.trainings) for stack in plan.stacks if trained_before(stack) is not None)
    progress = _Progress(plan, heard)
    jobs = _jobs(plan)
    done = run_jobs(jobs, grid.first.jobs, heard, progress.ended)
    failed = plan.failed | _failures(plan, done)
    folders: dict[int, Path] = {}
    for variant in range(len(grid.variants)):
        found = done.get(f"variant {variant}")
        if isinstance(found, Path):
            folders[variant] = found
        elif isinstance(found, str):
            failed |= {((variant, *place), node): found for place, node in _own(grid.variants[variant].study)}
    heard.stage(f"table; trainings: computed {plan.trainings - reused}, reused {reused}")
    return write_sweep(plan, folders, failed, started, reused)


def _own(study: Study) -> list[tuple[tuple[int, int], str]]:
    return [(place, node) for place in places(study) for node in study.nodes]


def _jobs(plan: Plan) -> dict[str, Job]:
    """Return what there is to do: stacks after those they need, and every variant after its stacks."""
    stack_of = {run: stack.id for run, (stack, _) in plan.stack_of.items()}
    jobs = {}
    for stack in plan.stacks:
        needs = frozenset(stack_of[run] for training in stack.trainings for run in training.parents.values())
        studies = [plan.grid.variants[training.place[0]].study for training in stack.trainings]
        jobs[stack.id] = Job(train_stack, (stack, studies), needs)
    for variant, runs in _runs(plan).items():
        needs = frozenset(stack_of[run] for own in runs.values() for run in own.values())
        jobs[f"variant {variant}"] = Job(evaluate, (plan.grid.variants[variant].study, runs), needs)
    return jobs


def _runs(plan: Plan) -> dict[int, dict[tuple[int, int], dict[str, str]]]:
    """Return variant -> (seed, fold) -> node -> run."""
    found: dict[int, dict[tuple[int, int], dict[str, str]]] = {}
    for cell in plan.cells:
        variant, *place = cell.place
        found.setdefault(variant, {}).setdefault((place[0], place[1]), {})[cell.node] = cell.run
    return found


def _failures(plan: Plan, done: Mapping[str, Any]) -> Failures:
    """Return the cells whose training failed."""
    reasons = {
        training.run: done[stack.id][place]
        for stack in plan.stacks
        for place, training in enumerate(stack.trainings)
        if place in done[stack.id]
    }
    return {(cell.place, cell.node): reasons[cell.run] for cell in plan.cells if cell.run in reasons}


@dataclass
class _Progress:
    """Tells how much is done after every job, and how long the rest will take."""

    plan: Plan
    listener: Listener
    clock: Callable[[], float] = time.perf_counter
    trained: int = 0
    failed: int = 0
    spent: float = 0.0
    seconds: float = 0.0
    work: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.last = self.clock()
        self.stacks = {stack.id: stack for stack in self.plan.stacks}
        for stack in self.plan.stacks:
            steps = sum(training.steps for training in stack.trainings)
            self.work[stack.id] = steps * (ALONE if len(stack.trainings) == 1 else 1)
        for variant, runs in _runs(self.plan).items():
            self.work[f"variant {variant}"] = EVALUATED * sum(len(own) for own in runs.values())

    def ended(self, key: str, result: Any) -> None:
        """Tell that a job is done."""
        now = self.clock()
        took, self.last = now - self.last, now
        work = self.work.pop(key)
        if took > 0.5:  # what was read from the store says nothing about what is left
            self.spent, self.seconds = self.spent + work, self.seconds + took
        if key in self.stacks:
            stack = self.stacks[key]
            self.trained, self.failed = self.trained + len(stack.trainings), self.failed + len(result)
            name = f"{len(stack.trainings)} x {stack.trainings[0].node}"
            self.listener.stage(
                f"{name}: {self.trained} of {self.plan.trainings} trainings{self._failed()}{self._left()}"
            )
        else:
            left = sum(key.startswith("variant") for key in self.work)
            self.listener.stage(f"{key}: evaluated, {left} to go{self._left()}")

    def _failed(self) -> str:
        return f", {self.failed} failed" if self.failed else ""

    def _left(self) -> str:
        if not self.work or not self.spent:
            return ""
        seconds = sum(self.work.values()) * self.seconds / self.spent
        return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"
