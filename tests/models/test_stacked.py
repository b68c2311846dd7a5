"""Stacks: every encoder and fusion of the tables, as one module of R networks, answers and learns as R networks do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models import ENCODERS, FUSIONS, Classifier
from kd.models.leaves import Fold
from kd.models.noise import Normal, Uniform
from kd.models.stacked import Stacked, narrow_state, under_vmap
from kd.seeding import initialise

from .conftest import MODALITY, values

R = 3
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"channels": [8, 16], "dropout": 0.0},
    "mlp": {"hidden": [20], "dropout": 0.0},
    "bag": {"dropout": 0.0},
    "gru": {"hidden": 8, "bidirectional": True, "dropout": 0.0},
    "torchvision": {"backbone": "shufflenet_v2_x0_5"},
    "transformers": {"config": {"model_type": "bert", "hidden_dropout_prob": 0.0, **BERT}},
    "words": {"hidden": 8, "layers": 1, "heads": 2, "dropout": 0.0},
}
"""Without dropout, whose noise a stack draws in its own way."""
ENCODER_OF = [(name, kind) for name, entry in ENCODERS.items() for kind in entry.load().takes]  # type: ignore[attr-defined]


def networks(name: str, kind: str, fusion: str = "concat", **model: Any) -> list[Classifier]:
    part = {"name": name, **SMALL.get(name, {})}
    made = []
    for seed in range(R):
        network = Classifier(
            {"own": MODALITY[kind], "other": (3,)},
            4,
            width=8,
            encoders={"own": part, "other": {"name": "linear"}},
            fusion={"name": fusion},
            **model,
        )
        initialise(network, seed)
        drawn = torch.randn(9, 3, generator=torch.Generator().manual_seed(seed))
        network.fit_scalers({"other": drawn, "own": values(kind, 9, seed)}, torch.ones(9, 2, dtype=torch.bool))
        made.append(network.eval())
    return made


def batch(kind: str, rows: int = 6) -> tuple[dict[str, Tensor], Tensor]:
    """Return inputs [R * rows, ...] and present, some modalities absent."""
    other = torch.randn(R * rows, 3, generator=torch.Generator().manual_seed(5))
    present = torch.rand(R * rows, 2, generator=torch.Generator().manual_seed(6)) < 0.7
    return {"own": values(kind, R * rows, 4), "other": other}, present


def each_of(inputs: dict[str, Tensor], present: Tensor, replica: int) -> tuple[dict[str, Tensor], Tensor]:
    rows = slice(replica * len(present) // R, (replica + 1) * len(present) // R)
    return {name: value[rows] for name, value in inputs.items()}, present[rows]


def assert_alike(made: list[Classifier], kind: str) -> None:
    """Compare answers and gradients of a stack with those of its networks, in float64."""
    made = [network.double() for network in made]
    inputs, present = batch(kind)
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    stacked = Stacked(made)
    stacked.check(made, inputs, present)
    logits = stacked(inputs, present).logits
    logits.square().sum().backward()
    gradients = {name: value.grad for name, value in stacked.network.named_parameters()}
    for replica, network in enumerate(made):
        own = network(*each_of(inputs, present, replica)).logits
        torch.testing.assert_close(logits.view(R, -1, 4)[replica], own, atol=1e-9, rtol=1e-9)
        own.square().sum().backward()
        for name, parameter in network.named_parameters():
            if parameter.grad is None:  # of a loss that only training has
                assert gradients[name] is None
                continue
            found = gradients[name][replica]  # type: ignore[index]
            found = found.T if name in stacked.turned else found
            torch.testing.assert_close(found, parameter.grad, atol=1e-9, rtol=1e-9, msg=f"{replica}: {name}")


def without_noise(network: nn.Module) -> nn.Module:
    """Return it in training mode, but for its noise, which a stack draws in its own way."""
    for module in network.train().modules():
        if isinstance(module, nn.Dropout | Normal | Uniform):
            module.eval()
    return network


def assert_trained_alike(made: list[Classifier], kind: str, steps: int = 4) -> None:
    """Compare the weights of a stack with those of its networks after some steps, in float64."""
    made = [without_noise(network.double()) for network in made]  # type: ignore[misc]
    inputs, present = batch(kind)
    inputs = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    before, stacked = [copy.deepcopy(network.state_dict()) for network in made], without_noise(Stacked(made))

    def train(network: nn.Module, *rows: Any) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        for _ in range(steps):
            optimizer.zero_grad()
            answer = network(*rows)
            loss = answer.logits.square().sum()
            (loss if answer.auxiliary is None else loss + answer.auxiliary.sum()).backward()
            optimizer.step()

    train(stacked, inputs, present)
    for replica, network in enumerate(made):
        train(network, *each_of(inputs, present, replica))
        found = stacked.state(replica)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(found[name], value, atol=1e-7, rtol=0, msg=f"{replica}: {name}")
            assert name.rpartition(".")[0].endswith("standardise") or not torch.equal(value, before[replica][name])


REPLICABLE = [(name, kind) for name, kind in ENCODER_OF if ENCODERS[name].load().replicable]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "kind"), REPLICABLE)
def test_stack_of_any_replicable_encoder_trains_as_its_networks(name: str, kind: str) -> None:
    assert_trained_alike(networks(name, kind), kind)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_stack_of_any_fusion_trains_as_its_networks(fusion: str) -> None:
    assert_trained_alike(networks("mlp", "vector", fusion), "vector")


@pytest.mark.parametrize(("name", "kind"), ENCODER_OF)
def test_stack_of_any_encoder_answers_and_learns_as_its_networks(name: str, kind: str) -> None:
    assert_alike(networks(name, kind), kind)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_stack_of_any_fusion_answers_and_learns_as_its_networks(fusion: str) -> None:
    assert_alike(networks("mlp", "vector", fusion), "vector")


@pytest.mark.parametrize(("name", "kind"), [("mlp", "vector"), ("words", "text"), ("cnn", "image")])
def test_replica_unstacks_into_the_network_it_came_from(name: str, kind: str) -> None:
    made = networks(name, kind)
    stacked = Stacked(made)
    for replica, network in enumerate(made):
        state = stacked.state(replica)
        assert list(state) == list(network.state_dict())
        assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


class Odd(nn.Module):
    """A leaf that no table knows, with a buffer of its own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.scale = nn.Parameter(torch.randn(5, generator=generator))
        self.register_buffer("shift", torch.randn(5, generator=generator))

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        return (x["x"] * self.scale + self.shift).cumsum(dim=0)  # of rows: only vmap keeps replicas apart here


