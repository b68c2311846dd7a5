"""Contracts over every encoder in the table; those of fusions and stand-ins are in test_absence_contracts."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kd.models import ENCODERS, Classifier
from kd.seeding import initialise
from kd.types import conceal

from .conftest import MODALITY, values

SHAPES = {"a": (5,), "b": (3, 2), "c": (4,)}

TINY_BERT = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [8, 16]},
    "gru": {"hidden": 8, "bidirectional": True},
    "torchvision": {"backbone": "shufflenet_v2_x0_5"},
    "transformers": {"config": TINY_BERT},
    "words": {"hidden": 8, "layers": 1, "heads": 2},
}
"""Arguments of encoders that have no default or large ones."""
ENCODER_OF = [(name, kind) for name, entry in ENCODERS.items() for kind in entry.load().takes]  # type: ignore[attr-defined]
COSTLY = [(name, kind) for name, kind in ENCODER_OF if ENCODERS[name].load().costly]  # type: ignore[attr-defined]


def part(name: str) -> dict[str, Any]:
    return {"name": name, **SMALL.get(name, {})}


def beside_a_vector(name: str, kind: str) -> Classifier:
    """Return a network of the encoder's modality and a vector, in eval mode."""
    parts = {"own": part(name), "other": {"name": "linear"}}
    model = Classifier({"own": MODALITY[kind], "other": (3,)}, 4, width=8, encoders=parts)
    initialise(model, 0)
    return model.eval()


def two_inputs(kind: str, rows: int = 6) -> dict[str, Tensor]:
    return {"own": values(kind, rows), "other": torch.linspace(-1, 1, rows * 3).view(rows, 3)}


PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [0, 1], [0, 0]]).bool()


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_encoder_returns_tokens_and_what_to_keep_of_them(name: str, kind: str) -> None:
    encoder = initialise(ENCODERS.build(part(name), MODALITY[kind], 8), 0)
    tokens, keep = encoder(values(kind))
    assert tokens.shape == (6, keep.shape[1], 8)
    assert keep.shape[0] == 6
    assert keep.dtype == torch.bool
    assert tokens.isfinite().all()


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_every_parameter_of_an_encoder_gets_a_gradient(name: str, kind: str) -> None:
    encoder = initialise(ENCODERS.build(part(name), MODALITY[kind], 8), 0)
    encoder(values(kind))[0].square().sum().backward()
    gradients = {path: parameter.grad for path, parameter in encoder.named_parameters()}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values()), gradients.keys()
    assert any(gradient.any() for gradient in gradients.values())  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_garbage_in_an_absent_row_changes_neither_logits_nor_gradient(name: str, kind: str) -> None:
    model, inputs = beside_a_vector(name, kind), two_inputs(kind)
    clean, spoilt = copy.deepcopy(model), copy.deepcopy(model)
    hidden = {key: conceal(value, ~PRESENT[:, column]) for column, (key, value) in enumerate(inputs.items())}
    expected, found = clean(inputs, PRESENT).logits, spoilt(hidden, PRESENT).logits
    assert found.isfinite().all()
    assert torch.equal(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    for (path, one), other in zip(clean.named_parameters(), spoilt.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), path  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_neighbours_of_a_row_change_nothing_in_eval(name: str, kind: str) -> None:
    model, inputs = beside_a_vector(name, kind), two_inputs(kind)
    everything = torch.ones(6, 2, dtype=torch.bool)
    others = {"own": torch.cat([inputs["own"][:1], values(kind, 5, seed=9)]), "other": inputs["other"].clone()}
    others["other"][1:] += 3
    assert torch.equal(model(others, everything).logits[0], model(inputs, everything).logits[0])
    assert not torch.equal(model(others, everything).logits[1:], model(inputs, everything).logits[1:])


@pytest.mark.parametrize(("name", "kind"), COSTLY)
def test_skipping_absent_rows_equals_the_definition(name: str, kind: str) -> None:
    model = beside_a_vector(name, kind).double()
    inputs = {key: value.double() if value.is_floating_point() else value for key, value in two_inputs(kind, 3).items()}
    for pattern in itertools.product([True, False], repeat=3):
        present = torch.tensor([pattern, (True, True, True)]).T
        answers = []
        for skip in (False, True):
            model.skip_absent = skip
            model.zero_grad()
            logits = model(inputs, present).logits
            logits.square().sum().backward()
            answers.append((logits.detach(), [p.grad.clone() for p in model.parameters()]))  # type: ignore[union-attr]
        (expected, gradients), (found, others) = answers
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)
        assert all(torch.allclose(one, other, rtol=0, atol=1e-6) for one, other in zip(gradients, others, strict=True))


