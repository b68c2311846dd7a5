"""Structured pruning: whole channels go, so the network is smaller for every runtime, without sparse kernels.

Source: Fang et al. 2023, DepGraph (2301.12900); Torch-Pruning finds which layers must lose channels together. Its
result is never taken on trust: the pruned network must equal the original with the removed channels set to zero.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd import seeding
from kd.compress.package import Context, Kind, Package
from kd.errors import ConfigError, KDError
from kd.evaluate.cost import macs as count_macs
from kd.models.network import as_output, blank_rows
from kd.types import Modality

Removed = dict[str, list[int]]
"""Path of a layer -> its output channels that go, numbered as in the original."""

STEPS = 12
"""Bisections of the channels' share: 1/4096 is below one channel of any layer here."""
ROUNDING = 1e-9
"""Keeps the floor's own share from being rounded one channel below it."""
TOLERANCE = 1e-5
"""Relative to the scale of the logits."""


@dataclass(frozen=True, kw_only=True)
class Structured:
    """Remove the channels of least group magnitude until the target is met.

    The same share leaves every layer, so no branch pays for another. Head outputs and input widths stay.

    Args:
        macs: most multiply-accumulates that may remain, as a share of the original's, in (0, 1); what a stand-in for
            absent inputs computes before the encoders stays and is not counted.
        keep: least share of channels that any layer keeps, in (0, 1]; the floor under every modality's branch.
    """

    macs: float = 0.5
    keep: float = 0.1
    stage: ClassVar[str] = "pruned"
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __post_init__(self) -> None:
        faults = [
            f"structured.{name}: expected a share in (0, 1), got {value}"
            for name, value in (("macs", self.macs), ("keep", self.keep))
            if not 0 < value < 1
        ]
        if faults:
            raise ConfigError(faults)

    def __call__(self, package: Package, context: Context, folder: Path) -> Package:
        """Prune a torch package into a new one; nothing is trained here.

        Raises:
            KDError: the target cannot be met above the floor, or the network cannot be followed.
        """
        model = package.model()
        pruned, removed, notes = prune(model, macs=self.macs, keep=self.keep)
        evidence = {
            "macs_ratio": _cost(pruned) / _cost(model),
            "channels_removed": {path: len(channels) for path, channels in removed.items()},
            "parity_max": _parity(zeroed(model, removed), pruned),
            "notes": notes,
        }
        return Package.save(pruned, folder, stage=self.stage, parent=package, evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Train on after pruning, with the student's own teachers and loss."""

    stage: ClassVar[str] = "tuned"
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __call__(self, package: Package, context: Context, folder: Path) -> Package:
        """Hand a fresh copy of the network to the context's `fit` and save what comes back.

        Raises:
            KDError: the context cannot train.
        """
        if context.fit is None:
            raise KDError("tune: the context has no fit, so nothing can train; drop the pass or compress within kd run")
        tuned = context.fit(package.model())
        return Package.save(tuned.cpu().eval(), folder, stage=self.stage, parent=package)


def prune(model: nn.Module, *, macs: float, keep: float) -> tuple[nn.Module, Removed, list[str]]:
    """Return a pruned copy, the channels removed, and notes on what was left whole.

    The whole network is followed first; where the graph cannot be (tokens in a sequence share one embedding; a loss of
    the network's own reads representations), only the hidden layers of each encoder are pruned.

    Raises:
        KDError: neither way reaches the target.
    """
    plans: list[tuple[Callable[[nn.Module, float], Removed], list[str]]] = [
        (_remove_anywhere, []),
        (_remove_inside_encoders, ["fusion and representation width left whole: channels cannot be followed there"]),
    ]
    reasons = []
    for remove, notes in plans[1:] if _has_own_loss(model) else plans:
        try:
            pruned, removed = _search(model, remove, macs=macs, keep=keep)
            if (parity := _parity(zeroed(model, removed), pruned)) > TOLERANCE:
                raise KDError(f"differs from zeroed channels by {parity:.1e} of the logits' scale")
            return pruned, removed, [*notes, *_fixed_note(model)]
        except KDError as error:
            reasons.append(str(error))
        except Exception as error:  # Torch-Pruning fails with whatever its graph walk meets
            reasons.append(f"{type(error).__name__} in the dependency graph")
    raise KDError(f"structured: cannot prune to {macs:g} of the MACs with keep {keep:g}: {'; then '.join(reasons)}")


@torch.no_grad()
def _has_own_loss(model: nn.Module) -> bool:
    """Say whether training has a loss of the network's own: no answer reaches its layers, so no graph follows them."""
    with seeding.noise(0, "prune"):
        return as_output(copy.deepcopy(model).train()(*blank_rows(model))).auxiliary is not None


def _search(
    model: nn.Module, remove: Callable[[nn.Module, float], Removed], *, macs: float, keep: float
) -> tuple[nn.Module, Removed]:
    """Bisect for the smallest share of channels whose removal meets the target."""
    # Torch-Pruning skips a layer that would lose every channel: the narrowest one bounds the share.
    narrowest = min(layer.out_features for layer in model.encoders.modules() if isinstance(layer, nn.Linear))  # type: ignore[union-attr]
    fixed = _fixed_cost(model)
    whole, low, high = _cost(model) - fixed, 0.0, 1.0 - max(keep, 1 / narrowest) - ROUNDING
    target, best = fixed + macs * whole, _candidate(model, remove, high)
    if _cost(best[0]) > target:
        raise KDError(f"{(_cost(best[0]) - fixed) / whole:.2f} of the MACs remain at the floor")
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried = _candidate(model, remove, middle)
        if _cost(tried[0]) > target:
            low = middle
        else:
            high, best = middle, tried
    _check_floor(model, best[1], keep)
    return best


def _candidate(
    model: nn.Module, remove: Callable[[nn.Module, float], Removed], share: float
) -> tuple[nn.Module, Removed]:
    pruned = copy.deepcopy(model).eval()
    removed = remove(pruned, share)
    return pruned, removed


def _check_floor(model: nn.Module, removed: Removed, keep: float) -> None:
    for path, channels in removed.items():
        width = model.get_submodule(path).weight.shape[0]  # type: ignore[index]
        if width - len(channels) < max(1, math.floor(keep * width)):
            raise KDError(f"{path} would keep {width - len(channels)} of {width} channels")


class _LogitsOf(nn.Module):
    """One tensor in, one tensor out, as the dependency graph wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: tuple[Mapping[str, Tensor], Tensor]) -> Tensor:
        return self.model(*rows).logits


class _TokensOf(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)[0]


def _remove_anywhere(model: nn.Module, share: float) -> Removed:
    return _remove(_LogitsOf(model), blank_rows(model), share, ignored=[model.head])  # type: ignore[list-item]


def _remove_inside_encoders(model: nn.Module, share: float) -> Removed:
    inputs, _ = blank_rows(model)
    removed: Removed = {}
    for name, encoder in model.encoders.items():  # type: ignore[operator,union-attr]
        layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
        if len(layers) < 2:
            continue
        found = _remove(_TokensOf(encoder), inputs[name], share, ignored=layers[-1:])
        removed |= {f"encoders.{name}.{path}": channels for path, channels in found.items()}
    return removed


def _remove(wrapper: nn.Module, example: Any, share: float, *, ignored: Sequence[nn.Module]) -> Removed:
    """Prune in place; return the output channels that went, by path below the wrapped module."""
    import torch_pruning as tp

    paths = {module: name.partition(".")[2] for name, module in wrapper.named_modules()}
    # A tuple would be unpacked into positional arguments; a list of one keeps it together.
    pruner = tp.pruner.BasePruner(
        wrapper,
        [example] if isinstance(example, tuple) else example,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        ignored_layers=list(ignored),
        global_pruning=False,
    )
    removed: Removed = {}
    for group in pruner.step(interactive=True):
        for dependency, channels in group:
            layer = dependency.target.module
            if isinstance(layer, nn.Linear | nn.Conv2d) and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                removed[paths[layer]] = sorted({*removed.get(paths[layer], []), *map(int, channels)})
        group.prune()
    return removed


@torch.no_grad()
def zeroed(model: nn.Module, removed: Removed) -> nn.Module:
    """Return a copy of the original whose removed channels give zero: what pruning must equal."""
    twin = copy.deepcopy(model)
    for path, channels in removed.items():
        layer = twin.get_submodule(path)
        layer.weight[channels] = 0  # type: ignore[operator]
        if layer.bias is not None:
            layer.bias[channels] = 0  # type: ignore[operator]
    return twin


def _cost(model: nn.Module) -> int:
    return count_macs(model, *blank_rows(model))


def _fixed_cost(model: nn.Module) -> int:
    """Return the multiply-accumulates before the encoders, which no channel changes."""
    if not hasattr(model, "absent"):
        return 0
    return count_macs(model.absent.fill, *blank_rows(model))  # type: ignore[arg-type,union-attr]


def _fixed_note(model: nn.Module) -> list[str]:
    fixed = _fixed_cost(model)
    whole = f"stand-in left whole: {fixed} multiply-accumulates before the encoders, not counted in macs"
    return [whole] if fixed else []


def _noise(blank: Tensor, modality: Modality, generator: torch.Generator) -> Tensor:
    if blank.is_floating_point():
        return torch.randn(blank.shape, generator=generator)
    return torch.randint(modality.vocabulary or 256, blank.shape, generator=generator, dtype=blank.dtype)


@torch.no_grad()
def _parity(one: nn.Module, other: nn.Module) -> float:
    inputs, present = blank_rows(one, rows=64)
    generator = torch.Generator().manual_seed(0)
    # What stands in for an absent modality is pruned as well: half of the rows lack some.
    present[32:] = torch.rand(present[32:].shape, generator=generator) < 0.5
    modality: Mapping[str, Modality] = one.modality  # type: ignore[assignment]
    noise = {name: _noise(value, modality[name], generator) for name, value in inputs.items()}
    expected, got = one(noise, present).logits, other(noise, present).logits
    return ((expected - got).abs().max() / expected.abs().max().clamp(min=1e-12)).item()
