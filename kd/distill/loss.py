"""The distillation loss: supervised term plus one term per edge, weighted and reduced here and nowhere else.

`loss = (1 / B) sum_i [ w CE(z_i, y_i) + sum_k alpha_k valid_ik objective_k(z_i, z_ik) + own_i ]`, B the rows of the
batch, own_i a loss that the network itself has (a reconstruction): a row without a teacher counts as 0, so alpha means
the same at every missing rate (KDD 2020, the student's objective for M = 2; any number of teachers here).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kd.distill.combine import edge_terms
from kd.distill.teachers import LOGITS, Cached, Frozen
from kd.errors import ConfigError
from kd.models.hints import answer, layer_faults
from kd.models.network import blank_rows, evaluating
from kd.objectives.base import Objective
from kd.seeding import initialise
from kd.tasks import Task
from kd.types import Batch, Output, layers


class Edge(nn.Module):
    """A teacher, what the student learns from it, and how much.

    Args:
        teacher: any network that maps (inputs, present) to logits (`kd.adapt` makes one of others), `Frozen` or
            `Cached`; None with `view="full"` or `"averaged"` for the student itself.
        objective: one loss per sample; its parameters belong to the edge and are trained with the student.
        weight: alpha >= 0.
        sees: the teacher's modalities, where the network does not say.
        when: the teacher counts on rows with `all`, or `any`, of its modalities.
        view: `full` is self-distillation: the student under everything available teaches its dropped view; `averaged`
            is the same by its weights averaged over its steps (`kd.distill.averaged`).
        decay: of that average.

    Raises:
        ConfigError: no teacher with `view="own"`, a teacher with another, one that does not say what it sees, or a
            negative weight.
    """

    def __init__(
        self,
        teacher: nn.Module | None,
        objective: nn.Module,
        weight: float = 1.0,
        *,
        sees: Sequence[str] | None = None,
        when: Literal["all", "any"] = "all",
        view: Literal["own", "full", "averaged"] = "own",
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if (teacher is None) != (view != "own"):
            raise ConfigError(
                "edge: a student teaches itself exactly when view is 'full' or 'averaged'; name a teacher otherwise"
            )
        if weight < 0:
            raise ConfigError(f"edge: expected a weight of at least 0, got {weight}")
        if teacher is not None and not isinstance(teacher, (Frozen, Cached)):
            teacher = Frozen(teacher, sees)
        if isinstance(teacher, Frozen):
            teacher.reads = tuple(dict.fromkeys((*teacher.reads, *reads(objective, "teacher"))))
        self.teacher, self.objective, self.weight, self.when = teacher, objective, weight, when
        self.decay = decay if view == "averaged" else None
        self.prepared = False

    @property
    def student_reads(self) -> list[str]:
        """Outputs and layers of the student that its training has to keep: those of its own full view among them."""
        own = reads(self.objective, "student")
        return list(dict.fromkeys((*own, *(reads(self.objective, "teacher") if self.teacher is None else ()))))

    def prepare(self, student: nn.Module, seed: int) -> None:
        """Make what the objective takes from shapes, such as projections, from the networks' answers to blank rows.

        Args:
            student: the network that will learn.
            seed: that the objective's parameters are drawn from.

        Raises:
            ConfigError: a layer that a network has not, or shapes that cannot be compared.
        """
        objective = self.objective
        if self.prepared or not isinstance(objective, Objective) or not asks_for_shapes(objective):
            return
        with torch.no_grad():
            own, given = _blank_answer(student, self.student_reads, "student"), self._blank_answer(student)
        network = student if self.teacher is None else self.teacher.model
        objective.prepare(own, given, network)
        initialise(objective, seed)
        self.prepared = True

    def _blank_answer(self, student: nn.Module) -> Output:
        asked = list(reads(self.objective, "teacher"))
        if isinstance(self.teacher, Cached):
            lacking = [name for name in asked if name not in self.teacher.reads]
            if lacking:
                raise ConfigError(f"teacher: {lacking[0]!r} was not cached; give the network itself, or cache it")
            return Output.of({name: value[:2] for name, value in self.teacher.outputs.items()})
        return _blank_answer(student if self.teacher is None else self.teacher.model, asked, "teacher")

    def valid(self, batch: Batch) -> Tensor:
        """Return bool [B]: rows on which the teacher has what it needs."""
        if self.teacher is None:
            return batch.present.any(dim=1)
        present = batch.select(self.teacher.sees).present
        return present.all(dim=1) if self.when == "all" else present.any(dim=1)

    def alpha(self, batch: Batch) -> float | Tensor:
        """Return the weight, one for all rows or one per row [B]."""
        return self.weight

    def temperature(self, batch: Batch) -> float | Tensor:
        """Return the objective's temperature, one for all rows or one per row [B]; 1 where it has none."""
        found: float | Tensor = getattr(self.objective, "temperature", 1.0)
        return found

    def each(self, student: Output, teacher: Output, batch: Batch, valid: Tensor) -> Tensor:
        """Return the objective per row [B], 0 where not valid."""
        found: Tensor = self.objective(student, teacher, **known(batch, valid))
        return found


