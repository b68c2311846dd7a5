"""ShaSpec: its residual and what stands in for an absent modality; its losses against torch's."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from kd.errors import ConfigError
from kd.models.fusion.shaspec import ShaSpec, alignment, classification

from .conftest import PRESENT, WIDTH, represented


def made(**arguments: float) -> ShaSpec:
    torch.manual_seed(0)
    return ShaSpec(3, WIDTH, **arguments).double()


def test_present_is_shared_plus_residual_and_absent_the_mean_of_the_shared() -> None:
    fusion = made().eval()
    tokens, keep = represented()
    found = fusion(tokens, keep, PRESENT).view(4, 3, WIDTH)
    h = torch.cat(list(tokens.values()), dim=1)
    shared = fusion.shared(h).relu()
    for m, own in enumerate(fusion.specific):
        residual = fusion.project(torch.cat([shared[1, m], own(h[1, m]).relu()]))
        expected = shared[1, m] + residual if PRESENT[1, m] else shared[1, [0, 2]].mean(dim=0)
        torch.testing.assert_close(found[1, m], expected)
    assert not found[3].any()


def test_alignment_is_the_l1_loss_of_the_released_code_over_pairs_present() -> None:
    shared = torch.randn(4, 3, WIDTH).double()
    found = alignment(shared, PRESENT)
    for row, shown in enumerate(PRESENT):
        seen = shared[row, shown]
        pairs = [F.l1_loss(one, other) for one, other in itertools.combinations(seen, 2)]
        torch.testing.assert_close(found[row], torch.stack(pairs).mean() if pairs else found.new_zeros(()))


def test_classification_is_the_cross_entropy_of_naming_what_is_present() -> None:
    logits = torch.randn(4, 3, 3).double()
    found = classification(logits, PRESENT)
    for row, shown in enumerate(PRESENT[:3]):
        torch.testing.assert_close(found[row], F.cross_entropy(logits[row, shown], torch.arange(3)[shown]))
    assert found[3] == 0


def test_weights_of_the_losses_are_alpha_and_beta() -> None:
    tokens, keep = represented()
    losses = [made(alpha=a, beta=b).train()(tokens, keep, PRESENT)[1] for a, b in ((1, 0), (0, 1), (0.1, 0.02))]
    torch.testing.assert_close(losses[2], 0.1 * losses[0] + 0.02 * losses[1])


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"fusion\.{name}: expected a weight of at least 0, got -1"):
        ShaSpec(3, WIDTH, **{name: -1.0})
