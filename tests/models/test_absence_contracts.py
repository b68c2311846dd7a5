"""Contracts over every stand-in and every fusion of the tables: what is absent changes nothing, in any form of use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import kd
from kd.compress.export import export
from kd.data import load_source
from kd.errors import ConfigError
from kd.evaluate.predictor import OnnxPredictor
from kd.models import STAND_INS, Classifier
from kd.models.noise import Normal, Uniform
from kd.models.stacked import Stacked
from kd.types import Modality

from .absence import (
    CLASSES,
    CROSSED_PARTS,
    EXPORTED,
    PAIRS,
    PATTERNS,
    VECTORS,
    WIDTH,
    Pair,
    blank,
    hide,
    inputs_of,
    loss,
    network,
    same,
    spread,
    stackable,
    trained,
)
from .conftest import MODALITY

R = 3


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_every_subset_gives_finite_answers_losses_and_gradients(pair: Pair) -> None:
    model, inputs = network(pair), inputs_of(VECTORS, 6)
    for pattern in PATTERNS:
        present = pattern.expand(6, 3)
        assert model.eval()(hide(inputs, present), present).logits.isfinite().all()
        answer, gradients = trained(model, hide(inputs, present), present)
        assert answer.logits.isfinite().all()
        assert answer.auxiliary is None or (answer.auxiliary.shape == (6,) and answer.auxiliary.isfinite().all())
        assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_own_loss_is_of_training_alone(pair: Pair) -> None:
    assert network(pair)(inputs_of(VECTORS, 8), PATTERNS).auxiliary is None


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_hidden_values_change_neither_answer_nor_loss_nor_gradient(pair: Pair) -> None:
    model, inputs = network(pair), inputs_of(VECTORS, 8)
    other = {name: torch.where(spread(PATTERNS[:, i], x), x, 9 * x + 5) for i, (name, x) in enumerate(inputs.items())}
    expected, gradients = model.eval()(inputs, PATTERNS), trained(model, inputs, PATTERNS)
    for garbage in (hide(inputs, PATTERNS), other):
        found = model.eval()(garbage, PATTERNS)
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.feature, expected.feature)  # type: ignore[arg-type]
        assert same(trained(model, garbage, PATTERNS), gradients)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if not STAND_INS[pair.absent].load().filled], ids=str)  # type: ignore[attr-defined]
def test_encoder_of_a_hidden_modality_gets_no_gradient(pair: Pair) -> None:
    model, inputs = network(pair), inputs_of(VECTORS, 6)
    present = torch.tensor([True, False, True]).expand(6, 3)
    trained(model, hide(inputs, present), present)
    assert not any(p.grad is not None and p.grad.any() for p in model.encoders["b"].parameters())
    assert any(p.grad.any() for p in model.encoders["a"].parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_modalities_present_do_change_the_answer(pair: Pair) -> None:
    model, inputs = network(pair), inputs_of(VECTORS, 8)
    for column, name in enumerate(VECTORS):
        moved = model(inputs | {name: inputs[name] + 1}, PATTERNS).logits != model(inputs, PATTERNS).logits
        assert torch.equal(moved.any(dim=1), PATTERNS[:, column])


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_neighbours_of_a_row_change_nothing_in_eval(pair: Pair) -> None:
    model, inputs = network(pair), inputs_of(VECTORS, 8)
    expected = model(inputs, PATTERNS).logits
    for row in range(8):
        others = torch.arange(8) != row
        moved = {name: torch.where(spread(others, x), 9 * x + 5, x) for name, x in inputs.items()}
        shown = torch.where(others.unsqueeze(1), ~PATTERNS, PATTERNS)
        assert torch.equal(model(moved, shown).logits[row], expected[row])
        alone = model({name: x[row : row + 1] for name, x in inputs.items()}, PATTERNS[row : row + 1]).logits[0]
        assert torch.allclose(alone, expected[row], rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def data() -> kd.DataModule:
    return kd.DataModule(load_source("synthetic", modalities=3, rows=120, width=4, classes=CLASSES))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_the_order_in_which_modalities_are_named_changes_nothing(pair: Pair, data: kd.DataModule) -> None:
    model = {"absent": {"name": pair.absent}, "fusion": {"name": pair.fusion}, "width": WIDTH}
    one, other = (kd.classifier(data, sees=sees, **model).eval() for sees in (["m0", "m1", "m2"], ["m2", "m0", "m1"]))
    inputs = data.source.batch(torch.arange(8), PATTERNS).inputs
    turned = dict(reversed(inputs.items()))
    assert torch.equal(one(inputs, PATTERNS).logits, other(turned, PATTERNS).logits)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_package_gives_back_the_same_network(pair: Pair, tmp_path: Path) -> None:
    model, inputs = network(pair), hide(inputs_of(VECTORS, 8), PATTERNS)
    loaded = Classifier.from_pretrained(model.save_pretrained(tmp_path / "package"))
    assert torch.equal(loaded(inputs, PATTERNS).logits, model(inputs, PATTERNS).logits)


@pytest.mark.parametrize(
    "pair",
    [
        pair if pair in EXPORTED or pair.absent not in CROSSED_PARTS else pytest.param(pair, marks=pytest.mark.slow)
        for pair in PAIRS
    ],
    ids=str,
)
def test_exported_graph_agrees_on_every_subset(pair: Pair) -> None:
    model, inputs = network(pair), hide(inputs_of(VECTORS, 8), PATTERNS)
    graph = export(model)
    found = torch.as_tensor(OnnxPredictor(graph)(inputs, PATTERNS))
    expected = model(inputs, PATTERNS).logits.detach()
    assert float((found - expected).abs().max() / expected.abs().max().clamp(min=1)) <= 1e-6


def stack_of(pair: Pair) -> tuple[list[Classifier], Stacked, dict[str, Tensor], Tensor]:
    """Return networks, their stack, and rows of every subset for each."""
    if not stackable(pair):
        pytest.skip("trained one by one, as replicable = False says")
    made = [network(pair, seed) for seed in range(R)]
    present = PATTERNS.repeat(R, 1)
    return made, Stacked(made), hide(inputs_of(VECTORS, 8 * R), present), present


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_stack_answers_as_its_networks_do(pair: Pair) -> None:
    made, stacked, inputs, present = stack_of(pair)
    stacked.check(made, inputs, present)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_stack_trains_to_finite_losses(pair: Pair) -> None:
    _, stacked, inputs, present = stack_of(pair)
    optimizer = torch.optim.Adam(stacked.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        stacked.fold.generator.manual_seed(0)
        each = loss(stacked(inputs, present)).view(R, -1).sum(dim=1)
        each.sum().backward()
        optimizer.step()
        losses.append(each.detach())
    assert torch.stack(losses).isfinite().all()
    assert (losses[-1] < losses[0]).all()  # under the same noise


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_noise_of_a_replica_does_not_depend_on_which_others_are_left(pair: Pair) -> None:
    _, stacked, inputs, present = stack_of(pair)
    stacked.train().fold.generator.manual_seed(3)
    before = loss(stacked(inputs, present)).view(R, -1)
    stacked.narrow(torch.tensor([0, 2]))
    rows = torch.cat([torch.arange(8), torch.arange(16, 24)])
    stacked.fold.generator.manual_seed(3)
    after = loss(stacked({name: x[rows] for name, x in inputs.items()}, present[rows])).view(2, -1)
    torch.testing.assert_close(after, before[[0, 2]])


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_noise_is_of_layers_that_a_stack_knows(pair: Pair) -> None:
    # Two replicas of one network and the same rows: they differ by what the stack draws, and by nothing else.
    if not stackable(pair):
        pytest.skip("trained one by one, as replicable = False says")
    model, inputs = network(pair), inputs_of(VECTORS, 8)
    stacked = Stacked([model, model]).train()
    twice = {name: torch.cat([x, x]) for name, x in inputs.items()}
    for module in stacked.modules():
        if isinstance(module, nn.Dropout | Normal | Uniform):
            module.eval()
    one, other = loss(stacked(twice, PATTERNS.repeat(2, 1))).view(2, -1)
    torch.testing.assert_close(one, other)


def refusal(pair: Pair, modality: dict[str, Modality]) -> list[str]:
    try:
        blank(pair, modality)
    except ConfigError as error:
        return error.faults
    return []


@pytest.mark.parametrize("kind", ["image", "text"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_pictures_and_words_are_taken_or_refused_in_one_line(pair: Pair, kind: str) -> None:
    modality = {"own": MODALITY[kind], "other": VECTORS["a"]}
    if faults := refusal(pair, modality):
        assert len(faults) == 1
        assert "own" in faults[0]
        assert "\n" not in faults[0]
        return
    model, inputs = network(pair, modality=modality), inputs_of(modality, 8)
    present = PATTERNS[:, :2]
    expected, gradients = model(inputs, present).logits, trained(model, inputs, present)
    assert expected.isfinite().all()
    assert torch.equal(model.eval()(hide(inputs, present), present).logits, expected)
    assert same(trained(model, hide(inputs, present), present), gradients)
    assert all(gradient.isfinite().all() for gradient in gradients[1].values())
