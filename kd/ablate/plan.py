"""What stacks with what: the trainings of a grid, each once, in stacks of one form that no number of processes changes.

Everything is told from content addresses before anything is trained: a run's id is the hash of what decides it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kd.ablate.grid import Grid
from kd.ablate.places import Places
from kd.config import Node, Study
from kd.distill.address import node_address, parents_of
from kd.distill.form import alone, form
from kd.distill.graph import edges_into, made_from, order
from kd.distill.setting import Fingerprints
from kd.distill.together import stacked_address
from kd.errors import OF_WHAT_WAS_ASKED, ConfigError
from kd.record import digest
from kd.study.check import faults
from kd.study.replicate import places

LEFT_OVER = "no other training of its form, or none left"
"""Why one that could stack is alone."""
Place = tuple[int, int, int]
"""Variant, seed, fold."""
Failures = dict[tuple[Place, str], str]
"""(place, node) -> why a cell has no training."""
Facts = dict[Place, tuple[Fingerprints, float]]
"""Place -> what identifies its data, and the share of modalities that its mask hides in training rows."""


@dataclass
class Training:
    """One training, the answer to one cell or, where variants agree in all that decides it, to several.

    Attributes:
        place: of the first of its cells.
        node: its name.
        parents: node -> run of those that it is made from.
        address: what decides its weights alone.
        steps: of the optimiser.
        run: id of its run.
    """

    place: Place
    node: str
    parents: dict[str, str]
    address: dict[str, Any]
    steps: int
    run: str = ""

    @cached_property
    def hash(self) -> str:
        """What it would be called, trained alone."""
        return digest(self.address)[:20]


@dataclass
class Stack:
    """Trainings that run as one: the unit of scheduling, of noise and of resuming.

    Attributes:
        trainings: of one form, in order.
        reason: why it holds one training only; empty where it holds more.
    """

    trainings: list[Training]
    reason: str = ""

    @cached_property
    def members(self) -> list[str]:
        """What each training would be called alone."""
        return [training.hash for training in self.trainings]

    @cached_property
    def id(self) -> str:
        """The hash of its members."""
        return digest(self.members)[:20]


@dataclass
class Cell:
    """One node of one variant, seed and fold: what a table has a row for.

    Attributes:
        place: variant, seed and fold.
        node: its name.
        run: id of the training that answers it; empty where there is none.
        fields: what it is, for people and tables.
    """

    place: Place
    node: str
    run: str
    fields: dict[str, Any]


@dataclass
class Plan:
    """Everything that a grid asks for.

    Attributes:
        grid: the grid.
        cells: by place and node.
        stacks: those that others need first.
        failed: cells that cannot be trained, and why.
    """

    grid: Grid
    cells: list[Cell]
    stacks: list[Stack]
    failed: Failures = field(default_factory=dict)

    @property
    def trainings(self) -> int:
        """How many trainings there are."""
        return sum(len(stack.trainings) for stack in self.stacks)

    @cached_property
    def stack_of(self) -> dict[str, tuple[Stack, int]]:
        """Return run -> its stack and its place there."""
        return {training.run: (stack, i) for stack in self.stacks for i, training in enumerate(stack.trainings)}


def make_plan(grid: Grid, known: Places | None = None) -> Plan:
    """Plan the trainings of a grid; nothing is trained.

    Args:
        grid: the grid.
        known: where splits and masks are kept once drawn.

    Raises:
        ConfigError: no variant can run; with every fault.
    """
    known = known or Places()
    refused = grid_faults(grid, known)
    if len(refused) == len(grid.variants):
        raise ConfigError(distinct(grid, refused), grid.source)
    facts, failed = _facts(grid, refused, known)
    planner = _Planner(grid, known, facts)
    depth = max(map(len, planner.levels.values()), default=0)
    stacks = [stack for level in range(depth) for stack in planner.level(level)]
    for variant, told in refused.items():
        study = grid.variants[variant].study
        failed |= {((variant, *at), node): "; ".join(told) for at in places(study) for node in study.nodes}
    return Plan(grid, planner.cells(), stacks, failed)


def levels(study: Study) -> list[list[str]]:
    """Return the nodes by how many others, one after another, must be trained before them."""
    depth: dict[str, int] = {}
    for name in order(study):
        depth[name] = max((depth[other] + 1 for other in made_from(study, name)), default=0)
    return [[name for name in depth if depth[name] == level] for level in range(max(depth.values()) + 1)]


def grid_faults(grid: Grid, known: Places | None = None) -> dict[int, list[str]]:
    """Return variant -> its faults, of those that have some."""
    known = known or Places()
    told = {position: faults(variant.study, known.source) for position, variant in enumerate(grid.variants)}
    return {position: found for position, found in told.items() if found}


def distinct(grid: Grid, found: dict[int, list[str]]) -> list[str]:
    """Return faults once each, those of some variants only with the first that has them."""
    first: dict[str, int] = {}
    for position, told in found.items():
        for fault in told:
            first.setdefault(fault, position)
    everywhere = {fault for fault in first if all(fault in told for told in found.values())}
    whole = everywhere if len(found) == len(grid.variants) else set()
    return [fault if fault in whole else f"{grid.variants[at].name}: {fault}" for fault, at in first.items()]


def _facts(grid: Grid, refused: Collection[int], known: Places) -> tuple[Facts, Failures]:
    """Return what identifies the data of every place, and the cells of those that have none."""
    facts: Facts = {}
    failed: Failures = {}
    for position, variant in enumerate(grid.variants):
        for seed, fold in places(variant.study) if position not in refused else []:
            try:
                setting = known.setting(variant.study, seed, fold)
                hidden = setting.mask.realised.values()
                facts[position, seed, fold] = (setting.fingerprints, sum(hidden) / max(1, len(hidden)))
            except OF_WHAT_WAS_ASKED as error:
                failed |= {((position, seed, fold), node): str(error) for node in variant.study.nodes}
    return facts, failed


class _Planner:
    """Goes through the levels of all variants' graphs, and knows the run of every node so far."""

    def __init__(self, grid: Grid, known: Places, facts: Facts) -> None:
        self.grid, self.known, self.facts = grid, known, facts
        self.runs: dict[Place, dict[str, str]] = {place: {} for place in facts}
        self.levels = {variant: levels(grid.variants[variant].study) for variant, _, _ in facts}
        self.forms: dict[str, str] = {}
        self.reasons: dict[str, str] = {}

    def level(self, level: int) -> Iterator[Stack]:
        """Give the stacks of one level, and note the runs that they answer."""
        trainings: dict[str, Training] = {}
        cells: dict[str, list[tuple[Place, str]]] = {}
        groups: dict[str, list[Training]] = {}
        for place, name in self._nodes(level):
            training = self._training(place, name)
            cells.setdefault(training.hash, []).append((place, name))
            if training.hash not in trainings:
                trainings[training.hash] = training
                groups.setdefault(self._form(training), []).append(training)
        for shape, group in sorted(groups.items(), key=lambda item: min(map(_rank, item[1]))):
            for stack in self._cut(sorted(group, key=_rank), self._reason(group[0], shape)):
                for position, training in enumerate(stack.trainings):
                    training.run = training.hash
                    if len(stack.trainings) > 1:
                        training.run = digest(stacked_address(training.address, stack.members, position))[:20]
                    for cell, name in cells[training.hash]:
                        self.runs[cell][name] = training.run
                    self.forms[training.run] = shape
                yield stack

    def _nodes(self, level: int) -> Iterator[tuple[Place, str]]:
        for place in self.facts:
            by_level = self.levels[place[0]]
            yield from ((place, name) for name in (by_level[level] if level < len(by_level) else []))

    def _training(self, place: Place, name: str) -> Training:
        study = self.grid.variants[place[0]].study
        parents = parents_of(study, name, self.runs[place])
        address = node_address(study, name, self.facts[place][0], parents)
        return Training(place, name, parents, address, study.nodes[name].steps)

    def _form(self, training: Training) -> str:
        study = self.grid.variants[training.place[0]].study
        before = {node: self.forms[run] for node, run in training.parents.items()}
        return digest(form(study, training.node, training.address, before))

    def _reason(self, training: Training, shape: str) -> str:
        if self.grid.replicas == 1:
            return "replicas: 1"
        if shape not in self.reasons:
            variant, seed, fold = training.place
            study = self.grid.variants[variant].study
            self.reasons[shape] = alone(study, training.node, self.known.setting(study, seed, fold).source)
        return self.reasons[shape]

    def _cut(self, trainings: list[Training], reason: str) -> list[Stack]:
        size = 1 if reason else self.grid.replicas
        cut = [trainings[at : at + size] for at in range(0, len(trainings), size)]
        return [Stack(part, reason or (LEFT_OVER if len(part) == 1 else "")) for part in cut]

    def cells(self) -> list[Cell]:
        """Return every cell that has a training, with what it is."""
        found = []
        for place, runs in self.runs.items():
            variant, seed, fold = place
            chosen = self.grid.variants[variant]
            for name in [name for level in self.levels[variant] for name in level]:
                own = {"variant": variant, "node": name, "seed": seed, "fold": fold, **chosen.values}
                own |= describe(chosen.study, name, self.facts[place][1])
                found.append(Cell(place, name, runs[name], own))
        return found


