"""A variational fusion: Gaussian experts, one per modality present, multiplied with a prior."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd.models.fusion.base import Fusion, expect
from kd.models.noise import Normal

BOUND = 10.0
"""Largest log-variance of an expert, and its negative the smallest: exp stays finite in any precision."""


class PoEVAE(Fusion):
    """Product of Gaussian experts with its own evidence bound (MVAE, Wu & Goodman 2018, 1802.05335).

    Expert m reads h_m and gives mean mu_m and log-variance; with the prior expert N(0, I), `T_m = 1 / variance_m` and K
    the modalities present, the posterior is N(mu, 1/T), `T = 1 + sum_{m in K} T_m`, `mu = sum_{m in K} T_m mu_m / T`.
    The result is a sample of it in training mode and mu in eval mode; the prior's 0 where nothing is present.

    Own loss per row: `weight / D [ sum_{m in K} |h_m - g_m(z)|^2 / 2 + beta KL(N(mu, 1/T) || N(0, I)) ]`, g_m linear
    and h_m held constant as a target. Up to a constant this is -ELBO / D under a likelihood of unit variance.

    Where it differs from the paper: it reconstructs representations, not inputs, so no decoder of pictures or words is
    needed and no likelihood of the data is claimed; beta is constant, without annealing; instead of the sum of the
    joint, every unimodal and some random subsets' bounds, each row adds the bound of the subset that it shows, and
    `drop` varies that subset from step to step. The prior enters the product once, as in the paper; the released code
    for MNIST adds it once per modality. 3 M D^2 weights; time O(M D^2).

    Args:
        modalities: M.
        width: D, of representations and of the latent vector.
        beta: weight of the divergence from the prior within the bound, at least 0.
        weight: of the bound beside the labels' loss, at least 0.

    Raises:
        ConfigError: a weight is below 0.
    """

    def __init__(self, modalities: int, width: int, /, *, beta: float = 1.0, weight: float = 0.1) -> None:
        super().__init__()
        expect(beta >= 0, "beta", "a weight of at least 0", beta)
        expect(weight >= 0, "weight", "a weight of at least 0", weight)
        self.width, self.beta, self.weight = width, beta, weight
        self.experts = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(modalities))
        self.decoders = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.noise = Normal()

    def forward(
        self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        parts = self.parts(tokens, keep)
        mean, precision = self._posterior(parts, present)
        if not self.training:
            return mean
        z = mean + self.noise(mean) * precision.rsqrt()
        bound = self._reconstruction(z, parts.detach(), present) + self.beta * divergence(mean, precision)
        return z, self.weight / self.width * bound

    def _posterior(self, parts: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and precision of the product, [B, D] each."""
        given = [expert(part) for expert, part in zip(self.experts, parts.unbind(dim=1), strict=True)]
        means, spread = torch.stack(given, dim=1).chunk(2, dim=-1)  # [B, M, D] each
        precisions = (-spread.clamp(-BOUND, BOUND)).exp() * present.unsqueeze(-1)
        precision = 1 + precisions.sum(dim=1)
        return (precisions * means).sum(dim=1) / precision, precision

    def _reconstruction(self, z: Tensor, parts: Tensor, present: Tensor) -> Tensor:
        """Return half the squared error over the modalities present, [B]."""
        found = torch.stack([decoder(z) for decoder in self.decoders], dim=1)
        return ((found - parts).square().sum(dim=-1) * present).sum(dim=1) / 2


def divergence(mean: Tensor, precision: Tensor) -> Tensor:
    """Return KL(N(mean, 1 / precision) || N(0, I)), [B, D] twice -> [B]."""
    return (mean.square() + 1 / precision - 1 + precision.log()).sum(dim=-1) / 2
