"""Stand-ins that the network learns: tokens, flags, and representations predicted from those present."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from kd.errors import ConfigError
from kd.models.absent.base import Represented, place
from kd.models.absent.flags import FLAGS, Flags
from kd.models.absent.reconstruct import Reconstruct
from kd.models.absent.token import Token
from kd.seeding import initialise
from kd.types import Modality

NAMES = ("a", "b", "c")
VECTORS = {name: Modality((5,)) for name in NAMES}
PATTERNS = torch.tensor(list(itertools.product([True, False], repeat=3)))


def represented(stand_in: nn.Module, steps: int = 1) -> tuple[dict[str, Tensor], Represented]:
    """Return representations of every pattern, before and after, of modalities with some tokens each."""
    draw = torch.Generator().manual_seed(0)
    tokens, keep = {}, {}
    for name, seen in zip(NAMES, PATTERNS.unbind(dim=1), strict=True):
        keep[name] = seen.unsqueeze(-1).repeat(1, steps)
        tokens[name] = torch.randn(8, steps, 4, generator=draw) * keep[name].unsqueeze(-1)
    return tokens, stand_in.represent(dict(tokens), dict(keep), PATTERNS)  # type: ignore[operator]


@pytest.mark.parametrize("steps", [1, 3])
def test_token_takes_the_place_of_an_absent_representation_and_of_no_other(steps: int) -> None:
    stand_in = initialise(Token(VECTORS, 4), 0)
    before, found = represented(stand_in, steps)
    for column, name in enumerate(NAMES):
        seen, learnt = PATTERNS[:, column], stand_in.learnt[name].weight[:, 0]  # type: ignore[index,union-attr]
        assert torch.equal(found.tokens[name][seen], before[name][seen])
        assert (found.tokens[name][~seen][:, 0] == learnt).all()
        assert not found.tokens[name][~seen][:, 1:].any()
        assert (found.keep[name].sum(dim=1) == torch.where(seen, steps, 1)).all()
    assert found.present.all()


def test_token_learns_from_the_rows_that_lack_the_modality() -> None:
    stand_in = initialise(Token(VECTORS, 4), 0)
    _, found = represented(stand_in)
    found.tokens["a"].sum().backward()
    # Half of the eight patterns lack a.
    assert torch.equal(stand_in.learnt["a"].weight.grad, torch.full((4, 1), 4.0))  # type: ignore[index,union-attr]
    assert stand_in.learnt["b"].weight.grad is None  # type: ignore[index,union-attr]


def test_flags_are_a_representation_of_the_pattern_alone() -> None:
    stand_in = initialise(Flags(VECTORS, 4), 0)
    before, found = represented(stand_in)
    expected = (PATTERNS.float() @ stand_in.linear.weight.T + stand_in.linear.bias).relu()  # type: ignore[union-attr,operator]
    torch.testing.assert_close(found.tokens[FLAGS].squeeze(1), expected)
    assert all(torch.equal(found.tokens[name], before[name]) for name in NAMES)
    assert torch.equal(found.present[:, :3], PATTERNS)
    assert found.present[:, 3].all()
    assert found.keep[FLAGS].all()


def with_identities(weight: float = 1.0) -> Reconstruct:
    """Return a stand-in whose decoders pass on what they get."""
    stand_in = Reconstruct(VECTORS, 4, weight=weight)
    for decoder in stand_in.modules():
        if isinstance(decoder, nn.Linear):
            nn.init.eye_(decoder.weight)
            nn.init.zeros_(decoder.bias)
    return stand_in


def test_absent_representation_is_the_mean_of_the_predictions_of_those_present() -> None:
    before, found = represented(with_identities())
    for row, pattern in enumerate(PATTERNS):
        there = [name for name, seen in zip(NAMES, pattern, strict=True) if seen]
        for name in NAMES:
            mean = torch.stack([before[other][row] for other in there]).mean(dim=0) if there else torch.zeros(1, 4)
            torch.testing.assert_close(found.tokens[name][row], before[name][row] if name in there else mean)
        assert found.present[row].tolist() == [bool(there)] * 3
        assert [bool(found.keep[name][row]) for name in NAMES] == [bool(there)] * 3


def test_reconstruction_counts_the_pairs_of_which_a_row_has_both() -> None:
    before, found = represented(with_identities(weight=0.5).train())
    assert found.loss is not None
    for row, pattern in enumerate(PATTERNS):
        there = [before[name][row] for name, seen in zip(NAMES, pattern, strict=True) if seen]
        pairs = [nn.functional.mse_loss(one, other) for one, other in itertools.permutations(there, 2)]
        expected = 0.5 * torch.stack(pairs).mean() if pairs else torch.zeros(())
        torch.testing.assert_close(found.loss[row], expected)


def test_no_gradient_of_the_reconstruction_passes_into_its_target() -> None:
    stand_in = Reconstruct({name: VECTORS[name] for name in "ab"}, 4).train()
    nn.init.zeros_(stand_in.decoders["a"]["b"].weight)  # type: ignore[index,union-attr]
    tokens = {name: torch.randn(2, 1, 4, requires_grad=True) for name in "ab"}
    keep = dict.fromkeys("ab", torch.ones(2, 1, dtype=torch.bool))
    found = stand_in.represent(tokens, keep, torch.ones(2, 2, dtype=torch.bool))
    assert found.loss is not None
    found.loss.sum().backward()
    # b is the target of a's decoder, and the source of a decoder that ignores it.
    assert not tokens["b"].grad.any()  # type: ignore[union-attr]
    assert tokens["a"].grad.any()  # type: ignore[union-attr]


def test_decoders_learn_a_representation_that_follows_from_another() -> None:
    stand_in = initialise(Reconstruct({name: VECTORS[name] for name in "ab"}, 4, hidden=16), 0).train()
    a = torch.randn(64, 1, 4, generator=torch.Generator().manual_seed(1))
    tokens, keep = {"a": a, "b": a.flip(-1)}, dict.fromkeys("ab", torch.ones(64, 1, dtype=torch.bool))
    both = torch.ones(64, 2, dtype=torch.bool)
    optimizer, losses = torch.optim.Adam(stand_in.parameters(), lr=1e-2), []
    for _ in range(300):
        optimizer.zero_grad()
        losses.append(stand_in.represent(dict(tokens), dict(keep), both).loss.mean())  # type: ignore[operator]
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.05 * losses[0]


def test_modality_that_is_there_keeps_all_its_tokens_when_another_is_placed() -> None:
    tokens, keep = torch.arange(12.0).view(2, 3, 2), torch.tensor([[True, True, False], [False] * 3])
    placed, kept = place(tokens * keep.unsqueeze(-1), keep, keep.any(dim=1), torch.full((2, 2), 9.0))
    assert placed.tolist() == [[[0, 1], [2, 3], [0, 0]], [[9, 9], [0, 0], [0, 0]]]
    assert kept.tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"weight": -1.0}, "absent.weight: expected at least 0"), ({"hidden": 0}, "absent.hidden: expected at least 1")],
)
def test_ranges_are_told_with_the_fields_name(arguments: dict[str, float], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        Reconstruct(VECTORS, 4, **arguments)  # type: ignore[arg-type]
