"""Recombination: who may give what to whom, and how often."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd.config import Node
from kd.distill.graph import changed_for
from kd.distill.recombine import recombine
from kd.distill.view import row_draws
from kd.types import Batch


def batch_of(label: Tensor, present: Tensor) -> Batch:
    """Return rows whose every value is the row's number, NaN where absent."""
    rows = torch.arange(len(label)).float()
    inputs = {name: torch.where(present[:, c], rows, torch.nan).unsqueeze(1) for c, name in enumerate("ab")}
    return replace(Batch.of(inputs, label), present=present)


def drawn(rows: int, seed: int = 0) -> Tensor:
    return row_draws(seed, torch.arange(rows), 3)


@given(seed=st.integers(0, 5000), replicas=st.sampled_from([1, 2, 4]))
def test_rows_take_modalities_only_from_rows_of_their_class_and_replica(seed: int, replicas: int) -> None:
    random = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (24,), generator=random)
    batch = batch_of(label, torch.rand(24, 2, generator=random) < 0.6)
    found = recombine(batch, 1.0, drawn(24, seed), replicas=replicas)
    own = 24 // replicas
    for column, name in enumerate("ab"):
        for row in range(24):
            there = bool(found.present[row, column])
            same = [r for r in range(24) if label[r] == label[row] and r // own == row // own]
            donors = [r for r in same if batch.present[r, column]]
            assert there == (len(donors) > 0)
            assert not there or int(found.inputs[name][row]) in donors


def test_no_row_changes_where_the_probability_is_nought() -> None:
    batch = batch_of(torch.zeros(8, dtype=torch.int64), torch.rand(8, 2) < 0.5)
    found = recombine(batch, 0.0, drawn(8))
    assert torch.equal(found.present, batch.present)
    assert torch.equal(found.inputs["a"].nan_to_num(-1), batch.inputs["a"].nan_to_num(-1))


def test_rows_without_a_label_neither_give_nor_take() -> None:
    batch = batch_of(torch.zeros(6, dtype=torch.int64), torch.ones(6, 2, dtype=torch.bool))
    batch = replace(batch, labelled=torch.tensor([True, True, True, False, False, False]))
    found = recombine(batch, 1.0, drawn(6)).inputs["a"][:, 0]
    assert found[3:].tolist() == [3, 4, 5]
    assert set(found[:3].tolist()) <= {0, 1, 2}


def test_every_donor_is_equally_likely() -> None:
    rows = 4000
    batch = batch_of(torch.zeros(rows, dtype=torch.int64), torch.ones(rows, 2, dtype=torch.bool))
    gave = recombine(batch, 1.0, drawn(rows)).inputs["b"][:, 0]
    halves = float((gave < rows / 2).float().mean())
    assert halves == pytest.approx(0.5, abs=4 * 0.5 / rows**0.5)


def test_a_row_draws_its_modalities_independently() -> None:
    batch = batch_of(torch.zeros(200, dtype=torch.int64), torch.ones(200, 2, dtype=torch.bool))
    found = recombine(batch, 1.0, drawn(200)).inputs
    assert float((found["a"] == found["b"]).float().mean()) < 0.05


def test_a_teacher_of_a_recombining_student_is_asked_anew() -> None:
    student = Node(sees=["a", "b"], recombine=0.5)
    assert changed_for(Node(sees=["a"]), student) == {"a"}
    assert not changed_for(Node(sees=["a"]), Node(sees=["a", "b"]))
