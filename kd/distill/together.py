"""Nodes of one form trained as one stack, and written as if each had been trained alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kd.config import Node, Study
from kd.distill.address import node_address
from kd.distill.callbacks import Progress
from kd.distill.fit import build, stream
from kd.distill.loss import diverged
from kd.distill.module import Distiller
from kd.distill.replica_callbacks import AuditRowsEach, CurvesEach, KeepBestEach
from kd.distill.replicas import Replicas
from kd.distill.setting import Setting, validation
from kd.distill.stack import ReplicaBatches
from kd.distill.trained import Made, write_trained
from kd.distill.trainer import make_trainer, quiet
from kd.errors import OF_WHAT_WAS_ASKED
from kd.record import digest, finished, run_folder
from kd.seeding import derive


@dataclass(frozen=True)
class Member:
    """One training of a stack.

    Attributes:
        study: the config.
        name: node.
        setting: data of its replicate.
        parents: node -> run of those that it is made from.
        place: in the stack.
    """

    study: Study
    name: str
    setting: Setting
    parents: Mapping[str, str]
    place: int

    @property
    def node(self) -> Node:
        """Its part of the config."""
        return self.study.nodes[self.name]


@dataclass
class _Built:
    member: Member
    module: Distiller
    saw: dict[str, list[int]]


def stacked_address(address: Mapping[str, Any], members: Sequence[str], place: int) -> dict[str, Any]:
    """Return what decides the weights of a training in a stack: what would alone, and the stack.

    Args:
        address: that decides its weights alone.
        members: hash of each member's own address, in order; the stack's noise is drawn for all of them.
        place: of this one among them.
    """
    return {**address, "stack": {"members": list(members), "place": place}}


def train_together(members: Sequence[Member], stack: Sequence[str], tick: Callable[[int, int], None]) -> dict[int, str]:
    """Train nodes of one form in one fit and write each one's run; return place -> reason of those that failed.

    What cannot be built is left out; what diverges stops and changes nothing in the others.

    Args:
        members: of one form (`kd.distill.form`).
        stack: hash of the address that each member would have alone, in order.
        tick: hears of the steps done, and of how many there are.

    Raises:
        StorageError: the disk refused.
    """
    started = time.perf_counter()
    torch.set_num_threads(members[0].study.threads)
    built, failed = _build(members)
    if not built:
        return failed
    # As alone, noise is a function of seeds and names, which no change of the code moves.
    noise = derive(0, "stack", *(f"{member.name} {member.setting.seed}" for member in members))
    replicas = Replicas([each.module for each in built], seed=noise, clip=_clip(members[0].study))
    best, curves, shown = _fit(replicas, built, tick)
    common = replicas.model.common()
    seconds = (time.perf_counter() - started) / len(built)
    for replica, each in enumerate(built):
        if replica in replicas.failed:
            failed[each.member.place] = str(diverged(replicas.failed[replica]))
            continue
        each.module.model.load_state_dict(best.state_of(replica, common))
        _write(each, stack, best, curves, shown, replica, seconds)
    return failed


def _build(members: Sequence[Member]) -> tuple[list[_Built], dict[int, str]]:
    built, failed = [], {}
    for member in members:
        packages = {node: run_folder("train", run) / "package" for node, run in member.parents.items()}
        try:
            built.append(_Built(member, *build(member.study, member.name, member.setting, packages)))
        except OF_WHAT_WAS_ASKED as error:
            failed[member.place] = str(error)
    return built, failed


def _clip(study: Study) -> float | None:
    value = study.trainer.get("gradient_clip_val")
    return None if value is None else float(value)


def _fit(
    replicas: Replicas, built: Sequence[_Built], tick: Callable[[int, int], None]
) -> tuple[KeepBestEach, CurvesEach, AuditRowsEach]:
    first = built[0].member
    node, settings = first.node, [each.member.setting for each in built]
    # Which rows a batch has is each one's own: their order, and how many of them have a label.
    orders = [stream(each.module, each.member.node, each.member.setting) for each in built]
    available = torch.stack([setting.available for setting in settings])
    labelled = torch.stack([setting.source.labelled for setting in settings])
    feed = ReplicaBatches(first.setting.source, available, orders, replicas.fold, labelled)
    curves, best = CurvesEach(len(built)), KeepBestEach(len(built), node.select, node.patience)
    shown = AuditRowsEach(len(built))
    options = {key: value for key, value in first.study.trainer.items() if not key.startswith("gradient_clip")}
    epochs = node.steps // node.validate_every
    trainer = make_trainer(options, callbacks=[curves, best, shown, Progress(tick)], epochs=epochs)
    with quiet():
        trainer.fit(replicas, feed, validation(first.setting))
    return best, curves, shown


def _write(
    each: _Built,
    stack: Sequence[str],
    best: KeepBestEach,
    curves: CurvesEach,
    shown: AuditRowsEach,
    replica: int,
    seconds: float,
) -> None:
    member = each.member
    study, name, parents = member.study, member.name, member.parents
    address = stacked_address(node_address(study, name, member.setting.fingerprints, parents), stack, member.place)
    if finished("train", digest(address)[:20]) is not None:
        return  # written before this stack was cut short
    made = Made(
        score=float(best.score[replica]),
        round=int(best.round[replica]),
        steps=int(best.rounds[replica]) * study.nodes[name].validate_every,
        curves=curves.rows[replica],
        shown=shown.shown(replica),
    )
    write_trained(study, name, member.setting, address, parents, made, each.module, each.saw, seconds)
