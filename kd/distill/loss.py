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

from kd.distill.teachers import Cached, Frozen
from kd.errors import ConfigError
from kd.tasks import Task
from kd.types import Batch, Output


class Edge(nn.Module):
    """A teacher, what the student learns from it, and how much.

    Args:
        teacher: any network that maps (inputs, present) to logits (`kd.adapt` makes one of others), `Frozen` or
            `Cached`; None with `view="full"` for the student's own full view.
        objective: one loss per sample; its parameters belong to the edge and are trained with the student.
        weight: alpha >= 0.
        sees: the teacher's modalities, where the network does not say.
        when: the teacher counts on rows with `all`, or `any`, of its modalities.
        view: `full` is self-distillation: the student under everything available teaches its dropped view.

    Raises:
        ConfigError: no teacher without `view="full"`, a teacher with it, one that does not say what it sees, or a
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
        view: Literal["own", "full"] = "own",
    ) -> None:
        super().__init__()
        if (teacher is None) != (view == "full"):
            raise ConfigError("edge: a student teaches itself exactly when view is 'full'; name a teacher otherwise")
        if weight < 0:
            raise ConfigError(f"edge: expected a weight of at least 0, got {weight}")
        if teacher is not None and not isinstance(teacher, (Frozen, Cached)):
            teacher = Frozen(teacher, sees)
        self.teacher, self.objective, self.weight, self.when = teacher, objective, weight, when

    def valid(self, batch: Batch) -> Tensor:
        """Return bool [B]: rows on which the teacher has what it needs."""
        if self.teacher is None:
            return batch.present.any(dim=1)
        present = batch.select(self.teacher.sees).present
        return present.all(dim=1) if self.when == "all" else present.any(dim=1)

    def loss(self, student: Output, teacher: Output, batch: Batch, counted: Tensor) -> Tensor:
        """Return the weighted objective per row [B], 0 where the row does not count."""
        valid = self.valid(batch) & counted
        each = self.objective(student, teacher, label=batch.label, index=batch.index, valid=valid)
        return self.weight * each


def distillation_loss(
    student: Output,
    teachers: Mapping[str, Output],
    edges: Mapping[str, Any],
    batch: Batch,
    task: Task,
    *,
    counted: Tensor,
    supervised: float | Tensor = 1.0,
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
        replicas: R, how many students' batches lie one after the other in this one; None is a student alone.

    Returns:
        `supervised`, `edge/<name>` and, where the network has a loss of its own, `auxiliary`: scalars or, of
        replicas, [R]; their sum is the loss.
    """
    # Losses are computed in float32 at least, whatever the precision of the network.
    logits = student.logits.to(torch.promote_types(student.logits.dtype, torch.float32))
    terms = {"supervised": supervised * task.loss(logits, batch.label, batch.labelled & counted)}
    for name, edge in edges.items():
        terms[f"edge/{name}"] = edge.loss(student, teachers[name], batch, counted)
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
