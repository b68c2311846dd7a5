"""An absent vector as a ridge regression on the vectors present, one for every pattern of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kd.errors import ConfigError
from kd.models.absent.by_pattern import LEAST_ROWS, Maps, PatternStandIn, patterns
from kd.models.absent.vectors import Scored
from kd.types import Modality


class Ridge(PatternStandIn):
    """An absent vector is predicted from those present: `x_a = W_pa z_p + b_pa`, for each pattern p of the others.

    W_pa minimises `|x_a - W z_p - b|^2 + alpha |W|^2` in standard scores over the training rows that have a and all of
    p, whatever else they lack; alpha is the one of `alphas` with the least leave-one-out error on these rows
    (scikit-learn's RidgeCV). Where fewer than 10 rows have them all, the mean stands in, and `unfitted` names the pair.
    A row without any modality gets the means.

    Values are the regression's expectation: less spread than real ones have. At most 6 modalities; M (2^(M-1) - 1) maps
    in buffers, and for a row as many products as the others have patterns. Networks on the same rows share one fit.

    Source: Hoerl & Kennard 1970, Technometrics 12(1); regression imputation, Little & Rubin, chapter 4.

    Args:
        modality: name -> what it is, vectors only.
        width: not used.
        alphas: penalties to choose from, each above 0.
    """

    def __init__(
        self,
        modality: Mapping[str, Modality],
        width: int,
        /,
        *,
        alphas: Sequence[float] = (0.1, 1.0, 10.0, 100.0, 1000.0),
    ) -> None:
        super().__init__(modality, width)
        if min(alphas, default=0) <= 0:
            raise ConfigError(f"absent.alphas: expected penalties above 0, at least one, got {list(alphas)}")
        self.alphas = tuple(alphas)

    def arguments(self) -> object:
        return self.alphas

    def fitted_maps(self, scored: Scored) -> dict[str, Maps]:
        return {name: self._maps_to(name, scored) for name in scored.modalities}

    def _maps_to(self, name: str, scored: Scored) -> Maps:
        others = self.others(name)
        maps = Maps.blank([self.features[other] for other in others], self.features[name])
        maps.bias[:] = scored.mean[name]
        has = dict(zip(scored.modalities, scored.present.unbind(dim=1), strict=True))
        for number, pattern in enumerate(patterns(len(others))[1:]):
            used = [other for other, there in zip(others, pattern, strict=True) if there]
            rows = torch.stack([has[name], *(has[other] for other in used)]).all(dim=0)
            if rows.sum() < LEAST_ROWS:
                continue
            given = torch.cat([scored.scores[other][rows] for other in used], dim=1)
            weight, bias = ridge(given, scored.scores[name][rows], self.alphas)
            columns = pattern.repeat_interleave(torch.tensor([self.features[other] for other in others]))
            maps.weight[number, columns] = (weight * scored.deviation[name]).to(maps.weight.dtype)
            maps.bias[number + 1] += bias * scored.deviation[name]
            maps.fitted[number + 1] = True
        return maps


def ridge(x: Tensor, y: Tensor, alphas: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Return weight [F, G] and bias [G] of scikit-learn's RidgeCV of y [N, G] on x [N, F], float64."""
    from sklearn.linear_model import RidgeCV

    fitted = RidgeCV(alphas=alphas).fit(x.double().numpy(), y.double().numpy())
    weight = torch.as_tensor(fitted.coef_).reshape(y.shape[1], x.shape[1])
    return weight.T, torch.as_tensor(fitted.intercept_).reshape(y.shape[1])
