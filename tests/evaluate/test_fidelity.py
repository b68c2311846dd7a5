"""What a teacher knows: agreement, certainty, and a bound on information that holds where the truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from kd.data import load_source
from kd.evaluate.fidelity import agreement, information, uncertainty


def test_agreement_is_of_first_classes_alone() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    assert agreement(logits, 7 * logits + 3) == 1.0
    assert agreement(logits, -logits) < 0.5
    assert math.isnan(agreement(logits[:0], logits[:0]))


def test_uncertainty_agrees_with_scipy() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.mean([entropy(softmax(row)) for row in logits.numpy()])
    assert uncertainty(logits) == pytest.approx(expected, rel=1e-12)


def test_information_is_a_lower_bound_that_the_true_posterior_reaches() -> None:
    source = load_source("synthetic", rows=20_000, modalities=2, classes=3, gamma=0.5)
    shown = {"m0": source.inputs["m0"]}
    true = source.ceiling.posterior(shown).log()  # type: ignore[union-attr]
    known = source.ceiling.information(["m0"])  # type: ignore[union-attr]
    found = information(true, source.label)
    assert found == pytest.approx(known.nats, abs=0.02)
    blunt = information(0.3 * true, source.label)
    assert blunt < found
    assert information(torch.zeros_like(true), source.label) == pytest.approx(0.0, abs=1e-3)
    assert information(-true, source.label) < 0
