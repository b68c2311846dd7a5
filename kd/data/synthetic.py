"""Class-conditional Gaussians whose modalities share a stated part of their features: rows drawn from a `World`.

The model, and what is known of it, stand in `kd.data.world`; with masks drawn over it, in `kd.data.bayes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kd.data.source import Source
from kd.data.world import Ceiling, Estimate, World
from kd.errors import DataError
from kd.seeding import generator


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
    return world_of(source)(subset, draws)


def information(source: Source, subset: Sequence[str], *, draws: int = 100_000) -> Estimate:
    """Return I(Y; X_S), in nats, with its standard error: H(Y) minus the Bayes rule's expected NLL.

    Raises:
        DataError: the source is not a synthetic one, or the subset is empty or unknown.

    >>> source = synthetic(gamma=0.0)
    >>> information(source, ["m0"]).nats < information(source, ["m0", "m1"]).nats < math.log(4)
    True
    """
    return world_of(source).information(subset, draws)


def bayes_posterior(source: Source, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return P(y | x_S), float64 [B, C], for rows given as modality -> [B, w].

    Raises:
        DataError: the source is not a synthetic one, or a modality is unknown.
    """
    return world_of(source).posterior(inputs)


def world_of(source: Source) -> World:
    """Return the law a source was drawn from.

    Raises:
        DataError: it is not a synthetic one.
    """
    if not isinstance(source.ceiling, World):
        raise DataError(f"{source.name}: its Bayes rule is unknown; only a synthetic source has one")
    return source.ceiling


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
