"""What R students that train as one are given: their batches side by side, their teachers, their objectives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from kd.data.source import Source
from kd.data.stream import StepBatches
from kd.distill.loss import Edge
from kd.distill.teachers import Cached, Frozen
from kd.errors import ConfigError
from kd.models.leaves import Fold
from kd.models.stacked import Stacked, narrow_state, under_vmap
from kd.types import Batch, Output


class ReplicaBatches:
    """The batches of R replicas side by side: R * B rows a step, one replica's after the other's.

    Args:
        source: prepared, in memory.
        available: bool [R, N, M], what each row shows each replica.
        orders: one stream of rows per replica; of as many steps and rows per batch.
        fold: says which replicas are left.
    """

    def __init__(self, source: Source, available: Tensor, orders: Sequence[StepBatches], fold: Fold) -> None:
        self.source, self.available, self.orders, self.fold = source, available, list(orders), fold
        self.sampler = self  # where Lightning looks for something to tell the epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the round; Lightning calls this before each one, also on resuming."""
        for order in self.orders:
            order.set_epoch(epoch)

    def __len__(self) -> int:
        return self.orders[0].steps

    def __iter__(self) -> Iterator[Batch]:
        alive = self.fold.alive
        rows = torch.stack([self.orders[int(r)].round() for r in alive], dim=1)  # [steps, R, B]
        for step in rows:
            yield self.source.batch(step.flatten(), self.available[alive.unsqueeze(1), step].flatten(0, 1))


class _OnMappings(nn.Module):
    """An objective of what vmap can pass: outputs as mappings, everything in order."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, student: Any, teacher: Any, label: Tensor, index: Tensor, valid: Tensor) -> Tensor:
        loss: Tensor = self.objective(Output(**student), Output(**teacher), label=label, index=index, valid=valid)
        return loss


class StackedEdge(nn.Module):
    """One edge of R students: R teachers, R weights, R objectives of one kind.

    Args:
        edges: of the replicas, in order.
        fold: of the students' stack.

    Raises:
        ConfigError: they differ in more than teacher, weight and the objective's numbers.
    """

    def __init__(self, edges: Sequence[Edge], fold: Fold) -> None:
        super().__init__()
        first = edges[0]
        if any(type(e.objective) is not type(first.objective) or e.when != first.when for e in edges):
            raise ConfigError("edge: replicas of one stack have one kind of objective; stack like with like")
        self._first, self.fold = [first], fold
        self.weight = torch.tensor([edge.weight for edge in edges], dtype=torch.float32)
        self.objective: nn.Module
        self.objective, self._call = _stacked_objective([edge.objective for edge in edges], fold)
        self.teacher = _stacked_teacher([edge.teacher for edge in edges], fold)

    def loss(self, student: Output, teacher: Output, batch: Batch, counted: Tensor) -> Tensor:
        """Return the weighted objective per row [R * B], 0 where the row does not count."""
        valid = self._first[0].valid(batch) & counted
        each = self._call(student, teacher, batch, valid)
        return self.fold.spread(self.weight, len(batch)) * each

    def narrow(self, kept: Tensor) -> None:
        """Keep some of the replicas that are left."""
        narrow_state(self.objective, kept)
        if isinstance(self.teacher, _Live):
            self.teacher.narrow(kept)


def _stacked_objective(
    objectives: Sequence[nn.Module], fold: Fold
) -> tuple[nn.Module, Callable[[Output, Output, Batch, Tensor], Tensor]]:
    """Return R objectives of one kind as one module, and how to call it on R * B rows."""
    if getattr(objectives[0], "rowwise", False) and not any(True for _ in objectives[0].parameters()):
        return _rowwise(objectives, fold)
    held = copy.deepcopy(_OnMappings(objectives[0]))
    forward = under_vmap(held, [_OnMappings(objective) for objective in objectives], fold)

    def call(student: Output, teacher: Output, batch: Batch, valid: Tensor) -> Tensor:
        each: Tensor = forward(_given(student), _given(teacher), batch.label, batch.index, valid)
        return each

    return held, call


def _rowwise(
    objectives: Sequence[nn.Module], fold: Fold
) -> tuple[nn.Module, Callable[[Output, Output, Batch, Tensor], Tensor]]:
    """Call one objective on all rows at once, its numbers spread over them: vmap costs more than the arithmetic."""
    held = copy.deepcopy(objectives[0])
    numbers = {name: torch.stack([o.get_buffer(name) for o in objectives]) for name, _ in held.named_buffers()}
    own = {name: values for name, values in numbers.items() if bool((values != values[0]).any())}

    def call(student: Output, teacher: Output, batch: Batch, valid: Tensor) -> Tensor:
        for name, values in own.items():
            setattr(held, name, fold.spread(values, len(batch)).to(student.logits.dtype))
        each: Tensor = held(student, teacher, label=batch.label, index=batch.index, valid=valid)
        return each

    return nn.Module(), call


def _given(output: Output) -> dict[str, Any]:
    return {item.name: value for item in fields(output) if (value := getattr(output, item.name)) is not None}


class _Tables(nn.Module):
    """Cached teachers of R replicas: [K, N, C] logits of K different teachers, and which is whose."""

    def __init__(self, teachers: Sequence[Cached], fold: Fold) -> None:
        super().__init__()
        distinct: dict[int, Tensor] = {id(teacher.logits): teacher.logits for teacher in teachers}
        places = {key: place for place, key in enumerate(distinct)}
        self._logits = [torch.stack(list(distinct.values()))]
        self.whose = torch.tensor([places[id(teacher.logits)] for teacher in teachers])
        self.fold = fold

    def forward(self, batch: Batch) -> Output:
        table = self._logits[0]
        first = self.fold.spread(self.whose, len(batch)) * table.shape[1]
        return Output(logits=table.flatten(0, 1).index_select(0, first + batch.index))


class _Live(nn.Module):
    """Teachers of R replicas that are asked anew at every step."""

    def __init__(self, teachers: Sequence[Frozen], fold: Fold) -> None:
        super().__init__()
        self._held = [Stacked([teacher.model for teacher in teachers], fold).eval()]
        self.sees = teachers[0].sees

    def narrow(self, kept: Tensor) -> None:
        """Keep some of the replicas that are left; the fold is the students' and narrowed with them."""
        narrow_state(self._held[0].network, kept, self._held[0].shared)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Output:
        seen = batch.select(self.sees)
        return self._held[0](seen.inputs, seen.present).detach()


def _stacked_teacher(teachers: Sequence[Any], fold: Fold) -> nn.Module | None:
    kinds = {type(teacher) for teacher in teachers}
    if kinds == {type(None)}:
        return None
    if kinds == {Cached}:
        return _Tables(teachers, fold)
    if kinds == {Frozen}:
        return _Live(teachers, fold)
    raise ConfigError("edge: replicas of one stack have teachers of one kind; stack like with like")
