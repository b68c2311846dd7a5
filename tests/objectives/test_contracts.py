"""Contracts that every objective in the table keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from kd.errors import ConfigError
from kd.objectives import OBJECTIVES
from kd.objectives.base import Objective
from kd.types import Output
from tests.objectives.examples import (
    CLASSES,
    ROWS,
    answers,
    changed,
    labels,
    learning,
    loss,
    prepared,
)

every = pytest.mark.parametrize("name", OBJECTIVES)
VALID = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1]).bool()

NOT_ZERO_AT_TEACHER = {
    "crd": "its linear maps are drawn, and always there",
    "gaussian_nll": "its learnt noise has a likelihood of its own",
    "vid": "its learnt noise has a likelihood of its own",
    "fitnet": "its linear map is drawn, and always there",
    "srrl": "its linear map is drawn, and always there",
    "label_smoothing": "the teacher is not asked",
    "shuffled": "the teacher speaks of another row",
}
"""Objectives that are not 0 where the student gives what the teacher gives, and why."""


def test_what_cannot_be_replicated_says_so() -> None:
    assert [name for name in OBJECTIVES if not prepared(name).replicable] == ["crd"]  # it remembers rows


@every
def test_one_loss_per_sample_above_zero_off_the_teacher(name: str) -> None:
    found = loss(prepared(name), answers(seed=1), answers(seed=2))
    assert found.shape == (ROWS,)
    assert found.dtype == torch.float64
    if name != "vid":  # a density may be above 1
        assert (found > 0).all()


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in NOT_ZERO_AT_TEACHER])
def test_teacher_itself_has_no_loss_and_no_gradient(name: str) -> None:
    teacher = answers()
    student = answers()
    leaves = learning(student)
    found = loss(prepared(name), student, teacher)
    torch.testing.assert_close(found, torch.zeros(ROWS, dtype=torch.float64), atol=1e-12, rtol=0)
    found.sum().backward()
    for leaf in leaves:
        assert leaf.grad is None or leaf.grad.abs().max() < 1e-7


@every
def test_masked_batch_is_the_valid_rows_alone(name: str) -> None:
    objective, student, teacher, label = prepared(name), answers(seed=1), answers(seed=2), labels()
    leaves = learning(student)
    rows = VALID.nonzero().flatten()
    alone = loss(objective, _rows(student, rows), _rows(teacher, rows), label=label[rows], index=rows)
    spoilt = changed(teacher, lambda x: torch.where(VALID.view(-1, *[1] * (x.dim() - 1)), x, torch.nan))
    found = loss(objective, student, spoilt, VALID, label=torch.where(VALID, label, -1))
    torch.testing.assert_close(found[VALID], alone, atol=1e-12, rtol=1e-12)
    assert torch.equal(found[~VALID], torch.zeros(3, dtype=torch.float64))
    found.sum().backward()
    for leaf in leaves:
        if leaf.grad is not None:
            assert leaf.grad.isfinite().all()
            assert not leaf.grad[~VALID].any()


@every
def test_order_of_rows_does_not_matter(name: str) -> None:
    objective, student, teacher = prepared(name), answers(seed=1), answers(seed=2)
    order = torch.tensor([3, 0, 7, 1, 5, 2, 6, 4])
    found = loss(
        objective, _rows(student, order), _rows(teacher, order), VALID[order], label=labels()[order], index=order
    )
    torch.testing.assert_close(found, loss(objective, student, teacher, VALID)[order], atol=1e-12, rtol=1e-12)


@every
def test_rows_without_a_label_are_finite_and_their_label_is_not_read(name: str) -> None:
    objective, student, teacher = prepared(name), answers(seed=1), answers(seed=2)
    found = [
        loss(objective, student, teacher, label=torch.where(VALID, labels(), hidden), labelled=VALID)
        for hidden in (-1, 3)
    ]
    assert torch.equal(*found)
    assert found[0].isfinite().all()


@every
@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("classes", [1, CLASSES])
def test_small_batches_and_one_class_are_finite(name: str, rows: int, classes: int) -> None:
    student = answers(rows, classes, seed=1)
    leaves = learning(student)
    found = loss(prepared(name, classes), student, answers(rows, classes, seed=2))
    assert found.shape == (rows,)
    found.sum().backward()
    assert found.isfinite().all()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@every
def test_without_a_teacher_the_loss_is_zero(name: str) -> None:
    student = answers()
    leaves = learning(student)
    nothing = changed(answers(), lambda x: torch.full_like(x, torch.nan))
    found = loss(prepared(name), student, nothing, torch.zeros(ROWS, dtype=torch.bool))
    assert torch.equal(found, torch.zeros(ROWS, dtype=torch.float64))
    found.sum().backward()
    assert all(leaf.grad is None or not leaf.grad.any() for leaf in leaves)


@every
@pytest.mark.parametrize("scale", [1e4, 1e-4, 0.0])
@pytest.mark.parametrize("teacher_scale", [1e4, 0.0])
def test_extremes_are_finite_in_single_precision(name: str, scale: float, teacher_scale: float) -> None:
    student = changed(answers(seed=1, scale=scale), Tensor.float)
    leaves = learning(student)
    found = loss(prepared(name).float(), student, changed(answers(seed=2, scale=teacher_scale), Tensor.float))
    found.sum().backward()
    assert found.isfinite().all()
    assert all(leaf.grad is None or leaf.grad.isfinite().all() for leaf in leaves)


@every
def test_half_precision_is_computed_in_single(name: str) -> None:
    objective = prepared(name).float()
    student, teacher = (changed(answers(seed=seed), Tensor.bfloat16) for seed in (1, 2))
    expected = loss(objective, *(changed(x, Tensor.float) for x in (student, teacher)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(objective, student, teacher)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "crd"])
def test_vmapped_equals_looped(name: str) -> None:
    objectives = [prepared(name) for _ in range(3)]
    with torch.no_grad():
        for number, objective in enumerate(objectives):
            for parameter in objective.parameters():
                parameter.add_(0.1 * number)
    students, teachers = ([answers(seed=seed + own) for seed in range(3)] for own in (0, 10))
    looped = torch.stack([loss(*each, VALID) for each in zip(objectives, students, teachers, strict=True)])
    own, given = (
        {n: torch.stack([getattr(x, n) for x in each]) for n in ("logits", "feature", "parts")}
        for each in (students, teachers)
    )
    state = stack_module_state(objectives)  # type: ignore[arg-type]

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], mine: dict[str, Tensor], its: Any) -> Tensor:
        known = {"label": labels(), "labelled": VALID, "index": torch.arange(ROWS), "valid": VALID}
        found: Tensor = functional_call(objectives[0], (parameters, buffers), (Output.of(mine), Output.of(its)), known)
        return found

    torch.testing.assert_close(torch.vmap(one)(*state, own, given), looped, atol=1e-12, rtol=1e-12)


@every
def test_widths_that_differ_are_compared(name: str) -> None:
    objective = prepared(name, student_width=4)
    found = loss(objective, answers(width=4), answers())
    assert found.shape == (ROWS,)
    assert found.isfinite().all()


@every
def test_numbers_out_of_range_are_refused(name: str) -> None:
    kept = ("weight", "bias", "memory", "seen", "drawn")
    numbers = [number for number, _ in prepared(name).named_buffers() if number not in kept]
    for number in numbers:
        place, _, last = number.rpartition(".")
        settings = {"loss": {"name": "kl", last: -1.0}} if place else {last: -1.0}
        with pytest.raises(ConfigError, match=last):
            prepared(name, settings=settings)


def _rows(output: Output, rows: Tensor) -> Output:
    return changed(output, lambda x: x[rows])


def test_a_wrapper_refuses_what_it_cannot_wrap() -> None:
    faults = OBJECTIVES.faults({"name": "logit_std", "loss": {"name": "kk"}}, "edges.a.loss")
    assert faults == [fault for fault in faults if fault.startswith("edges.a.loss.loss.name: unknown objective 'kk'")]
    with pytest.raises(ConfigError, match="compares logits, got rkd"):
        OBJECTIVES.build({"name": "logit_std", "loss": {"name": "rkd"}})


def test_positions_are_asked_for_where_there_are_none() -> None:
    for name in ("at", "nst"):
        objective: Objective = OBJECTIVES.build({"name": name})
        with pytest.raises(ConfigError, match="a vector has none; name `parts`"):
            objective.prepare(answers(), answers(), None)
