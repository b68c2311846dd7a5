"""Structured pruning: whole channels and heads go, so the network is smaller for every runtime, without sparse kernels.

What a network can lose is in `kd.compress.channels`; here it is ranked, under a floor for every modality, and proven:
the pruned network must equal the original with the removed channels set to zero.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kd import seeding
from kd.compress.channels import Importance, Units, remove, units_of
from kd.compress.context import Context, Evidence, Kind, Model
from kd.compress.zeroed import proof, zeroed
from kd.errors import ConfigError, KDError
from kd.evaluate.cost import macs as count_macs
from kd.models.network import blank_rows, copy_to_change, evaluating

PRUNED = (nn.Linear, nn.Conv2d)
"""Layers that lose channels."""
STEPS = 12
"""Bisections of the channels' share: 1/4096 is below one channel of most layers."""
TOLERANCE = 1e-5
"""Of the proof, relative to the scale of the logits."""
Ranking = Literal["layer", "branch", "global"]


@dataclass(frozen=True, kw_only=True)
class Structured:
    """Remove the least important channels and heads until the target is met.

    Logits, inputs, what transformers pass on from layer to layer, and what cannot be followed or proven stay whole.

    Args:
        macs: most multiply-accumulates that may remain, as a share of the original's, in (0, 1); what a stand-in for
            absent inputs computes before the encoders stays and is not counted.
        importance: `magnitude` of the weights that go with a channel, or `taylor`, the change of the student's own loss
            on its training rows to first order; it needs a context with `losses`.
        ranking: within every `layer`, so that each loses the same share; within every `branch`, a modality's encoder or
            the rest, so that no modality pays for another; or `global`.
        keep: least share of its channels that every layer keeps, in (0, 1).
        floors: modality -> another such share for its encoder.
        multiple: channels that a layer keeps are a multiple of this, where it has as many; a processor computes 16 at a
            time or so, and 33 cost it as much as 48.
        rounds: steps in which the target is approached; before each but the first the student is trained on, which
            needs a context with `fit`.
    """

    macs: float = 0.5
    importance: Importance = "magnitude"
    ranking: Ranking = "layer"
    keep: float = 0.1
    floors: Mapping[str, float] = field(default_factory=dict)
    multiple: int = 1
    rounds: int = 1
    takes: ClassVar[Kind] = "torch"
    gives: ClassVar[Kind] = "torch"

    def __post_init__(self) -> None:
        shares = {"macs": self.macs, "keep": self.keep, **{f"floors.{name}": s for name, s in self.floors.items()}}
        faults = [
            f"structured.{name}: expected a share in (0, 1), got {value}"
            for name, value in shares.items()
            if not 0 < value < 1
        ]
        faults += [
            f"structured.{name}: expected at least 1, got {value}"
            for name, value in (("multiple", self.multiple), ("rounds", self.rounds))
            if value < 1
        ]
        if faults:
            raise ConfigError(faults)

    def __call__(self, model: Model, context: Context) -> tuple[Model, Evidence]:
        """Return the pruned network; what went, layer by layer, is its evidence.

        Raises:
            KDError: the target cannot be met above the floors, nothing can be followed, or the context lacks what the
                settings need.
        """
        self._check(model, context)
        pruned, parity, notes = model, 0.0, list[str]()
        for turn in range(1, self.rounds + 1):
            if turn > 1:
                assert context.fit is not None
                pruned = context.fit(copy.deepcopy(pruned)).eval()
            target = self.macs ** (turn / self.rounds) * _changeable(model) + _fixed(model)
            removed, whole = self._choose(pruned, target, context)
            smaller = copy_to_change(pruned).eval()
            removed_now = remove(smaller, removed)
            parity = max(parity, proof(zeroed(pruned, removed_now), smaller))
            if not parity <= TOLERANCE:
                raise KDError(f"structured: differs from zeroed channels by {parity:.1e} of the logits' scale")
            pruned, notes = smaller, whole
        return pruned, {
            "macs_ratio": _cost(pruned) / _cost(model),
            "channels": _widths(model, pruned),
            "parity_max": parity,
            "notes": [*notes, *_fixed_note(model)],
        }

    def _check(self, model: nn.Module, context: Context) -> None:
        if self.importance == "taylor" and context.losses is None:
            raise KDError("structured.importance: taylor needs the student's loss; give a context with losses")
        if self.rounds > 1 and context.fit is None:
            raise KDError(
                "structured.rounds: training between rounds needs a fit; give a context with one, or rounds 1"
            )
        known = list(getattr(model, "modalities", []))
        unknown = [name for name in self.floors if name not in known]
        if unknown:
            raise KDError(f"structured.floors: {unknown[0]}: the student does not see it; it sees {', '.join(known)}")

    def _choose(self, model: nn.Module, target: float, context: Context) -> tuple[dict[str, Tensor], list[str]]:
        """Return the channels to remove from a network, by layer, and a note on what has to stay whole."""
        scored = copy.deepcopy(model).eval()
        if self.importance == "taylor":
            _add_gradients(scored, context)
        with evaluating(model):
            found = units_of(scored, self.importance)
        sound = _sound(model, found)
        whole = [units.layer for units in found if units not in sound] + _not_followed(model, found)
        notes = [f"left whole, channels cannot be followed there: {', '.join(whole)}"] if whole else []
        return _fewest(model, sound, target, self), notes


