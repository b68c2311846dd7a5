"""An absent vector by chained equations: scikit-learn's IterativeImputer on principal components."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kd.errors import ConfigError
from kd.models.absent.by_pattern import LEAST_ROWS, Maps, PatternStandIn, patterns
from kd.models.absent.vectors import Scored
from kd.models.encoders import check_positive
from kd.types import Modality

Matrix = NDArray[np.float64]


class Iterative(PatternStandIn):
    """An absent vector is filled in by chained equations over the principal components of all modalities.

    Each modality's standard scores become at most `components` principal components, fitted on the rows that have it.
    scikit-learn's IterativeImputer fills in the table of all components: from their means it regresses one component
    after the other on all others (ridge, alpha fixed), `rounds` times; what is absent from a new row passes through the
    same chain. Given the pattern every step is affine, so the fitted chain is compiled into one map per pattern.

    Ridge in place of scikit-learn's default BayesianRidge, which takes several times as long to fit. All rounds are
    made: the imputer's own stopping rule is off. Single filling-in by expectation, not multiple imputation. A modality
    that fewer than 10 training rows have is left out of the chain, and its mean stands in. Buffers and cost per row are
    those of `ridge`, whatever `rounds`; the fit is rounds * K regressions on K - 1 components (1,350 rows of mfeat's
    fou, zer and mor: about two seconds). Networks on the same rows share one fit.

    Source: van Buuren & Groothuis-Oudshoorn 2011, mice (doi 10.18637/jss.v045.i03), as scikit-learn has it.

    Args:
        modality: name -> what it is, vectors only, at most 6.
        width: not used.
        components: of each modality at most.
        rounds: of the chain, at least 1.
        n_nearest_features: components that each regression reads, drawn by their correlation; None reads all.
        alpha: ridge penalty, above 0.
    """

    def __init__(
        self,
        modality: Mapping[str, Modality],
        width: int,
        /,
        *,
        components: int = 32,
        rounds: int = 10,
        n_nearest_features: int | None = None,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(modality, width)
        check_positive(**{"absent.components": components, "absent.rounds": rounds})
        if n_nearest_features is not None:
            check_positive(**{"absent.n_nearest_features": n_nearest_features})
        if alpha <= 0:
            raise ConfigError(f"absent.alpha: expected a penalty above 0, got {alpha}")
        self.components, self.rounds = components, rounds
        self.n_nearest_features, self.alpha = n_nearest_features, alpha

    def arguments(self) -> object:
        return self.components, self.rounds, self.n_nearest_features, self.alpha

    def fitted_maps(self, scored: Scored) -> dict[str, Maps]:
        bases = principal_components(scored, self.components)
        chain = None
        if len(bases) > 1:
            table = components_table(scored, bases)
            chain = Chain(bases, chained_equations(table, self.rounds, self.n_nearest_features, self.alpha))
        return {name: self._maps_to(name, chain, scored) for name in scored.modalities}

    def _maps_to(self, name: str, chain: Chain | None, scored: Scored) -> Maps:
        others = self.others(name)
        maps = Maps.blank([self.features[other] for other in others], self.features[name])
        maps.bias[:] = scored.mean[name]
        if chain is None or name not in chain.bases:
            return maps
        for number, pattern in enumerate(patterns(len(others))):
            known = [other for other, there in zip(others, pattern, strict=True) if there and other in chain.bases]
            weight, bias = chain.map_to(name, known)
            maps.bias[number] += torch.as_tensor(bias) * scored.deviation[name]
            maps.fitted[number] = len(known) > 0
            if known:
                columns = torch.cat([torch.full((self.features[other],), other in known) for other in others])
                maps.weight[number - 1, columns] = (torch.as_tensor(weight) * scored.deviation[name]).float()
        return maps


@dataclass(frozen=True)
class Basis:
    """Principal components of one modality's scores.

    Attributes:
        mean: [F].
        axes: [K, F], orthonormal rows.
    """

    mean: Matrix
    axes: Matrix


class Chain:
    """A fitted chain over the components of several modalities, side by side in the order of `bases`.

    Args:
        bases: modality -> its components.
        imputer: scikit-learn's IterativeImputer, fitted to their table.
    """

    def __init__(self, bases: Mapping[str, Basis], imputer: Any) -> None:
        self.bases, self.imputer = bases, imputer
        ends = np.cumsum([len(basis.axes) for basis in bases.values()])
        self.place = {n: slice(end - len(b.axes), end) for (n, b), end in zip(bases.items(), ends, strict=True)}
        self._compiled: dict[tuple[str, ...], Matrix] = {}

    def map_to(self, name: str, known: Sequence[str]) -> tuple[Matrix, Matrix]:
        """Return weight [F_known, F] and bias [F]: scores of those known, side by side, to scores of one absent."""
        if tuple(known) not in self._compiled:
            self._compiled[tuple(known)] = self._compile(known)
        state, target = self._compiled[tuple(known)][self.place[name]], self.bases[name]
        constant = state[:, -1] @ target.axes + target.mean
        if not known:
            return np.zeros((0, len(constant))), constant
        weight = np.vstack([self.bases[k].axes.T @ state[:, self.place[k]].T @ target.axes for k in known])
        return weight, constant - np.concatenate([self.bases[k].mean for k in known]) @ weight

    def _compile(self, known: Sequence[str]) -> Matrix:
        """Return every component after the last round as an affine function [K, K + 1] of those known."""
        start = self.imputer.initial_imputer_.statistics_
        given = np.zeros(len(start), dtype=bool)
        for name in known:
            given[self.place[name]] = True
        state = np.diag(given.astype(float))
        state = np.hstack([state, np.where(given, 0.0, start)[:, None]])
        for step in self.imputer.imputation_sequence_:
            if not given[step.feat_idx]:
                state[step.feat_idx] = step.estimator.coef_ @ state[step.neighbor_feat_idx]
                state[step.feat_idx, -1] += step.estimator.intercept_
        return state


def principal_components(scored: Scored, most: int) -> dict[str, Basis]:
    """Return modality -> its components on the rows that have it; without those that too few rows have."""
    from sklearn.decomposition import PCA

    bases = {}
    for column, (name, scores) in enumerate(scored.scores.items()):
        rows = scores[scored.present[:, column]].double().numpy()
        if len(rows) >= LEAST_ROWS:
            fitted = PCA(min(most, *rows.shape), svd_solver="full").fit(rows)
            bases[name] = Basis(fitted.mean_, fitted.components_)
    return bases


def components_table(scored: Scored, bases: Mapping[str, Basis]) -> Matrix:
    """Return the components of all modalities side by side [N, K], NaN where a row lacks the modality."""
    parts = []
    for name, basis in bases.items():
        part = (scored.scores[name].double().numpy() - basis.mean) @ basis.axes.T
        lacking = ~scored.present[:, scored.modalities.index(name)].numpy()
        parts.append(np.where(lacking[:, None], np.nan, part))
    table = np.hstack(parts)
    return table[~np.isnan(table).all(axis=1)]


def chained_equations(table: Matrix, rounds: int, nearest: int | None, alpha: float) -> Any:
    """Return scikit-learn's IterativeImputer, fitted to a table with gaps; every round is made."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer
    from sklearn.linear_model import Ridge

    imputer = IterativeImputer(Ridge(alpha=alpha), max_iter=rounds, tol=0.0, n_nearest_features=nearest, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return imputer.fit(table)