def _rank(training: Training) -> tuple[Any, ...]:
    # Seeds come first: more of them fill further stacks and leave those before as they were.
    variant, seed, fold = training.place
    return seed, fold, variant, training.node


def describe(study: Study, name: str, hidden: float) -> dict[str, Any]:
    """Return what a cell is, in the words of the field: handling, mechanism, rate, objective.

    `rate` is the one that the config asks for where it asks for one for all modalities, else the one that the mask has.
    """
    node, edges = study.nodes[name], edges_into(study, name).values()
    asked = study.mask.get("rate")
    return {
        "handling": handling(node),
        "mechanism": study.mask["name"],
        "rate": asked if isinstance(asked, int | float) else round(hidden, 4),
        "objective": "+".join(dict.fromkeys(edge.loss["name"] for edge in edges)) or None,
        "teachers": sorted({edge.teacher for edge in edges}),
    }


def handling(node: Node) -> str:
    """Return what a node does about absent modalities, in training and in its network.

    >>> handling(Node(sees=["a"], drop=0.5, model={"fusion": {"name": "hemis"}}))
    'modality dropout 0.5, hemis'
    """
    learns = "complete-case" if node.rows == "complete" else "masked"
    if node.drop:
        learns = f"modality dropout {json.dumps(node.drop)}{', growing' if node.drop_warmup else ''}"
    parts = [node.model.get(part, {}).get("name") for part in ("absent", "fusion")]
    recombined = ["recombined"] if node.recombine else []
    return ", ".join([learns, *recombined, *(name for name in parts if name not in (None, "nothing", "concat"))])
