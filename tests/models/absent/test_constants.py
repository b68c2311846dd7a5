"""Zeros and means: the encoder reads them as if they had been measured."""

from __future__ import annotations

import pytest
import torch

from kd.errors import ConfigError
from kd.models.absent.mean import Mean
from kd.models.absent.zero import Zero

from ..conftest import MODALITY, values
from .conftest import hidden, network, some, vectors

EVERYTHING = torch.ones(8, 3, dtype=torch.bool)


def test_absent_modality_is_answered_as_measured_zeros() -> None:
    model, inputs, present = network("zero"), vectors(8), some(8)
    zeros = {n: x.nan_to_num(0.0) for n, x in hidden(inputs, present).items()}
    assert torch.equal(model(inputs, present).logits, model(zeros, EVERYTHING).logits)


def test_absent_modality_is_answered_as_a_measured_mean() -> None:
    model, inputs, present = network("mean"), vectors(8), some(8)
    training, available = vectors(50, seed=1), some(50, seed=1)
    model.fit_scalers(hidden(training, available), available)
    means = {n: x[available[:, i]].mean(dim=0) for i, (n, x) in enumerate(training.items())}
    filled = {n: torch.where(x.isnan(), means[n], x) for n, x in hidden(inputs, present).items()}
    torch.testing.assert_close(model(inputs, present).logits, model(filled, EVERYTHING).logits)


@pytest.mark.parametrize("kind", MODALITY)
def test_zero_is_black_in_a_picture_and_padding_in_a_text(kind: str) -> None:
    x, present = values(kind), torch.zeros(6, 1, dtype=torch.bool)
    filled, readable = Zero({"own": MODALITY[kind]}, 8).fill({"own": x}, present)
    assert (filled["own"] == (MODALITY[kind].pad if kind == "text" else 0)).all()
    assert filled["own"].dtype == x.dtype
    assert readable.all()


@pytest.mark.parametrize("kind", ["vector", "image", "sequence"])
def test_mean_is_by_position_over_the_rows_that_have_it(kind: str) -> None:
    x, present = values(kind, rows=9), (torch.arange(9) % 3 > 0).unsqueeze(-1)
    stand_in = Mean({"own": MODALITY[kind]}, 8)
    stand_in.fit({"own": x}, present)
    filled, _ = stand_in.fill({"own": x}, present)
    expected = x[present[:, 0]].double().nanmean(dim=0)
    expected = (expected.round() if kind == "image" else expected.float()).to(x.dtype)
    torch.testing.assert_close(filled["own"][~present[:, 0]], expected.expand(3, *expected.shape))
    torch.testing.assert_close(filled["own"][present[:, 0]], x[present[:, 0]], equal_nan=True, atol=0, rtol=0)


def test_position_that_no_row_has_is_zero() -> None:
    x = torch.tensor([[1.0, torch.nan, 2.0, 3.0, 4.0], [3.0, torch.nan, 2.0, torch.nan, 4.0]])
    stand_in = Mean({"own": MODALITY["vector"]}, 8)
    stand_in.fit({"own": x}, torch.ones(2, 1, dtype=torch.bool))
    filled, _ = stand_in.fill({"own": x}, torch.zeros(2, 1, dtype=torch.bool))
    assert filled["own"][0].tolist() == [2.0, 0.0, 2.0, 3.0, 4.0]


def test_text_has_no_mean() -> None:
    with pytest.raises(ConfigError, match="absent: the text 'words' has no mean; choose another stand-in"):
        Mean({"pixels": MODALITY["image"], "words": MODALITY["text"]}, 8)
