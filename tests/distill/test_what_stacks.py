"""Which of the shipped parts stack and which train alone: whoever adds one decides it here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import kd
from kd.distill import AUGMENTATIONS, OPTIMIZERS, SCHEDULES
from kd.distill.replicas import unstackable
from kd.errors import ConfigError
from kd.models import ENCODERS, FUSIONS, Classifier
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.registry import Registry
from kd.types import Modality

R = 3
TABLES: list[Registry] = [ENCODERS, FUSIONS, OBJECTIVES, TEACHER_WEIGHTS, AUGMENTATIONS, OPTIMIZERS, SCHEDULES]
STACK: dict[str, set[str]] = {
    "encoder": {"linear", "mlp", "cnn", "bag", "gru"},
    "fusion": {
        "concat",
        "mean",
        "gated",
        "attention",
        "hemis",
        "embracenet",
        "poe_vae",
        "shaspec",
        "transformer",
        "prompts",
    },
    "objective": {
        "kl",
        "logit_mse",
        "bernoulli_kl",
        "regression",
        "gaussian_nll",
        "dkd",
        "dist",
        "logit_std",
        "label_smoothing",
        "uncertainty_weighted",
        "shuffled",
        "fitnet",
        "feature_mse",
        "feature_cosine",
        "at",
        "nst",
        "vid",
        "srrl",
        "protokd",
        "sp",
        "mad",
        "cc",
        "rkd",
        "pkt",
    },
    "weighting": {"mean", "fixed", "best", "entropy", "ca_mkd", "learnt"},
    # Each replica's rows are changed by its own, with its own seed.
    "augmentation": {"crop", "drop_words"},
    # With learning rates and weight decays of their own.
    "optimizer": {"adam", "adamw", "sgd"},
    # One for all replicas: a schedule is a factor.
    "schedule": {"constant", "cosine"},
}
"""Kind of part -> those of which R train as one."""
ALONE: dict[str, set[str]] = {
    "encoder": {"torchvision", "words", "transformers"},  # networks of other libraries
    "objective": {"crd"},  # it remembers rows
    "weighting": {"ae_kd"},  # one vector per batch
}
"""Kind of part -> those that say `replicable = False`."""
BERT = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "torchvision": {"backbone": "shufflenet_v2_x0_5"},
    "transformers": {"config": {**BERT, "intermediate_size": 16}},
}
MODALITY = {
    "vector": Modality((5,)),
    "image": Modality((3, 16, 16), "image"),
    "text": Modality((6,), "text", vocabulary=30, pad=1),
    "sequence": Modality((4, 3), "sequence"),
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_of_every_part_it_is_said_whether_it_stacks(table: Registry) -> None:
    stack, alone = STACK[table.kind], ALONE.get(table.kind, set())
    assert not stack & alone
    assert stack | alone == set(table)
    assert {name for name in table if not getattr(table[name].load(), "replicable", True)} == alone


def network(encoder: str, fusion: str = "concat") -> Classifier:
    kind = ENCODERS[encoder].load().takes[0]  # type: ignore[attr-defined]
    part = {"name": encoder, **ARGUMENTS.get(encoder, {})}
    parts = {"own": part, "other": {"name": "linear"}}
    return Classifier({"own": MODALITY[kind], "other": (3,)}, 4, width=8, encoders=parts, fusion={"name": fusion})


@pytest.mark.parametrize("encoder", ENCODERS)
def test_student_names_the_encoder_that_does_not_stack(encoder: str) -> None:
    found = unstackable(kd.Distiller(network(encoder)))
    made = ENCODERS[encoder].load().__name__
    assert found == ([] if encoder in STACK["encoder"] else [f"encoders.own ({made})"])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_stacks(fusion: str) -> None:
    assert unstackable(kd.Distiller(network("mlp", fusion))) == []


class Remembers(nn.Module):
    """An objective with a memory of rows."""

    replicable = False

    def forward(self, student: Any, teacher: Any, *, valid: Tensor, **known: Any) -> Tensor:
        return torch.where(valid, 1.0, 0.0)


class Twice(nn.Module):
    """An objective with another inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Remembers()

    def forward(self, student: Any, teacher: Any, **rest: Any) -> Tensor:
        answer: Tensor = 2 * self.inner(student, teacher, **rest)
        return answer


class Whole(nn.Module):
    """A network that says of itself that it trains alone, with a part that says so as well."""

    replicable = False
    modalities = ("own",)
    classes = 3

    def __init__(self) -> None:
        super().__init__()
        self.layer = Remembers()


def test_parts_that_do_not_stack_are_named_by_their_place() -> None:
    teacher = network("mlp")
    edges = {"first": kd.Edge(teacher, Remembers()), "second": kd.Edge(teacher, Twice())}
    module = kd.Distiller(network("words"), edges=edges)
    assert unstackable(module) == ["encoders.own (Words)", "edges.first (Remembers)", "edges.second.inner (Remembers)"]
    assert unstackable(kd.Distiller(Whole())) == ["network (Whole)"]


def test_teacher_may_be_a_network_that_does_not_stack() -> None:
    assert unstackable(kd.Distiller(network("mlp"), edges=[kd.Edge(network("words"), kd.KL())])) == []


@pytest.mark.parametrize(
    ("made", "part"),
    [
        (lambda: kd.Distiller(network("torchvision")), r"encoders\.own \(Torchvision\)"),
        (
            lambda: kd.Distiller(network("mlp"), edges={"a": kd.Edge(network("mlp"), Remembers())}),
            r"edges\.a \(Remembers\)",
        ),
    ],
)
def test_student_with_a_part_that_does_not_stack_is_refused_by_name(made: Any, part: str) -> None:
    with pytest.raises(ConfigError, match=rf"^replica 0: {part} does not stack; train it alone$"):
        kd.Replicas([made(), made()])
