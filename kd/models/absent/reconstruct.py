"""An absent modality's representation predicted from those of the modalities present."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.absent.base import Represented, StandIn, place
from kd.models.encoders import check_positive
from kd.models.fusion.base import pool_zeroed
from kd.types import Modality


class Reconstruct(StandIn):
    """An absent representation is the mean of what a decoder per modality present predicts: `h_a = mean_m f_ma(h_m)`.

    The decoders learn where source and target are both there: `weight * mean_(m, a) |f_ma(h_m) - stop(h_a)|^2 / D` is
    added to the row's loss. No gradient passes into the target, or encoders would agree on a constant; it does pass
    into the source. What was predicted for an absent modality is no target. With several tokens per modality, h is
    their mean, and the prediction is one token. A row without any modality stays without.

    Of the family of Zhao et al. 2021, MMIN (doi 10.18653/v1/2021.acl-long.203), reduced to its imagined representation:
    MMIN predicts by a cascade of residual autoencoders from all modalities at once, adds the way back (cycle
    consistency) and starts from a network trained on complete rows. Ours has none of these.

    M (M - 1) decoders of D^2 + D parameters, or of D (2 hidden + 1) + hidden.

    Args:
        modality: name -> what it is.
        width: D.
        hidden: width of a ReLU layer inside each decoder; None makes a decoder one linear map.
        weight: of the reconstruction, at least 0.
    """

    def __init__(
        self, modality: Mapping[str, Modality], width: int, /, *, hidden: int | None = None, weight: float = 1.0
    ) -> None:
        super().__init__(modality, width)
        if hidden is not None:
            check_positive(**{"absent.hidden": hidden})
        if weight < 0:
            raise ConfigError(f"absent.weight: expected at least 0, got {weight}")
        self.weight, self.names = weight, list(modality)
        self.decoders = nn.ModuleDict(
            {
                target: nn.ModuleDict({name: _decoder(width, hidden) for name in modality if name != target})
                for target in modality
            }
        )

    def represent(self, tokens: dict[str, Tensor], keep: dict[str, Tensor], present: Tensor) -> Represented:
        pooled = {name: pool_zeroed(tokens[name], keep[name]) for name in self.names}
        seen = dict(zip(self.names, present.unbind(dim=1), strict=True))
        predicted = {target: dict(self._predictions(target, pooled)) for target in self.names}
        some = present.any(dim=1)
        placed = {
            # A row with nothing to predict from is left as a row that needs nothing placed.
            name: place(tokens[name], keep[name], seen[name] | ~some, _mean_of(predicted[name], seen, tokens[name]))
            for name in self.names
        }
        loss = self.weight * _error(predicted, pooled, seen) if self.training else None
        tokens, keep = ({name: both[part] for name, both in placed.items()} for part in (0, 1))
        return Represented(tokens, keep, present | some.unsqueeze(-1), loss)

    def _predictions(self, target: str, pooled: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for source, decoder in self.decoders[target].items():  # type: ignore[operator]
            yield source, decoder(pooled[source])


def _decoder(width: int, hidden: int | None) -> nn.Module:
    if hidden is None:
        return nn.Linear(width, width)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


def _mean_of(predicted: Mapping[str, Tensor], seen: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
    """Return the mean of the predictions [B, D] whose sources are there, zeros where none is."""
    total, count = torch.zeros_like(tokens[:, 0]), torch.zeros_like(tokens[:, 0, :1])
    for source, values in predicted.items():
        there = seen[source].unsqueeze(-1)
        total, count = total + torch.where(there, values, 0.0), count + there
    return total / count.clamp(min=1)


def _error(
    predicted: Mapping[str, Mapping[str, Tensor]], pooled: Mapping[str, Tensor], seen: Mapping[str, Tensor]
) -> Tensor:
    """Return the squared distance per dimension [B], the mean over the pairs of which a row has both."""
    total = next(iter(pooled.values())).new_zeros(len(next(iter(seen.values()))))
    count = torch.zeros_like(total)
    for target, sources in predicted.items():
        for source, values in sources.items():
            both = seen[source] & seen[target]
            distance = (values - pooled[target].detach()).square().mean(dim=-1)
            total, count = total + torch.where(both, distance, 0.0), count + both
    return total / count.clamp(min=1)
