"""What the contracts of absence share: pairs of a stand-in and a fusion, networks of them, rows of every subset."""

from __future__ import annotations

import copy
import itertools
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from kd.models import FUSIONS, STAND_INS, Classifier
from kd.seeding import initialise, noise
from kd.types import Modality, Output, conceal

from .conftest import values

VECTORS = {"a": Modality((5,)), "b": Modality((4,)), "c": Modality((3, 2))}
CLASSES, WIDTH = 4, 8
ENCODERS = {
    "vector": {"name": "mlp", "hidden": [16]},
    "image": {"name": "cnn", "channels": [8, 16]},
    "text": {"name": "bag", "embedding": 8},
}
CROSSED = [
    ("token", "attention"),
    ("mean", "transformer"),
    ("flags", "hemis"),
    ("zero", "prompts"),
    ("knn", "poe_vae"),
    ("iterative", "embracenet"),
    ("ridge", "gated"),
    ("reconstruct", "shaspec"),
]


class Pair(NamedTuple):
    """A stand-in and a fusion, by their names."""

    absent: str
    fusion: str

    def __str__(self) -> str:
        return f"{self.absent}-{self.fusion}"


ALONE = [Pair(name, "concat") for name in STAND_INS] + [Pair("nothing", name) for name in FUSIONS if name != "concat"]
TOGETHER = [Pair(*names) for names in CROSSED if names[0] in STAND_INS]
PAIRS = ALONE + TOGETHER
CROSSED_PARTS = {name for pair in [Pair("nothing", "concat"), *TOGETHER] for name in pair}
EXPORTED = [Pair("zero", "prompts"), Pair("knn", "poe_vae")]
"""An export takes seconds: by default these, and every stand-in that no crossed pair has; fusions go through all passes
in tests/compress/test_covering.py."""
PATTERNS = torch.tensor(list(itertools.product([True, False], repeat=3)))  # every subset, the empty one last


def inputs_of(modality: dict[str, Modality], rows: int, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(rows, *each.shape, generator=generator)
        if each.kind == "vector"
        else values(each.kind, rows, seed)
        for name, each in modality.items()
    }


def hide(inputs: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
    """Return inputs with NaN, or what else no network can read unnoticed, in all that is absent."""
    return {name: conceal(x, ~present[:, column]) for column, (name, x) in enumerate(inputs.items())}


def blank(pair: Pair, modality: dict[str, Modality]) -> Classifier:
    encoders = {name: ENCODERS[each.kind] for name, each in modality.items()}
    absent, fusion = {"name": pair.absent}, {"name": pair.fusion}
    return Classifier(modality, CLASSES, width=WIDTH, encoders=encoders, absent=absent, fusion=fusion)


@cache
def _fitted(pair: Pair, seed: int, modality: tuple[tuple[str, Modality], ...]) -> Classifier:
    model = blank(pair, dict(modality))
    initialise(model, seed)
    drawn = inputs_of(dict(modality), 40, seed=seed + 7)
    present = torch.rand(40, len(modality), generator=torch.Generator().manual_seed(seed)) < 0.67
    model.fit_scalers(hide(drawn, present), present)
    return model.eval()


def network(pair: Pair, seed: int = 0, modality: dict[str, Modality] = VECTORS) -> Classifier:
    """Return a network in eval mode, fitted on 40 rows of which a third is missing."""
    return copy.deepcopy(_fitted(pair, seed, tuple(modality.items())))


def stackable(pair: Pair) -> bool:
    parts = (STAND_INS[pair.absent], FUSIONS[pair.fusion])
    return all(part.load().replicable for part in parts)  # type: ignore[attr-defined]


def loss(answer: Output) -> Tensor:
    each = answer.logits.square().sum(dim=1)
    return each if answer.auxiliary is None else each + answer.auxiliary


def trained(model: Classifier, inputs: dict[str, Tensor], present: Tensor) -> tuple[Output, dict[str, Tensor]]:
    """Return the answer in training mode, its noise drawn anew from one seed, and the loss's gradients."""
    model.train().zero_grad()
    with noise(0, "training"):
        answer = model(inputs, present)
    loss(answer).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return answer, gradients


def spread(seen: Tensor, x: Tensor) -> Tensor:
    """Return bool [B] as wide as x [B, ...]."""
    return seen.view(-1, *[1] * (x.dim() - 1))


def same(one: tuple[Output, dict[str, Tensor]], other: tuple[Output, dict[str, Tensor]]) -> bool:
    """Say whether answers, own losses and gradients agree bit for bit."""
    answers = [(getattr(one[0], field), getattr(other[0], field)) for field in ("logits", "auxiliary")]
    pairs = [pair for pair in answers if pair != (None, None)]
    return one[1].keys() == other[1].keys() and all(
        torch.equal(a, b) for a, b in (*pairs, *((one[1][name], other[1][name]) for name in one[1]))
    )