def _not_followed(model: nn.Module, found: Sequence[Units]) -> list[str]:
    """Return the encoders of several layers of which none is in any group."""
    known = {units.branch for units in found}
    encoders: Mapping[str, nn.Module] = dict(model.encoders.items()) if hasattr(model, "encoders") else {}  # type: ignore[operator,union-attr]
    deep = [name for name, each in encoders.items() if sum(isinstance(m, PRUNED) for m in each.modules()) > 1]
    return [f"encoders.{name}" for name in deep if name not in known]


def _add_gradients(model: nn.Module, context: Context) -> None:
    assert context.losses is not None
    with torch.enable_grad():
        for loss in context.losses(model):
            loss.backward()
    model.eval()


def _sound(model: nn.Module, found: Sequence[Units]) -> list[Units]:
    """Return the groups whose removal can be proven, halving the set wherever it cannot."""
    if not found or _holds(model, found):
        return list(found)
    if len(found) == 1:
        return []
    middle = len(found) // 2
    return [*_sound(model, found[:middle]), *_sound(model, found[middle:])]


def _holds(model: nn.Module, found: Sequence[Units]) -> bool:
    """Say whether a network still answers, and trains, without the least important unit of every group."""
    narrow = copy.deepcopy(model).eval()
    chosen = {units.layer: units.channels[units.importance.argmin()] for units in found if len(units.channels) > 1}
    try:
        removed = remove(narrow, chosen)
        sound = proof(zeroed(model, removed), narrow) <= TOLERANCE
        with seeding.noise(0, "prune"):  # a loss of the network's own reads layers that no answer reaches
            narrow.train()(*blank_rows(narrow))
    except Exception:  # shapes that do not fit any more fail in whatever way they happen to
        return False
    return sound


def _fewest(model: nn.Module, found: Sequence[Units], target: float, settings: Structured) -> dict[str, Tensor]:
    """Bisect for the smallest share of channels whose removal meets the target."""

    def tried(share: float) -> tuple[dict[str, Tensor], int]:
        chosen = least_important(found, share, settings)
        narrow = copy.deepcopy(model).eval()
        remove(narrow, chosen)
        return chosen, _cost(narrow)

    low, high = 0.0, 1.0
    best, cost = tried(high)
    if cost > target:
        left = (cost - _fixed(model)) / _changeable(model)
        raise KDError(
            f"structured: cannot prune to {settings.macs:g} of the MACs with keep {settings.keep:g}: {left:.2f} of "
            "the MACs remain at the floor"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        chosen, cost = tried(middle)
        if cost > target:
            low = middle
        else:
            high, best = middle, chosen
    return best


def least_important(found: Sequence[Units], share: float, settings: Structured) -> dict[str, Tensor]:
    """Return layer -> the channels that go when a share of all units does; floors hold whatever the share.

    Args:
        found: groups.
        share: of the units of each scope that is ranked, in [0, 1].
        settings: `ranking`, `keep` and `floors`.
    """
    scopes: dict[str, list[Units]] = {}
    for units in found:
        named = {"layer": units.layer, "branch": units.branch, "global": ""}[settings.ranking]
        scopes.setdefault(named, []).append(units)
    chosen = {}
    for scope in scopes.values():
        scores = torch.cat([_with_floor(units, settings) for units in scope])
        order = scores.argsort(stable=True)[: int(share * len(scores))]
        gone = torch.zeros(len(scores), dtype=torch.bool).index_fill(0, order, True) & scores.isfinite()
        for units, lost in zip(scope, gone.split([len(units.importance) for units in scope]), strict=True):
            own = _whole_multiples(units, lost, settings.multiple)
            if own.any():
                chosen[units.layer] = units.channels[own].flatten().sort().values
    return chosen


def _whole_multiples(units: Units, lost: Tensor, multiple: int) -> Tensor:
    """Return bool [U]: fewer than what was to go, so that the channels left are a multiple of so many."""
    step = max(1, multiple // units.channels.shape[1])
    left = min(len(lost), -(-int((~lost).sum()) // step) * step)
    return lost & torch.zeros_like(lost).index_fill(0, units.importance.argsort(stable=True)[: len(lost) - left], True)


def _with_floor(units: Units, settings: Structured) -> Tensor:
    """Return importances [U], infinite for those that the floor keeps: the most important ones."""
    keep = max(1, math.ceil(settings.floors.get(units.branch, settings.keep) * len(units.importance)))
    return units.importance.index_fill(0, units.importance.topk(keep).indices, torch.inf)


def _widths(model: nn.Module, pruned: nn.Module) -> dict[str, list[int]]:
    """Return layer -> its output channels left and as they were, for those that lost some."""
    now = dict(pruned.named_modules())
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, PRUNED)]
    widths: dict[str, list[int]] = {path: [len(now[path].weight), len(layer.weight)] for path, layer in layers}
    return {path: [left, of] for path, (left, of) in widths.items() if left < of}


def _cost(model: nn.Module) -> int:
    return count_macs(model, *blank_rows(model))


def _changeable(model: nn.Module) -> int:
    return _cost(model) - _fixed(model)


def _fixed(model: nn.Module) -> int:
    """Return the multiply-accumulates before the encoders, which no channel changes."""
    if not hasattr(model, "absent"):
        return 0
    return count_macs(model.absent.fill, *blank_rows(model))  # type: ignore[arg-type,union-attr]


def _fixed_note(model: nn.Module) -> list[str]:
    fixed: Any = _fixed(model)
    whole = f"stand-in left whole: {fixed} multiply-accumulates before the encoders, not counted in macs"
    return [whole] if fixed else []
