"""The law of the synthetic data: what is true of it in closed form, or to any precision by Monte Carlo.

Model: y is uniform over C classes; u | y ~ N(mu_y, I) has `shared` coordinates; v_m | y ~ N(nu_{m,y}, I) are private to
modality m. Modality m shows x_m = Q_m [u; v_m] with a fixed rotation Q_m, so u and its noise are the same in all
modalities: given y, a subset S is Gaussian with a singular covariance, and equivalent to observing u once and each v_m:

    P(y | x_S)  proportional to  exp(-|u - mu_y|^2 / 2 - sum_{m in S} |v_m - nu_{m,y}|^2 / 2)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.errors import DataError
from kd.registry import suggest
from kd.seeding import generator


@dataclass(frozen=True)
class Ceiling:
    """The accuracy of the Bayes rule, by Monte Carlo.

    Attributes:
        accuracy: mean over draws of max_y P(y | x_S).
        standard_error: its Monte Carlo error.
        draws: how many fresh samples it was averaged over.
    """

    accuracy: float
    standard_error: float
    draws: int


@dataclass(frozen=True)
class Estimate:
    """The mutual information I(Y; X_S) of the label and a subset of modalities, by Monte Carlo.

    Attributes:
        nats: mean over draws of log P(y | x_S) - log P(y), between 0 and log C but for its error.
        standard_error: its Monte Carlo error, in nats.
        draws: how many fresh samples it was averaged over.
    """

    nats: float
    standard_error: float
    draws: int


@dataclass(frozen=True, eq=False)
class World:
    """The parameters of the model; the `ceiling` of a synthetic source.

    Attributes:
        shared: mu, float64 [C, s].
        private: modality -> nu, float64 [C, w - s].
        rotation: modality -> Q, float64 [w, w], orthogonal.
        seed: of the Monte Carlo draws.
    """

    shared: Tensor
    private: dict[str, Tensor]
    rotation: dict[str, Tensor]
    seed: int

    def __call__(self, subset: Sequence[str], draws: int = 100_000) -> Ceiling:
        """Return the Bayes accuracy of a subset over fresh draws, the same draws for every subset."""
        best = self._draws(subset, draws, generator(self.seed, "synthetic", "ceiling"))[1].exp().amax(dim=1)
        return Ceiling(float(best.mean()), float(best.std()) / math.sqrt(draws), draws)

    def information(self, subset: Sequence[str], draws: int = 100_000) -> Estimate:
        """Return I(Y; X_S) over fresh draws, a stream of their own for every subset.

        So estimates of two subsets are independent, and what holds between them is no artefact of common draws.
        """
        random = generator(self.seed, "synthetic", "information", *sorted(subset))
        label, log_posterior = self._draws(subset, draws, random)
        gain = log_posterior.gather(1, label[:, None])[:, 0] + math.log(len(self.shared))
        return Estimate(float(gain.mean()), float(gain.std()) / math.sqrt(draws), draws)

    def two_class_information(self, subset: Sequence[str]) -> float:
        """Return I(Y; X_S) in nats to ten digits: with two classes it depends on their distance alone.

        d_S^2 = |mu_0 - mu_1|^2 + sum_{m in S} |nu_{m,0} - nu_{m,1}|^2, the shared block counted once; at gamma = 0 it
        is the sum of the modalities' own squared distances.

        Raises:
            DataError: there are more classes than two, or the subset is empty or unknown.
        """
        self._check(subset)
        if len(self.shared) != 2:
            raise DataError(f"synthetic: a closed form needs 2 classes, got {len(self.shared)}; use information()")
        blocks = [self.shared, *(self.private[name] for name in subset)]
        return gaussian_information(math.sqrt(sum(float((b[0] - b[1]).square().sum()) for b in blocks)))

    def posterior(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return P(y | x_S), float64 [B, C].

        Args:
            inputs: modality -> [B, w] for the modalities of S; the shared block is read from the first of them.
        """
        self._check(list(inputs))
        return self.log_joint(*self.latent(inputs)).softmax(dim=1)

    def latent(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return u [B, s], read from the first modality given, and modality -> v_m [B, w - s]."""
        width = self.shared.shape[1]
        turned = {name: x.double() @ self.rotation[name] for name, x in inputs.items()}
        first = next(iter(turned.values()))
        return first[:, :width], {name: z[:, width:] for name, z in turned.items()}

    def log_joint(self, shared: Tensor, private: Mapping[str, Tensor]) -> Tensor:
        """Return log P(y, u, v_S) up to a constant of the row, float64 [B, C]."""
        scores = _score(shared, self.shared)
        for name, view in private.items():
            scores = scores + _score(view, self.private[name])
        return scores

    def sample(self, label: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Draw modality -> float32 [B, w] for the given classes, int64 [B]."""
        shared = self._draw(self.shared, label, random)
        blocks = {name: torch.cat([shared, self._draw(nu, label, random)], 1) for name, nu in self.private.items()}
        return {name: (block @ self.rotation[name].T).float() for name, block in blocks.items()}

    def _draws(self, subset: Sequence[str], draws: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return labels, int64 [draws], and log P(y | x_S) of fresh rows of theirs, float64 [draws, C]."""
        self._check(subset)
        label = torch.randint(len(self.shared), (draws,), generator=random)
        shared = self._draw(self.shared, label, random)
        private = {name: self._draw(means, label, random) for name, means in self.private.items()}
        joint = self.log_joint(shared, {name: private[name] for name in subset})
        return label, joint.log_softmax(dim=1)

    def _check(self, subset: Sequence[str]) -> None:
        for name in subset:
            if name not in self.private:
                raise DataError(f"synthetic: unknown modality {name!r}; {suggest(str(name), self.private)}")
        if not subset or len(set(subset)) != len(subset):
            raise DataError(
                f"synthetic: expected distinct modalities, at least one, got {list(subset)}; name each once"
            )

    @staticmethod
    def _draw(means: Tensor, label: Tensor, random: torch.Generator) -> Tensor:
        return means[label] + torch.randn(len(label), means.shape[1], generator=random, dtype=torch.float64)


def _score(x: Tensor, means: Tensor) -> Tensor:
    """Return log N(x; mean_y, I) up to a constant of x, [B, C]; 0 where the block has no coordinates."""
    return x @ means.T - 0.5 * means.square().sum(dim=1)


def gaussian_information(distance: float) -> float:
    """Return I(Y; X) in nats for two equally likely classes N(a, I) and N(b, I) that are `distance` apart.

    The log odds of the true class are N(d^2 / 2, d^2), so I = log 2 - E log(1 + exp(-(d^2 / 2 + d z))), z ~ N(0, 1);
    this is the capacity of the binary-input Gaussian channel.

    >>> gaussian_information(0.0), round(gaussian_information(100.0), 6)
    (0.0, 0.693147)
    """
    import numpy as np
    from scipy import integrate, stats

    if distance == 0:
        return 0.0

    def loss(z: float) -> float:
        return float(stats.norm.pdf(z) * np.logaddexp(0.0, -distance * (distance / 2 + z)))

    # Beyond 12 standard deviations nothing is left to the last digit; the integrand bends at -d/2.
    bend = [-distance / 2] if distance < 24 else None
    return math.log(2) - float(integrate.quad(loss, -12, 12, points=bend, epsabs=1e-12, limit=200)[0])