def known(batch: Batch, valid: Tensor) -> dict[str, Tensor]:
    """Return what objectives are told of the rows of a batch."""
    return {"label": batch.label, "labelled": batch.labelled, "index": batch.index, "valid": valid}


def reads(objective: nn.Module, role: Literal["student", "teacher"]) -> tuple[str, ...]:
    """Return what an objective reads of a network; one that does not say reads logits."""
    found: tuple[str, ...] = getattr(objective, f"{role}_reads", LOGITS)
    return found


def asks_for_shapes(objective: Objective) -> bool:
    """Say whether an objective takes more from the networks than logits: layers, or shapes to make something from."""
    plain = {"logits"}.issuperset((*objective.student_reads, *objective.teacher_reads))
    return not plain or type(objective).prepare is not Objective.prepare


def _blank_answer(network: nn.Module, asked: Sequence[str], role: str) -> Output:
    if not hasattr(network, "modality"):
        raise ConfigError(
            f"{role}: {type(network).__name__} does not say what shapes it takes (`modality`), which this objective "
            "needs; use kd.Classifier, kd.Imported or an objective on logits"
        )
    faults = layer_faults(network, layers(asked))
    if faults:
        raise ConfigError([f"{role}: {fault}" for fault in faults])
    with evaluating(network):
        inputs, present = blank_rows(network)
        device = next((p.device for p in network.parameters()), present.device)
        shown = {name: x.to(device) for name, x in inputs.items()}
        return answer(network, shown, present.to(device), layers(asked)).detach()


def distillation_loss(
    student: Output,
    teachers: Mapping[str, Output],
    edges: Mapping[str, Any],
    batch: Batch,
    task: Task,
    *,
    counted: Tensor,
    supervised: float | Tensor = 1.0,
    weights: Any | None = None,
    replicas: int | None = None,
) -> dict[str, Tensor]:
    """Return each term of the loss, summed over its rows and divided by the rows of the batch.

    Args:
        student: its outputs for the view it trains on.
        teachers: edge -> teacher's outputs.
        edges: edge -> objective, weight and validity.
        batch: as the source gave it, before any modality was dropped.
        task: supervised loss.
        counted: bool [B], rows the student may learn from.
        supervised: weight of the labels' loss, one for all or one per row.
        weights: how several teachers are weighed against each other, see `kd.distill.combine`; None sums their terms.
        replicas: R, how many students' batches lie one after the other in this one; None is a student alone.

    Returns:
        `supervised`, `edge/<name>` or, where several teachers are made one, `edge/teachers`, and `auxiliary` where the
        network has a loss of its own: scalars or, of replicas, [R]; their sum is the loss.
    """
    # Losses are computed in float32 at least, whatever the precision of the network.
    logits = student.logits.to(torch.promote_types(student.logits.dtype, torch.float32))
    terms = {"supervised": supervised * task.loss(logits, batch.label, batch.labelled & counted)}
    terms |= edge_terms(student, teachers, edges, batch, counted, weights)
    if student.auxiliary is not None:
        terms["auxiliary"] = torch.where(counted, student.auxiliary, 0.0)
    if replicas is None:
        return {name: each.sum() / len(batch) for name, each in terms.items()}
    return {name: each.view(replicas, -1).sum(dim=1) * (replicas / len(batch)) for name, each in terms.items()}


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the terms in the order of their names, so that YAML order changes no bit."""
    return torch.stack([terms[name] for name in sorted(terms)]).sum(dim=0)


def curve_points(loss: Tensor, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a step adds to the curves: the loss, and its terms where there are several."""
    return {"train_loss": loss} | ({f"train/{name}": term for name, term in terms.items()} if len(terms) > 1 else {})


def diverged(step: int) -> ConfigError:
    """Return the error of a training whose loss is no number."""
    return ConfigError(f"training: the loss is no number at step {step}; lower optimizer.lr or look for huge values")
