"""A stack is compared with its networks: what does not stack is found, what does is left as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models import Classifier
from kd.models.adapted import adapt
from kd.models.stacked import Stacked
from kd.seeding import initialise

R = 3
ROWS = torch.randn(R * 4, 3, generator=torch.Generator().manual_seed(0))
SEEN = torch.ones(R * 4, 1, dtype=torch.bool)


class Shuffles(nn.Module):
    """A network that reads a leaf's parameters past its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        return self.layer(inputs["x"]) + self.layer.weight.sum() * torch.arange(3)


class Centred(nn.Module):
    """A network that looks at its whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        answer: Tensor = self.layer(inputs["x"])
        return answer - answer.mean(dim=0)


class Tied(nn.Module):
    """A network with one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        answer: Tensor = self.second(self.first(inputs["x"]))
        return answer


class Sized(nn.Module):
    """A network that cannot answer rows of several replicas at once."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        return self.layer(inputs["x"]) + torch.zeros(4, 3)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (Shuffles, "replica 0 is off by"),
        (Centred, "replica 0 is off by"),
        (Tied, "two of its layers share a weight"),
        (Sized, "RuntimeError"),
    ],
)
@pytest.mark.parametrize("places", [[0, 1, 2], [0, 2]])
def test_network_that_does_not_stack_is_found_by_the_check(
    made: Callable[[], nn.Module], why: str, places: list[int]
) -> None:
    each = [made() for _ in range(R)]
    with pytest.raises(ConfigError, match=rf"^{made.__name__} does not stack \({why}.*\); train it alone") as refused:
        Stacked(each).check([each[place] for place in places], {"x": ROWS}, SEEN, places)
    assert "\n" not in str(refused.value)


def test_check_names_the_class_of_an_adapted_network() -> None:
    each = [adapt(nn.Sequential(nn.Linear(3, 3), Rolled()), x="input") for _ in range(R)]
    with pytest.raises(ConfigError, match=r"^Sequential does not stack"):
        Stacked(each).check(each, {"x": ROWS}, SEEN)


class Rolled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.roll(1, dims=0)


def test_check_holds_after_training_and_leaves_everything_as_it_was() -> None:
    parts = {"encoder": {"name": "mlp", "hidden": [20]}, "fusion": {"name": "gated"}}
    each = [initialise(Classifier({"x": (3,)}, 4, width=8, **parts), seed).eval() for seed in range(R)]
    stacked = Stacked(each).train()
    for parameter in stacked.parameters():
        parameter.data += 0.1  # as if it had trained: the networks it came from have other weights by now
    stacked({"x": ROWS}, SEEN).logits.sum().backward()
    before = [(p, p.data_ptr(), p.detach().clone(), p.grad) for p in stacked.parameters()]
    random, bits = torch.get_rng_state(), stacked.fold.generator.get_state()
    stacked.check([each[0], each[2]], {"x": ROWS}, SEEN, [0, 2])
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(stacked.fold.generator.get_state(), bits)
    assert stacked.fold.alive.tolist() == [0, 1, 2]
    assert all(module.training for module in stacked.modules())
    assert not any(module.training for network in each for module in network.modules())
    for (held, place, value, gradient), parameter in zip(before, stacked.parameters(), strict=True):
        assert parameter is held
        assert parameter.data_ptr() == place
        assert torch.equal(parameter, value)
        assert parameter.grad is gradient


def test_check_passes_over_a_replica_that_is_no_number() -> None:
    layers = [nn.Linear(3, 2) for _ in range(R)]
    nn.init.constant_(layers[0].weight, float("inf"))
    each = [adapt(nn.Sequential(layer), x="input") for layer in layers]
    Stacked(each).check(each, {"x": ROWS}, SEEN)


class Normed(nn.Module):
    """A network with statistics of the batch."""

    def __init__(self, seed: int, affine: bool, tracked: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4, affine=affine, track_running_stats=tracked)
        initialise(self, seed)

    def forward(self, inputs: dict[str, Tensor], present: Tensor) -> Tensor:
        answer: Tensor = self.norm(self.layer(inputs["x"]))
        return answer


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracked", [True, False])
def test_statistics_of_a_batch_are_those_of_each_replica(affine: bool, tracked: bool) -> None:
    each = [Normed(seed, affine, tracked) for seed in range(R)]
    stacked = Stacked(each).train()
    found = stacked({"x": ROWS}, SEEN).logits.view(R, 4, 4)
    for replica, network in enumerate(each):
        torch.testing.assert_close(found[replica], network({"x": ROWS.view(R, 4, 3)[replica]}, SEEN[:4]))
        for name, value in network.state_dict().items():
            torch.testing.assert_close(stacked.state(replica)[name], value)
    stacked.check(each, {"x": ROWS}, SEEN)
