"""Contracts over every encoder and fusion in the tables."""

from __future__ import annotations

import itertools

import pytest
import torch

from kd.errors import RecordError
from kd.models import ENCODERS, FUSIONS, Classifier
from kd.seeding import initialise

SHAPES = {"a": (5,), "b": (3, 2), "c": (4,)}


def network(encoder: str = "mlp", fusion: str = "concat", seed: int = 0) -> Classifier:
    model = Classifier(SHAPES, 4, width=8, encoder={"name": encoder}, fusion={"name": fusion})
    initialise(model, seed)
    return model.eval()


def inputs(rows: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(rows, *shape, generator=generator) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoder_returns_tokens_and_a_gradient(name: str) -> None:
    encoder = ENCODERS.build({"name": name}, (5,), 8)
    x = torch.randn(6, 5, requires_grad=True)
    tokens, keep = encoder(x)
    assert tokens.shape == (6, 1, 8)
    assert keep.shape == (6, 1)
    assert keep.dtype == torch.bool
    tokens.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hidden_modality_changes_nothing(fusion: str) -> None:
    model, clean = network(fusion=fusion), inputs()
    for present in itertools.product([True, False], repeat=3):
        pattern = torch.tensor(present).expand(6, 3)
        spoilt = {
            name: value if seen else torch.full_like(value, float("nan"))
            for (name, value), seen in zip(clean.items(), present, strict=True)
        }
        expected = model(clean, pattern)
        found = model(spoilt, pattern)
        assert found.logits.isfinite().all()
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.feature, expected.feature)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hidden_modality_gets_no_gradient(fusion: str) -> None:
    model = network(fusion=fusion).train()
    spoilt = inputs() | {"b": torch.full((6, 3, 2), float("nan"))}
    model(spoilt, torch.tensor([True, False, True]).expand(6, 3)).logits.sum().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), path
    assert all((p.grad is None or not p.grad.any()) for p in model.encoders["b"].parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_neighbours_change_nothing_in_eval(fusion: str) -> None:
    model, clean = network(fusion=fusion), inputs()
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]]).bool()
    expected = model(clean, present).logits[0]
    other = {name: torch.cat([value[:1], value[1:] * 9 + 5]) for name, value in clean.items()}
    assert torch.equal(model(other, present).logits[0], expected)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_modalities_present_do_change_the_answer(fusion: str) -> None:
    model, clean = network(fusion=fusion), inputs()
    everything = torch.ones(6, 3, dtype=torch.bool)
    changed = clean | {"a": clean["a"] + 1}
    assert not torch.allclose(model(clean, everything).logits, model(changed, everything).logits)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_package_gives_back_the_same_network(fusion: str, tmp_path) -> None:
    model, present = network(fusion=fusion), torch.ones(6, 3, dtype=torch.bool)
    loaded = Classifier.from_pretrained(model.save_pretrained(tmp_path / "package"))
    assert torch.equal(loaded(inputs(), present).logits, model(inputs(), present).logits)


def test_initial_weights_follow_the_seed_and_not_the_order_of_modalities() -> None:
    forward = Classifier(SHAPES, 4, width=8)
    backward = Classifier(dict(reversed(SHAPES.items())), 4, width=8)
    initialise(forward, 3)
    initialise(backward, 3)
    one, two = forward.state_dict(), backward.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    initialise(backward, 4)
    assert not torch.equal(one["encoders.a.layers.0.weight"], backward.state_dict()["encoders.a.layers.0.weight"])


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "card"])
def test_damaged_package_is_refused_in_one_line(tmp_path, damage: str) -> None:
    folder = network().save_pretrained(tmp_path / "package")
    weights, card = folder / "weights.safetensors", folder / "card.json"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "change":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    elif damage == "remove":
        weights.unlink()
    else:
        card.write_text(card.read_text()[:40])
    with pytest.raises(RecordError) as refused:
        Classifier.from_pretrained(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


def test_scalers_are_fitted_on_present_rows_only() -> None:
    model = network()
    x = inputs()
    x["a"][3:] = float("nan")
    present = torch.ones(6, 3, dtype=torch.bool)
    present[3:, 0] = False
    used = model.fit_scalers(x, present)
    assert used["a"].tolist() == [0, 1, 2]
    assert torch.allclose(model.encoders["a"].standardise.mean, x["a"][:3].mean(dim=0), atol=1e-6)