def test_unknown_leaf_runs_under_vmap() -> None:
    leaves = [Odd(seed) for seed in range(R)]
    held, x = Odd(9), torch.randn(R * 4, 5)
    found = under_vmap(held, leaves, Fold(R))({"x": x})
    for replica, leaf in enumerate(leaves):
        torch.testing.assert_close(found.view(R, 4, 5)[replica], leaf({"x": x.view(R, 4, 5)[replica]}))
    found.sum().backward()
    assert held.scale.grad is not None
    assert held.scale.grad.shape == (R, 5)


def test_networks_of_two_forms_are_refused() -> None:
    with pytest.raises(ConfigError, match="network 1 has another form"):
        Stacked([nn.Linear(3, 4), nn.Linear(3, 5)])
    with pytest.raises(ConfigError, match="at least one network"):
        Stacked([])


@pytest.mark.parametrize("probability", [0.5, 0.3, 0.1])
def test_dropout_keeps_the_share_asked_for_and_the_mean(probability: float) -> None:
    fold, x = Fold(R), torch.ones(R * 400, 50)
    fold.generator.manual_seed(0)
    kept = fold.keep(x, probability)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)])
    # 60,000 draws: five standard errors.
    assert abs(float((kept == 0).float().mean()) - probability) < 5 * (probability * (1 - probability) / 60_000) ** 0.5
    assert not torch.equal(kept[:400], kept[400:800])


@pytest.mark.parametrize("probability", [0.5, 0.3])
@pytest.mark.parametrize("width", [64, 7])
def test_noise_of_a_replica_does_not_depend_on_which_others_are_left(probability: float, width: int) -> None:
    whole, part = Fold(R), Fold(R)
    part.alive = torch.tensor([0, 2])
    for fold in (whole, part):
        fold.generator.manual_seed(3)
    everything = whole.keep(torch.ones(R * 8, width), probability).view(R, 8, width)
    left = part.keep(torch.ones(2 * 8, width), probability).view(2, 8, width)
    assert torch.equal(left, everything[[0, 2]])


class _Chain(nn.Module):
    def __init__(self, probability: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Dropout(probability))

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        out: Tensor = self.layers(inputs["x"])
        return out


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("probability", [0.5, 0.3, 0.0])
def test_joined_hidden_layer_is_its_three_parts_in_value_and_gradient(probability: float, training: bool) -> None:
    made = [_Chain(probability) for _ in range(R)]
    stacked = Stacked(made).train(training)
    x = torch.randn(R * 8, 5, requires_grad=True)
    noise = Fold(R)
    for fold in (stacked.fold, noise):
        fold.generator.manual_seed(3)
    found = stacked({"x": x}, torch.ones(R * 8, 1, dtype=torch.bool)).logits
    plain = torch.cat([one.layers[0](rows).relu() for one, rows in zip(made, x.unflatten(0, (R, 8)), strict=True)])
    expected = plain * noise.keep(plain, probability) if training and probability > 0 else plain
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    own = [parameter for one in made for parameter in one.parameters()]
    wanted = torch.autograd.grad((expected * weight).sum(), [x, *own])
    got = torch.autograd.grad((found * weight).sum(), [x, *stacked.network.parameters()])
    torch.testing.assert_close(got[0], wanted[0])
    torch.testing.assert_close(got[1].transpose(1, 2), torch.stack(wanted[1::2]))
    torch.testing.assert_close(got[2], torch.stack(wanted[2::2]))


def test_narrowed_stack_answers_as_before_for_those_that_are_left() -> None:
    made = networks("mlp", "vector")
    inputs, present = batch("vector")
    stacked = Stacked(made)
    before = stacked(inputs, present).logits.view(R, -1, 4)
    stacked.narrow(torch.tensor([0, 2]))
    rows = torch.cat([torch.arange(6), torch.arange(12, 18)])
    after = stacked({name: value[rows] for name, value in inputs.items()}, present[rows]).logits.view(2, -1, 4)
    torch.testing.assert_close(after, before[[0, 2]])
    assert stacked.replicas == 2
    assert all(torch.equal(value, made[2].state_dict()[name]) for name, value in stacked.state(1).items())


def test_narrowing_keeps_the_parameters_that_an_optimiser_holds() -> None:
    layer = nn.Linear(2, 3)
    layer.weight = nn.Parameter(torch.randn(R, 3, 2))
    layer.bias = nn.Parameter(torch.randn(R, 3))
    held = list(layer.parameters())
    narrow_state(layer, torch.tensor([1]))
    assert [p.shape[0] for p in held] == [1, 1]
    assert all(one is other for one, other in zip(held, layer.parameters(), strict=True))
