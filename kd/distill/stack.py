"""What R students that train as one are given: their batches side by side, their teachers, their objectives."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kd.data.source import Source
from kd.data.stream import GlobalBatches, StepBatches, step_batches
from kd.distill.loss import Edge, known, reads
from kd.distill.teachers import LOGITS, Cached, Frozen
from kd.errors import ConfigError, MaskError
from kd.models.leaves import Fold
from kd.models.stacked import Stacked, narrow_state, under_vmap
from kd.objectives.teacher_weights import TeacherWeights
from kd.seeding import derive
from kd.types import Batch, Output

if TYPE_CHECKING:
    from kd.data.module import DataModule
    from kd.distill.module import Distiller


class ReplicaBatches:
    """The batches of R replicas side by side: R * B rows a step, one replica's after the other's.

    Args:
        source: prepared, in memory; see `replica_loader` for others.
        available: bool [R, N, M], what each row shows each replica.
        orders: one stream of rows per replica; of as many steps and rows per batch.
        fold: says which replicas are left.
        labelled: bool [R, N], which labels each replica sees; by default what the source shows.
    """

    def __init__(
        self,
        source: Source,
        available: Tensor,
        orders: Sequence[StepBatches],
        fold: Fold,
        labelled: Tensor | None = None,
    ) -> None:
        self.source, self.available, self.orders, self.fold = source, available, list(orders), fold
        self.labelled = source.labelled.expand(len(self.orders), -1) if labelled is None else labelled
        self.sampler = self  # where Lightning looks for something to tell the epoch

    @classmethod
    def of(
        cls, data: DataModule, students: Sequence[Distiller], fold: Fold, *, steps: int, batch_size: int | None = None
    ) -> ReplicaBatches:
        """Return the batches that students would have alone, each in the order that its seed decides.

        Args:
            data: source and mask, the same for all.
            students: one per replica, as given to `Replicas`.
            fold: of their stack, `Replicas(students).fold`.
            steps: per round, after which validation rows are looked at; round r goes on where r - 1 ended.
            batch_size: rows of one replica per step; by default the data module's.

        Raises:
            MaskError: no training row is left for a student.
        """
        size = batch_size or data.batch_size
        orders = []
        for position, student in enumerate(students):
            rows = data.rows_for(student.sees, student.rows)
            if len(rows) == 0:
                raise MaskError(f"replica {position}: no training row is {student.rows!r} under the mask; change one")
            labelled, seed = data.source.labelled[rows], derive(student.seed, "order")
            orders.append(step_batches(rows, labelled, data.labelled_share, batch_size=size, steps=steps, seed=seed))
        return cls(data.source, data.available.expand(len(orders), -1, -1), orders, fold)

    def set_epoch(self, epoch: int) -> None:
        """Choose the round; Lightning calls this before each one, also on resuming."""
        for order in self.orders:
            order.set_epoch(epoch)

    def __len__(self) -> int:
        return self.orders[0].steps

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield, for each step of this round, the rows [R, B] of the replicas that are left and which they are [R]."""
        alive = self.fold.alive
        for step in torch.stack([self.orders[int(r)].round() for r in alive], dim=1):
            yield step, alive

    def __iter__(self) -> Iterator[Batch]:
        for rows, alive in self.rows():
            whose = alive.unsqueeze(1)
            batch = self.source.batch(rows.flatten(), self.available[whose, rows].flatten(0, 1))
            yield replace(batch, labelled=self.labelled[whose, rows].flatten())


def replica_loader(feed: ReplicaBatches, workers: int = 2) -> DataLoader[Batch]:
    """Return the same batches from processes that read ahead, for a source that is not in memory.

    What replicas share in a step is read once, such as a picture that several of them see.

    Args:
        feed: its order and its fold decide, also once replicas have left.
        workers: processes; 0 reads in this one. The batches are the same for any number.
    """
    return DataLoader(
        _ReplicaRows(feed.source, feed.available, feed.labelled),
        sampler=_ReplicaOrder(feed),
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # or each round would draw from the noise that everything shares
    )


