"""An affine map for every pattern of modalities present, in one product; and fits that two networks can share."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.absent.vectors import Scored, VectorStandIn
from kd.types import Modality

MOST_MODALITIES = 6
"""Beyond, the maps of all patterns take more memory than the network."""
LEAST_ROWS = 10
"""Training rows below which nothing is fitted: the mean stands in."""
REMEMBERED = 2**28
"""Bytes of fits that are kept for networks to come."""


def patterns(modalities: int) -> Tensor:
    """Return every pattern of modalities present, bool [2^M, M]; column j is bit j of the row's number.

    >>> patterns(2).int().tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    return (torch.arange(2**modalities).unsqueeze(-1) >> torch.arange(modalities) & 1).bool()


@dataclass(frozen=True)
class Maps:
    """Affine maps from the other modalities' scores to one modality's values, one per pattern of the others.

    Attributes:
        weight: [2^O - 1, F_others, F], of every pattern but the empty one; 0 in the rows of what is absent.
        bias: [2^O, F].
        fitted: bool [2^O]; False where too few rows had what it takes, so that the mean stands in.
    """

    weight: Tensor
    bias: Tensor
    fitted: Tensor

    @classmethod
    def blank(cls, others: Sequence[int], size: int) -> Maps:
        """Return maps that give zeros: what is still to be fitted.

        Args:
            others: features of each of the O other modalities.
            size: F.
        """
        count = 2 ** len(others)
        weight, bias = torch.zeros(count - 1, sum(others), size), torch.zeros(count, size)
        return cls(weight, bias, torch.zeros(count, dtype=torch.bool))


class ByPattern(nn.Module):
    """`y = x W_p + b_p`, p the pattern of modalities present.

    Args:
        others: features of each of the O modalities that x is made of.
        size: F of y.
    """

    weight: Tensor
    bias: Tensor
    fitted: Tensor

    def __init__(self, others: Sequence[int], size: int) -> None:
        super().__init__()
        blank = Maps.blank(others, size)
        for name in ("weight", "bias", "fitted"):
            self.register_buffer(name, getattr(blank, name))

    @torch.no_grad()
    def load(self, maps: Maps) -> None:
        """Take what was fitted."""
        for name in ("weight", "bias", "fitted"):
            getattr(self, name).copy_(getattr(maps, name))

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map x [B, F_others], zeros where absent, under present bool [B, O] to [B, F]."""
        bit = 2 ** torch.arange(present.shape[1], device=present.device)
        number = (present * bit).sum(dim=1, keepdim=True)
        one_hot = (number == torch.arange(len(self.bias), device=present.device)).to(x.dtype)  # [B, 2^O]
        constant = one_hot @ self.bias
        if len(self.weight) == 0:
            return constant
        # Where a pattern is not the row's, its part of the row is 0: one product serves all patterns.
        apart = (one_hot[:, 1:].unsqueeze(-1) * x.unsqueeze(1)).flatten(1)  # [B, (2^O - 1) * F_others]
        return apart @ self.weight.flatten(0, 1) + constant


class PatternStandIn(VectorStandIn):
    """Base of those whose prediction is affine given the pattern; a subclass gives `fitted_maps`.

    Args:
        modality: name -> what it is, vectors only.
        width: not used.

    Attributes:
        maps: modality -> `ByPattern`, from the other modalities.

    Raises:
        ConfigError: a modality is no vector, or there are too many.
    """

    def __init__(self, modality: Mapping[str, Modality], width: int, /) -> None:
        super().__init__(modality, width)
        if len(modality) > MOST_MODALITIES:
            raise ConfigError(
                f"absent: {type(self).__name__.lower()} holds a map per pattern, for at most {MOST_MODALITIES} "
                f"modalities, got {len(modality)}; choose another stand-in, such as mean"
            )
        self.maps = nn.ModuleDict(
            {
                name: ByPattern([self.features[o] for o in self.others(name)], size)
                for name, size in self.features.items()
            }
        )

    def others(self, name: str) -> list[str]:
        """Return the modalities besides one, in order."""
        return [other for other in self.features if other != name]

    @property
    def unfitted(self) -> list[str]:
        """What the mean stands in for, as `target from source+source`, since too few training rows had them all."""
        found = []
        for name, maps in self.maps.items():
            for pattern, fitted in zip(patterns(len(self.features) - 1)[1:], maps.fitted[1:], strict=True):  # type: ignore[index]
                sources = [other for other, used in zip(self.others(name), pattern, strict=True) if used]
                found += [] if fitted else [f"{name} from {'+'.join(sources)}"]
        return found

    def fitted_maps(self, scored: Scored) -> dict[str, Maps]:
        """Return modality -> maps, fitted on training rows, from the scores of the others to values."""
        raise NotImplementedError

    def arguments(self) -> object:
        """Return what decides the fit besides the rows."""
        raise NotImplementedError

    def fit_scores(self, scored: Scored) -> None:
        for name, maps in once(self.fitted_maps, scored, (type(self).__name__, self.arguments())).items():
            self.maps[name].load(maps)  # type: ignore[operator]

    def predict(self, scores: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        column = {name: place for place, name in enumerate(self.features)}
        predicted = {}
        for name, maps in self.maps.items():
            others = self.others(name)
            # Of a network with one modality there are no others; what is concatenated then is empty.
            given = torch.cat([scores[other] for other in others] or [scores[name][:, :0]], dim=1)
            seen = torch.stack([present[:, column[other]] for other in others], dim=1) if others else present[:, :0]
            predicted[name] = maps(given, seen)
        return predicted


_FITS: OrderedDict[str, dict[str, Maps]] = OrderedDict()


def once(fit: Callable[[Scored], dict[str, Maps]], scored: Scored, arguments: object) -> dict[str, Maps]:
    """Return what was fitted to the same rows with the same arguments before, or fit now.

    Networks of several nodes on one mask share a fit so; the oldest are forgotten beyond `REMEMBERED` bytes.
    """
    key = _address(scored, arguments)
    if key not in _FITS:
        _FITS[key] = fit(scored)
    _FITS.move_to_end(key)
    while len(_FITS) > 1 and sum(_size(maps) for maps in _FITS.values()) > REMEMBERED:
        _FITS.popitem(last=False)
    return _FITS[key]


def _address(scored: Scored, arguments: object) -> str:
    found = hashlib.sha256(repr((arguments, scored.modalities)).encode())
    for part in (scored.scores, scored.mean, scored.deviation):
        for value in part.values():
            found.update(repr((value.shape, value.dtype)).encode())
            found.update(value.contiguous().numpy().tobytes())
    found.update(scored.present.contiguous().numpy().tobytes())
    return found.hexdigest()


def _size(maps: Mapping[str, Maps]) -> int:
    return sum(each.weight.nbytes + each.bias.nbytes for each in maps.values())
