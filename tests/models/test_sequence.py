"""The encoder of sequences against torch's own cell, and what padding and holes do to it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.errors import ConfigError
from kd.models import ENCODERS
from kd.models.sequence import GRU
from kd.seeding import initialise
from kd.types import Modality

STEPS, FEATURES, HIDDEN = 5, 3, 4


def gru(**part: object) -> GRU:
    encoder = ENCODERS.build({"name": "gru", "hidden": HIDDEN, **part}, Modality((STEPS, FEATURES), "sequence"), 6)
    initialise(encoder, 0)
    return encoder.eval()


def steps(rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, STEPS, FEATURES, generator=torch.Generator().manual_seed(1))


def as_torch_writes_it(encoder: GRU, *, layers: int, bidirectional: bool) -> nn.GRU:
    """Return `torch.nn.GRU` with the encoder's weights."""
    twin = nn.GRU(FEATURES, HIDDEN, layers, batch_first=True, bidirectional=bidirectional)
    state = {}
    for depth, layer in enumerate(encoder.layers):
        for direction, suffix in zip(layer.directions, ("", "_reverse"), strict=False):  # type: ignore[union-attr]
            for torch_name, own in (("ih", direction.input), ("hh", direction.state)):  # type: ignore[union-attr]
                state[f"weight_{torch_name}_l{depth}{suffix}"] = own.weight
                state[f"bias_{torch_name}_l{depth}{suffix}"] = own.bias
    twin.load_state_dict(state)
    return twin


@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, False), (1, True), (2, True)])
def test_states_are_those_of_torchs_gru(layers: int, bidirectional: bool) -> None:
    encoder = gru(layers=layers, bidirectional=bidirectional, pool="tokens")
    twin = as_torch_writes_it(encoder, layers=layers, bidirectional=bidirectional)
    tokens, keep = encoder(steps())
    assert keep.all()
    assert torch.allclose(tokens, encoder.project(twin(steps())[0]), atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "tokens"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_is_passed_over_wherever_it_stands(bidirectional: bool, pool: str) -> None:
    encoder, x = gru(bidirectional=bidirectional, layers=2, pool=pool), steps(1)
    for places in ([0, 1, 2], [2, 3, 4], [0, 2, 4]):
        padded = torch.full_like(x, float("nan"))
        padded[:, places] = x[:, :3]
        (expected, _), (found, keep) = encoder(x[:, :3]), encoder(padded)
        if pool == "tokens":
            assert keep[0].nonzero().flatten().tolist() == places
            found = found[:, places]
        assert torch.allclose(found, expected, atol=1e-6)


def test_sequence_of_padding_alone_stands_for_nothing_and_harms_no_gradient() -> None:
    encoder, x = gru(), steps()
    x[0] = float("nan")
    tokens, keep = encoder(x)
    assert keep[:, 0].tolist() == [False, True, True]
    tokens.sum().backward()
    assert tokens.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())  # type: ignore[union-attr]


def test_hole_in_a_step_becomes_the_mean_of_its_feature() -> None:
    encoder, x = gru(), steps()
    encoder.standardise.fit(x)
    with_hole, with_mean = x.clone(), x.clone()
    with_hole[0, 2, 1] = float("nan")
    with_mean[0, 2, 1] = encoder.standardise.mean[1]
    assert torch.equal(encoder(with_hole)[0], encoder(with_mean)[0])


def test_order_of_steps_matters() -> None:
    encoder, x = gru(), steps()
    assert not torch.allclose(encoder(x)[0], encoder(x.flip(1))[0])


def test_impossible_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden: expected at least 1"):
        gru(hidden=0)
