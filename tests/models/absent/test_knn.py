"""Nearest neighbours: scikit-learn's KNNImputer on standard scores, whole modalities missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.impute import KNNImputer
from torch import Tensor

from kd.errors import ConfigError
from kd.models.absent.knn import KNN
from kd.types import Modality

from ..conftest import MODALITY
from .conftest import SHAPES, flat, hidden, some, vectors

VECTORS = {name: Modality(shape) for name, shape in SHAPES.items()}


def filled(
    training: dict[str, Tensor], available: Tensor, new: dict[str, Tensor], present: Tensor, **arguments: int
) -> Tensor:
    stand_in = KNN(VECTORS, 8, **arguments).double()
    stand_in.fit(hidden(training, available), available)
    found, readable = stand_in.fill(hidden(new, present), present)
    assert readable.all()
    return flat(dict(found))


def imputed(training: dict[str, Tensor], available: Tensor, new: dict[str, Tensor], present: Tensor, k: int) -> Tensor:
    """Return what scikit-learn gives, its rows standardised by what is there."""
    rows, asked = flat(hidden(training, available)).numpy(), flat(hidden(new, present)).numpy()
    mean, deviation = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    imputer = KNNImputer(n_neighbors=k).fit((rows - mean) / deviation)
    return torch.as_tensor(imputer.transform((asked - mean) / deviation) * deviation + mean)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 5])
def test_values_are_those_of_scikit_learn(k: int, seed: int) -> None:
    rows = (vectors(60, seed), some(60, seed), vectors(40, seed + 100), some(40, seed + 100, rate=0.6))
    # Padded references, which are flagged, take no part.
    torch.testing.assert_close(filled(*rows, neighbours=k, references=80), imputed(*rows, k), atol=1e-5, rtol=0)


def test_fewer_rows_than_neighbours_are_averaged_as_in_scikit_learn() -> None:
    rows = (vectors(12), some(12, rate=0.6), vectors(40, 1), some(40, 1, rate=0.6))
    donors = rows[1].sum(dim=0)
    assert donors.min() < 9
    torch.testing.assert_close(filled(*rows, neighbours=9), imputed(*rows, 9), atol=1e-5, rtol=0)


def test_row_that_shares_nothing_with_any_gets_the_mean() -> None:
    training, available = vectors(30), torch.tensor([[True, True, False]]).repeat(30, 1)
    new, present = vectors(3, 1), torch.tensor([[False, False, True], [False, False, False], [True, False, False]])
    found = filled(training, available, new, present)
    mean = flat(training).mean(dim=0)
    torch.testing.assert_close(found[:2, :11], mean[:11].expand(2, 11))
    assert not torch.allclose(found[2, 5:11], mean[5:11])
    assert not found[2, 11:].any()  # no training row has c: its mean is 0


def test_row_that_was_kept_finds_itself() -> None:
    training, everything = vectors(30), torch.ones(30, 3, dtype=torch.bool)
    present = everything.clone()
    present[:, 1] = False
    torch.testing.assert_close(filled(training, everything, training, present, neighbours=1), flat(training))


def test_more_rows_than_references_are_drawn_alike_each_time() -> None:
    training, available = vectors(60), some(60)
    kept = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        stand_in = KNN(VECTORS, 8, references=20).double()
        stand_in.fit(training, available)
        kept.append(stand_in.nearest.references)
    assert torch.equal(kept[0], kept[1])
    rows = {tuple(row[:15].tolist()) for row in kept[0]}
    whole = KNN(VECTORS, 8, references=60).double()
    whole.fit(training, available)
    assert len(rows) == 20
    assert rows < {tuple(row[:15].tolist()) for row in whole.nearest.references}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"neighbours": 0}, "absent.neighbours: expected at least 1"),
        ({"neighbours": 5, "references": 4}, "absent.references: expected at least absent.neighbours, 5, got 4"),
    ],
)
def test_ranges_are_told_with_the_fields_name(arguments: dict[str, int], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        KNN(VECTORS, 8, **arguments)


def test_what_is_no_vector_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="absent: knn computes vectors, and 'own' is an image; choose another"):
        KNN({"own": MODALITY["image"]}, 8)
