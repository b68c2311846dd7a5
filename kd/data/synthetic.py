"""Class-conditional Gaussians whose modalities share a stated part of their features, with a known Bayes rule.

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

from kd.data.source import Source
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
        self._check(subset)
        random = generator(self.seed, "synthetic", "ceiling")
        label = torch.randint(len(self.shared), (draws,), generator=random)
        views = {"": self._draw(self.shared, label, random)}
        views |= {name: self._draw(means, label, random) for name, means in self.private.items()}
        best = self._posterior(views[""], {name: views[name] for name in subset}).amax(dim=1)
        return Ceiling(float(best.mean()), float(best.std()) / math.sqrt(draws), draws)

    def posterior(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return P(y | x_S), float64 [B, C].

        Args:
            inputs: modality -> [B, w] for the modalities of S; the shared block is read from the first of them.
        """
        self._check(list(inputs))
        width = self.shared.shape[1]
        latent = {name: x.double() @ self.rotation[name] for name, x in inputs.items()}
        first = next(iter(latent.values()))
        return self._posterior(first[:, :width], {name: z[:, width:] for name, z in latent.items()})

    def sample(self, label: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Draw modality -> float32 [B, w] for the given classes, int64 [B]."""
        shared = self._draw(self.shared, label, random)
        blocks = {name: torch.cat([shared, self._draw(nu, label, random)], 1) for name, nu in self.private.items()}
        return {name: (block @ self.rotation[name].T).float() for name, block in blocks.items()}

    def _posterior(self, shared: Tensor, private: Mapping[str, Tensor]) -> Tensor:
        scores = _score(shared, self.shared)
        for name, view in private.items():
            scores = scores + _score(view, self.private[name])
        return scores.softmax(dim=1)

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


def synthetic(
    *,
    modalities: int = 3,
    rows: int = 2000,
    classes: int = 4,
    width: int = 8,
    gamma: float = 0.5,
    separation: float = 2.0,
    seed: int = 0,
) -> Source:
    """Draw a source whose best possible accuracy is known for every subset of modalities.

    At gamma = 1 all modalities show the same features, so every subset is worth the same; at gamma = 0 they are
    independent given the class. One modality alone separates the classes equally well at every gamma.

    Args:
        modalities: M, named m0, m1, ...
        rows: N, classes in equal numbers.
        width: w, features per modality.
        gamma: share of a modality's features that all have in common, in 0..1, a multiple of 1/width.
        separation: root mean square distance between class means within a modality, in units of the noise.

    Raises:
        DataError: a value out of its range.

    >>> source = synthetic(gamma=1.0)
    >>> source.ceiling(["m0"]).accuracy == source.ceiling(["m0", "m2"]).accuracy
    True
    """
    _check_ranges(modalities=modalities, classes=classes, rows=rows, width=width, gamma=gamma, separation=separation)
    shared = round(gamma * width)
    names = [f"m{i}" for i in range(modalities)]
    world = World(
        shared=_means(classes, shared, width, separation, generator(seed, "synthetic", "shared")),
        private={
            name: _means(classes, width - shared, width, separation, generator(seed, "synthetic", "private", name))
            for name in names
        },
        rotation={name: _rotation(width, generator(seed, "synthetic", "rotation", name)) for name in names},
        seed=seed,
    )
    random = generator(seed, "synthetic", "rows")
    label = (torch.arange(rows) % classes)[torch.randperm(rows, generator=random)]
    return Source(
        name="synthetic",
        inputs=world.sample(label, random),
        label=label,
        classes=classes,
        card={
            "licence": "generated",
            "origin": "kd.data.synthetic",
            "traps": "a method's accuracy on few test rows may pass the ceiling by chance: compare with its error",
            "gamma": gamma,
            "separation": separation,
            "seed": seed,
        },
        ceiling=world,
    )


def bayes_accuracy(source: Source, subset: Sequence[str], *, draws: int = 100_000) -> Ceiling:
    """Return the accuracy no method can pass in expectation when it sees only `subset`, with its standard error.

    Raises:
        DataError: the source is not a synthetic one, or the subset is empty or unknown.
    """
    return _world(source)(subset, draws)


def bayes_posterior(source: Source, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return P(y | x_S), float64 [B, C], for rows given as modality -> [B, w].

    Raises:
        DataError: the source is not a synthetic one, or a modality is unknown.
    """
    return _world(source).posterior(inputs)


def _world(source: Source) -> World:
    if not isinstance(source.ceiling, World):
        raise DataError(f"{source.name}: its Bayes rule is unknown; only a synthetic source has one")
    return source.ceiling


def _score(x: Tensor, means: Tensor) -> Tensor:
    """Return log N(x; mean_y, I) up to a constant of x, [B, C]; 0 where the block has no coordinates."""
    return x @ means.T - 0.5 * means.square().sum(dim=1)


def _means(classes: int, block: int, width: int, separation: float, random: torch.Generator) -> Tensor:
    """Return [C, block] with mean squared pairwise distance separation^2 * block / width."""
    means = torch.randn(classes, block, generator=random, dtype=torch.float64)
    if block == 0:
        return means
    distance = torch.pdist(means).square().mean().sqrt()
    return means * separation * math.sqrt(block / width) / distance


def _rotation(width: int, random: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(width, width, generator=random, dtype=torch.float64)).Q


def _check_ranges(*, modalities: int, classes: int, rows: int, width: int, gamma: float, separation: float) -> None:
    for name, value, least in (("modalities", modalities, 1), ("classes", classes, 2), ("width", width, 1)):
        if value < least:
            raise DataError(f"synthetic: {name}: expected at least {least}, got {value}; raise it")
    if rows < classes:
        raise DataError(f"synthetic: rows: expected at least one per class ({classes}), got {rows}; raise it")
    if separation < 0:
        raise DataError(f"synthetic: separation: expected 0 or more, got {separation}; use a positive distance")
    if not 0 <= gamma <= 1 or abs(gamma * width - round(gamma * width)) > 1e-9:
        nearest = min(max(round(gamma * width) / width, 0.0), 1.0)
        raise DataError(
            f"synthetic: gamma: expected a multiple of 1/width = 1/{width} in 0..1, got {gamma}; "
            f"the nearest is {nearest:g}, or choose another width"
        )
