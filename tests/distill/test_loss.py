"""The loss of the graph: KDD 2020's formula, the reduction, and rows without a teacher."""

from __future__ import annotations

import math

import torch
from torch import nn

from kd.distill.loss import Edge, distillation_loss, total
from kd.distill.teachers import Cached
from kd.objectives.kl import KL
from kd.tasks import Multiclass
from kd.types import Batch, Output


def naive_kdd(
    z: list[list[float]], teachers: list[list[list[float]]], y: list[int], alpha: list[float], temperature: float
) -> float:
    """CE(z, y) + sum_m alpha_m T^2 KL(p(z_m; T) || p(z; T)), mean over rows, in plain Python."""

    def softened(row: list[float], t: float) -> list[float]:
        weights = [math.exp(value / t) for value in row]
        return [weight / sum(weights) for weight in weights]

    found = 0.0
    for i, row in enumerate(z):
        found -= math.log(softened(row, 1.0)[y[i]])
        for weight, teacher in zip(alpha, teachers, strict=True):
            p, q = softened(teacher[i], temperature), softened(row, temperature)
            found += weight * temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return found / len(z)


def setting(rows: int = 8) -> tuple[Batch, torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    student, one, two = torch.randn(3, rows, 4, generator=generator, dtype=torch.float64)
    label = torch.arange(rows) % 4
    batch = Batch.of({"a": torch.zeros(rows, 1), "b": torch.zeros(rows, 1)}, label)
    return batch, student, [one, two]


def losses(batch: Batch, student: torch.Tensor, teachers: list[torch.Tensor], counted: torch.Tensor) -> torch.Tensor:
    edges = {
        name: Edge(Cached(logits, [name]), KL(temperature=3.0), weight)
        for name, logits, weight in zip("ab", teachers, (1.0, 0.5), strict=True)
    }
    outputs = {name: Output(logits[batch.index]) for name, logits in zip("ab", teachers, strict=True)}
    return total(distillation_loss(Output(student), outputs, edges, batch, Multiclass(4), counted=counted))


def test_the_loss_is_kdd_2020s_formula() -> None:
    batch, student, teachers = setting()
    found = losses(batch, student, teachers, torch.ones(8, dtype=torch.bool))
    expected = naive_kdd(student.tolist(), [t.tolist() for t in teachers], batch.label.tolist(), [1.0, 0.5], 3.0)
    assert abs(float(found) - expected) < 1e-12


def test_several_teachers_equal_their_weighted_mean_up_to_a_constant() -> None:
    _, student, (one, two) = setting()
    student.requires_grad_()
    valid = torch.ones(8, dtype=torch.bool)
    kl = KL(temperature=3.0)
    known = {"label": torch.zeros(8).long(), "labelled": valid, "index": torch.arange(8)}
    each = [kl(Output(student), Output(t), **known, valid=valid).sum() for t in (one, two)]
    (apart,) = torch.autograd.grad(each[0] + 0.5 * each[1], student)
    mean = ((one / 3).softmax(-1) + 0.5 * (two / 3).softmax(-1)) / 1.5
    joint = 1.5 * kl(Output(student), Output(3 * mean.log()), **known, valid=valid).sum()
    (together,) = torch.autograd.grad(joint, student)
    assert torch.allclose(apart, together, atol=1e-12)


def test_a_row_without_a_teacher_counts_as_zero() -> None:
    batch, student, teachers = setting()
    present = batch.present.clone()
    present[:4, 1] = False
    edge = Edge(Cached(teachers[1], ["b"]), KL(temperature=1.0))
    everyone = torch.ones(8, dtype=torch.bool)
    terms = distillation_loss(
        Output(student),
        {"b": Output(teachers[1])},
        {"b": edge},
        batch.with_present(present),
        Multiclass(4),
        counted=everyone,
    )
    known = {"label": torch.zeros(8).long(), "labelled": everyone, "index": torch.arange(8)}
    each = KL(temperature=1.0)(Output(student), Output(teachers[1]), **known, valid=everyone)
    assert torch.allclose(terms["edge/b"], each[4:].sum() / 8)


def test_two_half_batches_equal_one_batch() -> None:
    batch, student, teachers = setting()
    everyone = torch.ones(8, dtype=torch.bool)
    whole = losses(batch, student, teachers, everyone)
    halves = []
    for part in (slice(0, 4), slice(4, 8)):
        half = Batch(
            {name: value[part] for name, value in batch.inputs.items()},
            batch.present[part],
            batch.label[part],
            batch.labelled[part],
            batch.index[part],
        )
        halves.append(losses(half, student[part], teachers, everyone[part]))
    assert torch.allclose(sum(halves) / 2, whole, atol=1e-12)


def test_no_teacher_anywhere_gives_exactly_zero() -> None:
    batch, student, teachers = setting()
    student.requires_grad_()
    absent = batch.with_present(torch.zeros_like(batch.present))
    edge = Edge(Cached(torch.full_like(teachers[0], torch.nan), ["a"]), KL())
    outputs = {"a": edge.teacher(absent)}  # type: ignore[misc]
    terms = distillation_loss(
        Output(student), outputs, {"a": edge}, absent, Multiclass(4), counted=torch.ones(8, dtype=torch.bool)
    )
    terms["edge/a"].backward()
    assert terms["edge/a"].item() == 0.0
    assert student.grad is not None
    assert not student.grad.any()


def test_objective_parameters_belong_to_the_edge() -> None:
    objective = KL()
    objective.projection = nn.Linear(2, 2)
    edge = Edge(Cached(torch.zeros(3, 2), ["a"]), objective)
    assert {name for name, _ in edge.named_parameters()} == {"objective.projection.weight", "objective.projection.bias"}
