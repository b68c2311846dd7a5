"""Starting from other networks: as a product of unimodal ones, or with their encoders only."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.classifier import Classifier
from kd.models.imported import Imported
from kd.models.start import start_from
from kd.seeding import initialise

LINEAR = {"import": "torch.nn:Linear", "takes": {"a": "input"}, "in_features": 4, "out_features": 3}


def network(*names: str, seed: int = 0, classes: int = 3, **model: Any) -> Classifier:
    """Return a drawn network whose vectors have scalers of their own, in eval mode."""
    made = Classifier(dict.fromkeys(names, (4,)), classes, **{"width": 8, **model})
    initialise(made, seed)
    drawn = torch.Generator().manual_seed(seed)
    made.fit_scalers({n: torch.randn(20, 4, generator=drawn) for n in names}, torch.ones(20, len(names)).bool())
    nn.init.normal_(made.head.bias, generator=drawn)
    return made.eval()


def inputs(*names: str) -> tuple[dict[str, Tensor], Tensor]:
    drawn = torch.Generator().manual_seed(9)
    return {name: torch.randn(6, 4, generator=drawn) for name in names}, torch.ones(6, len(names), dtype=torch.bool)


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_network_of_unimodal_origins_begins_as_their_unnormalised_product(names: tuple[str, str]) -> None:
    origins = {name: network(name, seed=seed) for seed, name in enumerate("ab", 1)}
    student = start_from(network(*names), origins)
    x, present = inputs("a", "b")
    both = sum(origin({name: x[name]}, present[:, :1]).logits for name, origin in origins.items())
    torch.testing.assert_close(student(x, present).logits, both, atol=1e-6, rtol=0)


@pytest.mark.parametrize("origin_of", [{}, {"absent": {"name": "flags"}}])
def test_what_a_stand_in_adds_leaves_the_product_as_it_is(origin_of: dict[str, Any]) -> None:
    origins = {"a": network("a", seed=1, **origin_of), "b": network("b", seed=2)}
    student = start_from(network("a", "b", absent={"name": "flags"}), origins)
    x, present = inputs("a", "b")
    encoded = {name: origin({name: x[name]}, present[:, :1]) for name, origin in origins.items()}
    both = sum(
        encoded[name].feature[:, :8] @ origin.head.weight[:, :8].T + origin.head.bias  # type: ignore[index]
        for name, origin in origins.items()
    )
    torch.testing.assert_close(student(x, present).logits, both, atol=1e-6, rtol=0)
    assert student.head.in_features == 24
    assert not student.head.weight[:, 16:].any()


def test_network_of_one_origin_with_all_modalities_begins_as_that_one() -> None:
    origin = network("b", "a", seed=1)
    student = start_from(network("a", "b"), {"a": origin, "b": origin})
    x, present = inputs("a", "b")
    torch.testing.assert_close(student(x, present).logits, origin(x, present).logits, atol=1e-6, rtol=0)


def test_modality_without_an_origin_keeps_what_was_drawn() -> None:
    drawn, student, origin = network("a", "b"), network("a", "b"), network("a", seed=1)
    start_from(student, {"a": origin})
    for key, value in drawn.encoders["b"].state_dict().items():
        assert torch.equal(student.encoders["b"].state_dict()[key], value)
    assert torch.equal(student.head.weight[:, 8:], drawn.head.weight[:, 8:])
    assert torch.equal(student.head.weight[:, :8], origin.head.weight)


def test_fusion_that_mixes_modalities_takes_encoders_only() -> None:
    drawn, student = network("a", "b", fusion={"name": "gated"}), network("a", "b", fusion={"name": "gated"})
    origin = network("a", seed=1)
    start_from(student, {"a": origin})
    assert torch.equal(student.head.weight, drawn.head.weight)
    for key, value in origin.encoders["a"].state_dict().items():
        assert torch.equal(student.encoders["a"].state_dict()[key], value)


def test_origin_keeps_every_bit_while_the_network_learns() -> None:
    origin, student = network("a", seed=1), network("a", "b")
    before = {key: value.clone() for key, value in origin.state_dict().items()}
    start_from(student, {"a": origin}).train()
    x, present = inputs("a", "b")
    student(x, present).logits.square().sum().backward()
    torch.optim.SGD(student.parameters(), lr=0.1).step()
    assert all(torch.equal(value, before[key]) for key, value in origin.state_dict().items())


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ({"a": network("b")}, "init.a: its origin does not see it"),
        ({"c": network("c")}, "init.c: the network does not see it"),
        ({"a": network("a", width=4)}, "init.a: the encoder there has another form"),
        ({"a": network("a", classes=5)}, "init.a: 5 classes there and 3 here"),
        ({"a": Imported({"a": (4,)}, 3, LINEAR)}, "init: only networks of ours"),
    ],
)
def test_what_cannot_be_copied_is_told_in_one_line(origins: dict[str, Any], expected: str) -> None:
    student, drawn = network("a", "b"), network("a", "b")
    with pytest.raises(ConfigError) as refused:
        start_from(student, origins)
    assert expected in str(refused.value)
    assert all(torch.equal(value, drawn.state_dict()[key]) for key, value in student.state_dict().items())
