"""Contracts over every objective in the table, and parity with formulas from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from kd.objectives import OBJECTIVES
from kd.types import Output


def batch(rows: int = 8, classes: int = 5, seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, rows, classes, generator=generator, dtype=torch.float64) * scale
    return student, teacher


def loss(name: str, student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    rows = len(student)
    valid = torch.ones(rows, dtype=torch.bool) if valid is None else valid
    identity = {"label": torch.zeros(rows, dtype=torch.int64), "index": torch.arange(rows)}
    return OBJECTIVES.build({"name": name})(Output(student), Output(teacher), **identity, valid=valid)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_loss_per_sample_zero_at_the_teacher(name: str) -> None:
    student, teacher = batch()
    assert loss(name, student, teacher).shape == (8,)
    assert (loss(name, student, teacher) > 0).all()
    assert torch.allclose(loss(name, teacher, teacher), torch.zeros(8, dtype=torch.float64), atol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_rows_that_are_not_valid_get_nothing(name: str) -> None:
    student, teacher = batch()
    student.requires_grad_()
    valid = torch.tensor([1, 0, 1, 1, 0, 0, 1, 0]).bool()
    spoilt = torch.where(valid[:, None], teacher, torch.nan)
    found = loss(name, student, spoilt, valid)
    assert torch.equal(found[valid], loss(name, student, teacher)[valid])
    assert torch.equal(found[~valid], torch.zeros(4, dtype=torch.float64))
    found.sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert not student.grad[~valid].any()


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("scale", [1e4, 1e-4])
def test_extreme_logits_stay_finite(name: str, scale: float) -> None:
    student, teacher = batch(scale=scale)
    student = student.float().requires_grad_()
    found = loss(name, student, teacher.float())
    found.sum().backward()
    assert found.isfinite().all()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_half_precision_is_computed_in_float32(name: str) -> None:
    student, teacher = batch()
    assert loss(name, student.bfloat16(), teacher.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES)
def test_vmapped_equals_looped(name: str) -> None:
    pairs = [batch(seed=seed) for seed in range(3)]
    students, teachers = (torch.stack(column) for column in zip(*pairs, strict=True))
    looped = torch.stack([loss(name, student, teacher) for student, teacher in pairs])
    assert torch.allclose(torch.vmap(lambda s, t: loss(name, s, t))(students, teachers), looped, atol=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0, 10.0])
def test_kl_agrees_with_scipy(temperature: float) -> None:
    student, teacher = batch()
    objective = OBJECTIVES.build({"name": "kl", "temperature": temperature})
    found = objective(Output(student), Output(teacher), label=None, index=None, valid=torch.ones(8, dtype=torch.bool))
    p = softmax(teacher.numpy() / temperature, axis=1)
    q = softmax(student.numpy() / temperature, axis=1)
    np.testing.assert_allclose(found.numpy(), temperature**2 * rel_entr(p, q).sum(axis=1), rtol=0, atol=1e-12)


def test_bernoulli_kl_agrees_with_two_class_kl() -> None:
    student, teacher = batch(classes=1)
    pairs = [torch.cat([logits, torch.zeros_like(logits)], dim=1) for logits in (student, teacher)]
    assert torch.allclose(loss("bernoulli_kl", student, teacher), loss("kl", *pairs), atol=1e-12)
