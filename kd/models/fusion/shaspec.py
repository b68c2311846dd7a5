"""ShaSpec: what modalities share, and what is specific to each."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kd.models.fusion.base import Fusion, expect, masked_mean


class ShaSpec(Fusion):
    """Shared and specific features, joined by a residual projection (Wang et al. 2023, 2307.14126).

    `r_m = relu(W h_m)` with one map for all modalities, `s_m = relu(W_m h_m)` with a map for each; a modality present
    gives `f_m = r_m + P [r_m, s_m]`, an absent one `f_m` = the mean of the r present (0 where none is). The result is
    f_1 .. f_M side by side.

    Own loss per row: `alpha * alignment + beta * classification`. The alignment is the mean over pairs of modalities
    present of `|r_m - r_n|_1 / D`; the classification is the mean over modalities present of the cross-entropy of a
    linear classifier that names m from s_m. Both are 0 where there is nothing to compare.

    The L1 distance, alpha and beta are those of the released code (train_SS.py; `run.sh` names its runs alpha.1,
    beta.02). It compares neighbours in a ring and adds them up where we average over all pairs; counts absent
    modalities, as pictures of zeros, in both losses where we leave them out; and takes the first modality present for
    an absent one where we follow the paper's mean. The paper's shared encoder reads inputs, which needs inputs of one
    form; ours reads representations. About (M + 3) D^2 weights; time O(M D^2 + M^2 D).

    Args:
        modalities: M.
        width: D; the result has M D.
        alpha: weight of the alignment, at least 0.
        beta: weight of the classification, at least 0.

    Raises:
        ConfigError: a weight is below 0.
    """

    def __init__(self, modalities: int, width: int, /, *, alpha: float = 0.1, beta: float = 0.02) -> None:
        super().__init__()
        expect(alpha >= 0, "alpha", "a weight of at least 0", alpha)
        expect(beta >= 0, "beta", "a weight of at least 0", beta)
        self.width, self.alpha, self.beta = modalities * width, alpha, beta
        self.shared = nn.Linear(width, width)
        self.specific = nn.ModuleList(nn.Linear(width, width) for _ in range(modalities))
        self.project = nn.Linear(2 * width, width)
        self.domain = nn.Linear(width, modalities)

    def forward(
        self, tokens: Mapping[str, Tensor], keep: Mapping[str, Tensor], present: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        parts = self.parts(tokens, keep)
        shared = self.shared(parts).relu()  # [B, M, D]
        each = zip(self.specific, parts.unbind(dim=1), strict=True)
        specific = torch.stack([own(part).relu() for own, part in each], dim=1)
        joined = shared + self.project(torch.cat([shared, specific], dim=-1))
        absent = masked_mean(shared, present).unsqueeze(1)
        fused = torch.where(present.unsqueeze(-1), joined, absent).flatten(1)
        if not self.training:
            return fused
        named = classification(self.domain(specific), present)
        return fused, self.alpha * alignment(shared, present) + self.beta * named


def alignment(shared: Tensor, present: Tensor) -> Tensor:
    """Return the mean L1 distance per dimension over pairs of modalities present: [B, M, D], bool [B, M] -> [B]."""
    distance = (shared.unsqueeze(1) - shared.unsqueeze(2)).abs().mean(dim=-1)  # [B, M, M], every pair twice
    pair = (present.unsqueeze(1) & present.unsqueeze(2)).to(distance.dtype)
    pairs = pair.sum(dim=(1, 2)) - present.sum(dim=1)
    return (distance * pair).sum(dim=(1, 2)) / pairs.clamp(min=1)


def classification(logits: Tensor, present: Tensor) -> Tensor:
    """Return the mean over modalities present of the cross-entropy of naming each: [B, M, M], bool [B, M] -> [B]."""
    log_chance = F.log_softmax(logits, dim=-1).diagonal(dim1=1, dim2=2)  # [B, M]
    return -(log_chance * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
