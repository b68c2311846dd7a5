"""HeMIS: its moments against torch's, over the modalities present alone."""

from __future__ import annotations

import torch

from kd.models.fusion.hemis import HeMIS

from .conftest import PRESENT, WIDTH, represented


def test_moments_are_the_mean_and_unbiased_variance_over_what_is_present() -> None:
    tokens, keep = represented()
    found = HeMIS(3, WIDTH)(tokens, keep, PRESENT)
    every = torch.cat(list(tokens.values()), dim=1)
    for row, shown in enumerate(PRESENT[:2]):
        seen = every[row, shown]
        expected = torch.cat([seen.mean(dim=0), seen.var(dim=0, correction=1)])
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_one_modality_has_variance_zero_and_none_has_both_moments_zero() -> None:
    tokens, keep = represented()
    found = HeMIS(3, WIDTH)(tokens, keep, PRESENT)
    assert torch.equal(found[2, :WIDTH], tokens["b"][2, 0])
    assert not found[2, WIDTH:].any()
    assert not found[3].any()
