"""Amputation beside an independent implementation, iMML's `Amputer` (PyPI `imml`, BSD-3): rates and dependence.

iMML makes a fraction p of the rows incomplete. Its `mcar` draws their patterns with equal chances, its `mem` leaves
each of them one modality; both are laws that ours can state, so the two must draw the same rates and dependence.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from imml.ampute import Amputer
from scipy.stats import chi2_contingency

from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split

ROWS, SEEDS, INCOMPLETE = 1500, 20, 0.6
NAMES = ["a", "b", "c"]
SOURCE = Source("rows", {name: torch.zeros(ROWS, 2) for name in NAMES}, torch.arange(ROWS) % 3, 3)
NONE = torch.empty(0, dtype=torch.int64)
EVERYTHING = Split(torch.arange(ROWS), NONE, NONE)


def theirs(mechanism: str) -> np.ndarray:
    """Return bool [SEEDS, ROWS, M], who is left what."""
    whole = [np.ones((ROWS, 2)) for _ in NAMES]
    found = []
    for seed in range(SEEDS):
        left = Amputer(p=INCOMPLETE, mechanism=mechanism, random_state=seed).fit_transform(whole)
        found.append(np.stack([~np.isnan(x).any(axis=1) for x in left], axis=1))
    return np.stack(found)


def ours(part: dict[str, object]) -> np.ndarray:
    return np.stack([draw(SOURCE, EVERYTHING, part, seed).keep.numpy() for seed in range(SEEDS)])


def counts(kept: np.ndarray) -> np.ndarray:
    return np.bincount((kept.reshape(-1, 3) @ [1, 2, 4]).astype(int), minlength=8)


def dependence(kept: np.ndarray) -> np.ndarray:
    """Return the correlation between modalities of who is left what, its three pairs."""
    return np.corrcoef(kept.reshape(-1, 3).T.astype(float))[np.triu_indices(3, 1)]


EQUAL = {"+".join(names): INCOMPLETE / 6 for names in (["a"], ["b"], ["c"], ["a", "b"], ["a", "c"], ["b", "c"])}
ALONE = dict.fromkeys(NAMES, INCOMPLETE / 3)
PAIRS = [
    ("mcar", {"name": "pattern", "chances": {**EQUAL, "a+b+c": 1 - INCOMPLETE}}),
    ("mem", {"name": "pattern", "chances": {**ALONE, "a+b+c": 1 - INCOMPLETE}}),
    ("mem", {"name": "severe", "complete": round(ROWS * (1 - INCOMPLETE))}),
]


@pytest.mark.parametrize(("mechanism", "part"), PAIRS, ids=["equal patterns", "one modality", "severe"])
def test_rates_and_dependence_agree_with_an_independent_implementation(mechanism, part) -> None:
    one, two = theirs(mechanism), ours(part)
    error = 4.5 / np.sqrt(SEEDS * ROWS)  # of a share or a correlation, at most
    assert np.abs(one.mean(axis=(0, 1)) - two.mean(axis=(0, 1))).max() < error
    assert np.abs(dependence(one) - dependence(two)).max() < 2 * error
    drawn = np.stack([counts(one), counts(two)])
    drawn = drawn[:, drawn.sum(axis=0) > 0]
    assert chi2_contingency(drawn).pvalue > 1e-3


def test_another_law_would_not_agree() -> None:
    drawn = np.stack([counts(theirs("mcar")), counts(ours({"name": "mcar", "rate": INCOMPLETE / 2}))])
    assert chi2_contingency(drawn[:, drawn.sum(axis=0) > 0]).pvalue < 1e-6
