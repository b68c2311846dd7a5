"""The product of experts against the formula of MVAE's released code and torch's own divergence."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from kd.errors import ConfigError
from kd.models.fusion.poe_vae import PoEVAE, divergence

from .conftest import NAMES, PRESENT, WIDTH, represented


def made(**arguments: float) -> PoEVAE:
    torch.manual_seed(0)
    return PoEVAE(3, WIDTH, **arguments).double()


def test_posterior_is_the_product_of_experts_of_the_released_code() -> None:
    fusion = made().eval()
    tokens, keep = represented()
    found = fusion(tokens, keep, PRESENT)
    for row, shown in enumerate(PRESENT):
        given = [fusion.experts[m](tokens[NAMES[m]][row, 0]).chunk(2) for m in range(3) if shown[m]]
        # ProductOfExperts of multimodal-vae-public, without its eps of 1e-8; the prior expert is N(0, 1).
        mu = torch.stack([torch.zeros(WIDTH).double(), *(mean for mean, _ in given)])
        precision = 1 / torch.stack([torch.zeros(WIDTH).double(), *(logvar for _, logvar in given)]).exp()
        expected = (mu * precision).sum(dim=0) / precision.sum(dim=0)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_divergence_is_that_of_torch_distributions() -> None:
    mean, precision = torch.randn(5, WIDTH).double(), torch.rand(5, WIDTH).double() + 0.5
    posterior, prior = Normal(mean, precision.rsqrt()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(divergence(mean, precision), kl_divergence(posterior, prior).sum(dim=1))


def test_loss_is_the_bound_of_the_modalities_shown() -> None:
    fusion = made(beta=0.7, weight=0.3).train()
    fusion.noise.eval()
    tokens, keep = represented()
    z, loss = fusion(tokens, keep, PRESENT)
    for row, shown in enumerate(PRESENT):
        likelihood = sum(
            (tokens[NAMES[m]][row, 0] - fusion.decoders[m](z[row])).square().sum() / 2 for m in range(3) if shown[m]
        )
        _, precision = fusion._posterior(fusion.parts(tokens, keep), PRESENT)
        bound = likelihood + 0.7 * divergence(z[row : row + 1], precision[row : row + 1])[0]
        torch.testing.assert_close(loss[row], 0.3 / WIDTH * bound)
    assert loss[3].abs() < 1e-12  # nothing shown: the prior itself


def test_what_is_reconstructed_gets_no_gradient_as_a_target() -> None:
    fusion = made().train()
    for expert in fusion.experts:
        torch.nn.init.zeros_(expert.weight)
    tokens, keep = represented()
    leaves = {name: value.requires_grad_() for name, value in tokens.items()}
    fusion(leaves, keep, PRESENT)[1].sum().backward()
    assert not any(value.grad is not None and value.grad.any() for value in leaves.values())


def test_training_samples_the_posterior() -> None:
    fusion = made().train()
    present = torch.ones(1, 3, dtype=torch.bool)
    tokens, keep = represented(present)
    many = [{name: value.expand(20_000, *value.shape[1:]) for name, value in each.items()} for each in (tokens, keep)]
    z, _ = fusion(many[0], many[1], present.expand(20_000, 3))
    mean, precision = fusion._posterior(fusion.parts(tokens, keep), present)
    # Five standard errors of a mean and of a variance.
    assert ((z.mean(dim=0) - mean[0]).abs() < 5 * (precision[0] * 20_000) ** -0.5).all()
    assert ((z.var(dim=0) * precision[0] - 1).abs() < 5 * (2 / 20_000) ** 0.5).all()


@pytest.mark.parametrize("name", ["beta", "weight"])
def test_negative_weight_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"fusion\.{name}: expected a weight of at least 0, got -1"):
        PoEVAE(3, WIDTH, **{name: -1.0})