def test_only_networks_of_other_libraries_cannot_be_replicated() -> None:
    classes = {name: ENCODERS[name].load() for name in ENCODERS}
    assert {name for name, made in classes.items() if not made.replicable} == {  # type: ignore[attr-defined]
        "torchvision",
        "words",
        "transformers",
    }


@pytest.mark.parametrize(("name", "kind"), [e for e in ENCODER_OF if ENCODERS[e[0]].load().replicable])  # type: ignore[attr-defined]
def test_replicas_under_vmap_equal_a_loop(name: str, kind: str) -> None:
    from torch.func import functional_call, stack_module_state, vmap

    replicas = [initialise(ENCODERS.build(part(name), MODALITY[kind], 8), seed).eval() for seed in range(2)]
    state, x = stack_module_state(replicas), values(kind)  # type: ignore[arg-type]
    shell = copy.deepcopy(replicas[0]).to("meta")
    together = vmap(lambda one: functional_call(shell, one, (x,))[0])(state)
    assert torch.allclose(together, torch.stack([replica(x)[0] for replica in replicas]), atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_the_seed_decides_every_weight_of_an_encoder(name: str, kind: str) -> None:
    drawn = []
    for seed, noise in [(0, 1), (0, 2), (1, 1)]:
        torch.manual_seed(noise)
        encoder = initialise(ENCODERS.build(part(name), MODALITY[kind], 8), seed)
        drawn.append(torch.cat([parameter.flatten() for parameter in encoder.parameters()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_package_gives_back_the_same_encoder(name: str, kind: str, tmp_path: Path) -> None:
    model, inputs = beside_a_vector(name, kind), two_inputs(kind)
    loaded = Classifier.from_pretrained(model.save_pretrained(tmp_path / "package"))
    assert torch.equal(loaded(inputs, PRESENT).logits, model(inputs, PRESENT).logits)


def network() -> Classifier:
    model = Classifier(SHAPES, 4, width=8)
    initialise(model, 0)
    return model.eval()


def inputs(rows: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(rows, *shape, generator=generator) for name, shape in SHAPES.items()}


def test_initial_weights_follow_the_seed_and_not_the_order_of_modalities() -> None:
    forward = Classifier(SHAPES, 4, width=8)
    backward = Classifier(dict(reversed(SHAPES.items())), 4, width=8)
    initialise(forward, 3)
    initialise(backward, 3)
    one, two = forward.state_dict(), backward.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    initialise(backward, 4)
    assert not torch.equal(one["encoders.a.layers.0.weight"], backward.state_dict()["encoders.a.layers.0.weight"])


def test_scalers_are_fitted_on_present_rows_only() -> None:
    model = network()
    x = inputs()
    x["a"][3:] = float("nan")
    present = torch.ones(6, 3, dtype=torch.bool)
    present[3:, 0] = False
    used = model.fit_scalers(x, present)
    assert used["a"].tolist() == [0, 1, 2]
    assert torch.allclose(model.encoders["a"].standardise.mean, x["a"][:3].mean(dim=0), atol=1e-6)


def test_encoder_of_another_kind_is_refused_with_those_that_fit() -> None:
    from kd.errors import ConfigError

    with pytest.raises(ConfigError, match=r"encoders\.a: mlp cannot read image; encoders that can: cnn, torchvision"):
        Classifier({"a": MODALITY["image"]}, 4, encoder={"name": "mlp"})