class _ReplicaOrder(GlobalBatches):
    """The rows of a feed, step by step, in the process that trains: only there it is known who is left."""

    def __init__(self, feed: ReplicaBatches) -> None:
        super().__init__()
        self.feed = feed

    def set_epoch(self, epoch: int) -> None:
        self.feed.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.feed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:  # type: ignore[override]
        return self.feed.rows()


class _ReplicaRows(Dataset[Batch]):
    """The batch of several replicas, by their rows [R, B] and which replicas they are [R]."""

    def __init__(self, source: Source, available: Tensor, labelled: Tensor) -> None:
        self.source, self.available, self.labelled = source, available, labelled

    def __getitem__(self, asked: tuple[Tensor, Tensor]) -> Batch:
        rows, alive = asked
        once, place = rows.flatten().unique(return_inverse=True)
        read = self.source.batch(once, self.source.observed[once])
        return Batch(
            inputs={name: value[place] for name, value in read.inputs.items()},
            present=self.available[alive.unsqueeze(1), rows].flatten(0, 1),
            label=read.label[place],
            labelled=self.labelled[alive.unsqueeze(1), rows].flatten(),
            index=rows.flatten(),
        )


class _OnMappings(nn.Module):
    """An objective of what vmap can pass: what it reads as mappings, everything in order."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, student: Any, teacher: Any, known: Any) -> Tensor:
        loss: Tensor = self.objective(Output.of(student), Output.of(teacher), **known)
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
        if any(_kind(edge) != _kind(first) for edge in edges):
            raise ConfigError(
                "edge: replicas of one stack have one kind of objective, its settings but for numbers in buffers, and "
                "teachers that see the same; stack like with like"
            )
        self._first, self.fold = [first], fold
        self.weight = torch.tensor([edge.weight for edge in edges], dtype=torch.float32)
        self.temperatures = torch.tensor([float(getattr(edge.objective, "temperature", 1.0)) for edge in edges])
        self.objective: nn.Module
        self.objective, self._call = _stacked_objective([edge.objective for edge in edges], fold)
        self.teacher = _stacked_teacher([edge.teacher for edge in edges], fold)

    def valid(self, batch: Batch) -> Tensor:
        """Return bool [R * B]: rows on which the teacher has what it needs."""
        return self._first[0].valid(batch)

    def alpha(self, batch: Batch) -> Tensor:
        """Return the weight of each row's replica [R * B]."""
        return self.fold.spread(self.weight, len(batch))

    def temperature(self, batch: Batch) -> Tensor:
        """Return the temperature of each row's replica [R * B]; 1 where the objective has none."""
        return self.fold.spread(self.temperatures, len(batch))

    def each(self, student: Output, teacher: Output, batch: Batch, valid: Tensor) -> Tensor:
        """Return the objective per row [R * B], 0 where not valid."""
        return self._call(student, teacher, batch, valid)

    def narrow(self, kept: Tensor) -> None:
        """Keep some of the replicas that are left."""
        narrow_state(self.objective, kept)
        if isinstance(self.teacher, _Live):
            self.teacher.narrow(kept)


def _kind(edge: Edge) -> tuple[Any, ...]:
    """Return what the edges of one stack share: whatever is asked of the first of them alone."""
    teacher = None if edge.teacher is None else (edge.teacher.sees, edge.teacher.reads)
    return kind_of(edge.objective), edge.when, teacher


