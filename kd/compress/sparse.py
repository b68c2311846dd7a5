"""Unstructured pruning: single weights become zero and stay so.

Fewer weights, the same shapes: what runs dense matrix products is not one step faster for it, which the table of stages
shows. Source: Han et al. 2015 (1506.02626); Zhu & Gupta 2017 (1710.01878) for the cubic way to the target.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.graph import branch_of
from kd.compress.prune import Ranking
from kd.errors import ConfigError, KDError
from kd.models.network import copy_to_change


@dataclass(frozen=True, kw_only=True)
class Unstructured:
    """Set the smallest weights of products and convolutions to zero.

    Args:
        sparsity: share of those weights that is zero at the end, in (0, 1).
        ranking: within every `layer`, every `branch` (a modality's encoder, or the rest), or `global`.
        rounds: steps in which it is approached; after each the student is trained on with its zeros held, which needs
            a context with `fit`. With 0 nothing is trained.
    """

    sparsity: float = 0.9
    ranking: Ranking = "layer"
    rounds: int = 0
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __post_init__(self) -> None:
        faults = []
        if not 0 < self.sparsity < 1:
            faults.append(f"unstructured.sparsity: expected a share in (0, 1), got {self.sparsity}")
        if self.rounds < 0:
            faults.append(f"unstructured.rounds: expected at least 0, got {self.rounds}")
        if faults:
            raise ConfigError(faults)

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return the network with its zeros; its evidence is the sparsity of every branch, counted in the weights.

        Raises:
            KDError: rounds without a context that can train.
        """
        if self.rounds and context.fit is None:
            raise KDError("unstructured.rounds: training needs a fit; give a context with one, or rounds 0")
        thinned = copy_to_change(model)
        for turn in range(1, max(1, self.rounds) + 1):
            # Many weights go early, while many are left to make up for them.
            share = self.sparsity * (1 - (1 - turn / max(1, self.rounds)) ** 3)
            masks = self._masks(thinned, share)
            _hold(thinned, masks)
            if self.rounds:
                assert context.fit is not None
                thinned = context.fit(thinned).cpu()
            _release(thinned)
        return thinned.eval(), {"sparsity": _zeros(thinned), "branches": _zeros_by_branch(thinned)}

    def _masks(self, model: nn.Module, share: float) -> dict[str, Tensor]:
        """Return layer -> bool, True for the weights that stay."""
        scratch = copy.deepcopy(model)
        scopes: dict[str, list[tuple[nn.Module, str]]] = {}
        for path, layer in _layers(scratch):
            # Torch flattens weights as they lie in memory, which refuses a convolution's that lie channels last.
            layer.weight.data = layer.weight.data.contiguous()
            named = {"layer": path, "branch": branch_of(path), "global": ""}[self.ranking]
            scopes.setdefault(named, []).append((layer, "weight"))
        for scope in scopes.values():
            prune.global_unstructured(scope, prune.L1Unstructured, amount=share)
        return {path: layer.weight_mask.bool() for path, layer in _layers(scratch)}  # type: ignore[operator]


class _Masked(nn.Module):
    """A weight whose pruned places are zero, whatever training does to them."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield path, layer


def _hold(model: nn.Module, masks: dict[str, Tensor]) -> None:
    for path, layer in list(_layers(model)):
        parametrize.register_parametrization(layer, "weight", _Masked(masks[path]))


def _release(model: nn.Module) -> None:
    for _, layer in list(_layers(model)):
        parametrize.remove_parametrizations(layer, "weight")


def _zeros(model: nn.Module, branch: str | None = None) -> float:
    weights = [layer.weight for path, layer in _layers(model) if branch is None or branch_of(path) == branch]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def _zeros_by_branch(model: nn.Module) -> dict[str, float]:
    branches = dict.fromkeys(branch_of(path) for path, _ in _layers(model))
    return {branch: _zeros(model, branch) for branch in branches}