def kind_of(whole: nn.Module | None) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the classes and settings of a module and all inside it, its tensors left out: what a stack shares."""
    return [] if whole is None else [(path, type(part), _settings(part)) for path, part in whole.named_modules()]


def _settings(module: nn.Module) -> dict[str, Any]:
    own = {name: value for name, value in vars(module).items() if not name.startswith("_") and name != "training"}
    return {name: value for name, value in own.items() if not isinstance(value, Tensor)}


def _stacked_objective(
    objectives: Sequence[nn.Module], fold: Fold
) -> tuple[nn.Module, Callable[[Output, Output, Batch, Tensor], Tensor]]:
    """Return R objectives of one kind as one module, and how to call it on R * B rows."""
    if getattr(objectives[0], "rowwise", False) and not any(True for _ in objectives[0].parameters()):
        return _rowwise(objectives, fold)
    held = copy.deepcopy(_OnMappings(objectives[0]))
    forward = under_vmap(held, [_OnMappings(objective) for objective in objectives], fold)

    def call(student: Output, teacher: Output, batch: Batch, valid: Tensor) -> Tensor:
        own, given = _read(student, objectives[0], "student"), _read(teacher, objectives[0], "teacher")
        each: Tensor = forward(own, given, known(batch, valid))
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
            place, _, number = name.rpartition(".")
            setattr(held.get_submodule(place), number, fold.spread(values, len(batch)).to(student.logits.dtype))
        each: Tensor = held(student, teacher, **known(batch, valid))
        return each

    return nn.Module(), call


def _read(output: Output, objective: nn.Module, role: Literal["student", "teacher"]) -> dict[str, Tensor]:
    # Logits are there whether an objective reads them or not: no network answers without.
    return {name: output.read(name) for name in dict.fromkeys((*reads(objective, role), *LOGITS))}


class StackedWeights(nn.Module):
    """How R students weigh their teachers, each in its own numbers.

    Args:
        weights: one per replica, of one kind.
        fold: of the students' stack.
    """

    reads_losses = False

    def __init__(self, weights: Sequence[TeacherWeights], fold: Fold) -> None:
        super().__init__()
        self.of = weights[0].of
        self.held = copy.deepcopy(weights[0])
        whole = not list(self.held.parameters()) and not list(self.held.buffers())
        self._call = self.held if whole else under_vmap(self.held, list(weights), fold)

    def forward(self, teachers: Tensor, label: Tensor, labelled: Tensor, valid: Tensor) -> Tensor:
        """Return the weights [R * B, K] from logits [R * B, K, C]."""
        found: Tensor = self._call(teachers, label, labelled, valid)
        return found

    def narrow(self, kept: Tensor) -> None:
        """Keep some of the replicas that are left."""
        narrow_state(self.held, kept)


class _Tables(nn.Module):
    """Cached teachers of R replicas: [K, N, ...] of K different teachers, and which is whose."""

    def __init__(self, teachers: Sequence[Cached], fold: Fold) -> None:
        super().__init__()
        distinct = {id(teacher.logits): teacher for teacher in teachers}
        places = {key: place for place, key in enumerate(distinct)}
        names = teachers[0].reads
        self._held = [{n: torch.stack([teacher.outputs[n] for teacher in distinct.values()]) for n in names}]
        self.whose = torch.tensor([places[id(teacher.logits)] for teacher in teachers])
        self.fold = fold

    def forward(self, batch: Batch) -> Output:
        rows = self._held[0]["logits"].shape[1]
        place = self.fold.spread(self.whose, len(batch)) * rows + batch.index
        return Output.of({name: table.flatten(0, 1).index_select(0, place) for name, table in self._held[0].items()})


class _Live(nn.Module):
    """Teachers of R replicas that are asked anew at every step."""

    def __init__(self, teachers: Sequence[Frozen], fold: Fold) -> None:
        super().__init__()
        self._held = [Stacked([teacher.model for teacher in teachers], fold, teachers[0].reads).eval()]
        self.sees = teachers[0].sees

    def narrow(self, kept: Tensor) -> None:
        """Keep some of the replicas that are left; the fold is the students' and narrowed with them."""
        narrow_state(self._held[0].network, kept, self._held[0].shared)

    @torch.no_grad()
    def forward(self, batch: Batch) -> Output:
        seen = batch.select(self.sees)
        given: Output = self._held[0](seen.inputs, seen.present)
        return given.detach()


def _stacked_teacher(teachers: Sequence[Any], fold: Fold) -> nn.Module | None:
    kinds = {type(teacher) for teacher in teachers}
    if kinds == {type(None)}:
        return None
    if kinds == {Cached}:
        return _Tables(teachers, fold)
    if kinds == {Frozen}:
        return _Live(teachers, fold)
    raise ConfigError("edge: replicas of one stack have teachers of one kind; stack like with like")
