"""The Bayes rule with the mask process in it: against integrals, frequencies, and its own calibration."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kd.data import load_source
from kd.data.bayes import MaskProcess, bayes_rule, rule_without_mask
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.mechanisms.dependent import laws
from kd.data.mechanisms.laws import Law
from kd.data.splits import split
from kd.data.synthetic import bayes_posterior, world_of
from kd.errors import DataError, MaskError

IGNORABLE: list[dict[str, Any]] = [
    {"name": "complete"},
    {"name": "mcar", "rate": 0.5, "allow_empty": True},
    {"name": "mcar", "rate": 0.4},
    {"name": "pattern", "chances": {"m0": 1, "m1+m2": 1}},
    {"name": "mar", "driver": "m1", "rate": 0.5},
]
VALUE = {"name": "mnar", "given": "value", "rate": 0.5, "strength": 3.0}
LABEL = {"name": "mnar", "given": "label", "rate": 0.5, "strength": 1.5}
SOURCE = load_source("synthetic", rows=12_000, classes=3, separation=1.5)
SPLIT = split(SOURCE, test=0.7)
TEST, TRUTH = SPLIT.test, SOURCE.label[SPLIT.test]

TINY = load_source("synthetic", rows=4000, classes=2, modalities=2, width=2, gamma=0.5, separation=1.5)
TINY_SPLIT = split(TINY)


def at_test(part: dict[str, Any]) -> Mask:
    return draw(SOURCE, SPLIT, part, 0, hides="test")


def loss(log_posterior: Tensor) -> Tensor:
    return -log_posterior.gather(1, TRUTH[:, None])[:, 0]


def standard_errors(values: Tensor) -> float:
    return float(values.mean() / (values.std() / math.sqrt(len(values))))


@pytest.mark.parametrize("part", IGNORABLE, ids=str)
def test_where_the_mask_tells_nothing_the_rule_is_the_posterior_of_what_is_shown(part) -> None:
    mask = at_test(part)
    found, shown = bayes_rule(SOURCE, SPLIT, mask, TEST).exp(), mask.available(SOURCE)[TEST]
    for kind in shown.unique(dim=0):
        rows = (shown == kind).all(dim=1)
        there = {
            m: SOURCE.inputs[m][TEST[rows]] for m, yes in zip(SOURCE.modalities, kind.tolist(), strict=True) if yes
        }
        expected = bayes_posterior(SOURCE, there) if there else torch.full((1, 3), 1 / 3, dtype=torch.float64)
        assert torch.allclose(found[rows], expected, atol=1e-12)


@pytest.mark.parametrize("given", ["value", "label"])
def test_at_strength_zero_a_dependent_mask_tells_nothing(given) -> None:
    mask = at_test({"name": "mnar", "given": given, "rate": 0.5, "strength": 0.0})
    found, plain = bayes_rule(SOURCE, SPLIT, mask, TEST), rule_without_mask(SOURCE, mask, TEST)
    assert torch.allclose(found, plain, atol=1e-9)


GRID = torch.linspace(-9, 9, 601, dtype=torch.float64)
NORMAL = torch.exp(-(GRID**2) / 2) / math.sqrt(2 * math.pi)


def chance_given_shared(law: Law, name: str, u: Tensor, y: int) -> Tensor:
    """Return the mean over v of a law's chance on the features themselves, [n], for u [n]: a sum over a grid of v."""
    world = world_of(TINY)
    v = GRID + world.private[name][y]
    block = torch.stack([u[:, None].expand(-1, len(v)), v.expand(len(u), -1)], dim=-1)
    chance = law.chance((block @ world.rotation[name].T).flatten(0, 1)).view(len(u), -1)
    return torch.trapezoid(chance * NORMAL, GRID, dim=1)


@pytest.mark.parametrize("strength", [1.0, 3.0, 6.0])
@pytest.mark.parametrize("shown", ["m0", "m1"])
def test_a_hidden_value_weighs_what_an_integral_over_the_features_says(shown, strength) -> None:
    found = laws(TINY, TINY_SPLIT, 0, {**VALUE, "strength": strength})
    hidden = "m1" if shown == "m0" else "m0"
    x = TINY.inputs[shown][:200].double()
    u = (x @ world_of(TINY).rotation[shown])[:, 0]
    weight = torch.stack([chance_given_shared(found[hidden], hidden, u, y) for y in range(2)], dim=1)
    expected = bayes_posterior(TINY, {shown: x}) * weight
    inputs = {shown: x, hidden: torch.full((200, 2), float("nan"))}
    inputs = {m: inputs[m] for m in TINY.modalities}
    there = torch.tensor([[m == shown for m in TINY.modalities]]).expand(200, -1)
    rule = MaskProcess(world_of(TINY), found).log_posterior(inputs, there, ~there).exp()
    assert torch.allclose(rule, expected / expected.sum(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 3.0, 6.0])
def test_a_row_that_shows_nothing_weighs_what_an_integral_over_everything_says(strength) -> None:
    found = laws(TINY, TINY_SPLIT, 0, {**VALUE, "strength": strength})
    weights = []
    for y in range(2):
        u = GRID + world_of(TINY).shared[y]
        both = chance_given_shared(found["m0"], "m0", u, y) * chance_given_shared(found["m1"], "m1", u, y)
        weights.append(float(torch.trapezoid(both * NORMAL, GRID)))
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    inputs = {m: torch.full((1, 2), float("nan")) for m in TINY.modalities}
    rule = MaskProcess(world_of(TINY), found).log_posterior(inputs, nothing, ~nothing).exp()[0]
    assert rule.tolist() == pytest.approx([w / sum(weights) for w in weights], abs=2e-4)
    assert abs(float(rule[0]) - 0.5) > 0.02


@pytest.mark.parametrize("part", [VALUE, LABEL], ids=str)
def test_among_fresh_rows_the_rule_says_how_often_a_class_is_true(part) -> None:
    # Simulation: classes, features and masks of 100 000 rows; in groups by what the rule says of class 0, and by what
    # is shown, class 0 is as frequent as said.
    random = torch.Generator().manual_seed(1)
    label = torch.randint(2, (100_000,), generator=random)
    inputs, found = world_of(TINY).sample(label, random), laws(TINY, TINY_SPLIT, 0, part)
    chance = torch.stack(
        [law.chance(label if law.reads == "label" else inputs[name]) for name, law in found.items()], 1
    )
    shown = torch.rand(chance.shape, generator=random, dtype=torch.float64) >= chance
    said = MaskProcess(world_of(TINY), found).log_posterior(inputs, shown, ~shown)[:, 0].exp()
    for kind in shown.unique(dim=0):
        rows = (shown == kind).all(dim=1).nonzero()[:, 0]
        for group in rows[said[rows].argsort()].chunk(20 if kind.any() else 1):
            true, claimed = (label[group] == 0).double(), said[group].clamp(1e-9, 1 - 1e-9)
            error = math.sqrt(float((claimed * (1 - claimed)).sum())) / len(group)
            assert abs(float(true.mean() - claimed.mean())) < 4 * error + 2e-4


@pytest.mark.parametrize("part", [*IGNORABLE, VALUE, LABEL], ids=str)
def test_the_rule_is_as_accurate_as_it_claims_to_be(part) -> None:
    log_posterior = bayes_rule(SOURCE, SPLIT, at_test(part), TEST)
    assert torch.allclose(log_posterior.exp().sum(dim=1), torch.ones(len(TEST), dtype=torch.float64))
    best, pick = log_posterior.exp().max(dim=1)
    assert abs(standard_errors((pick == TRUTH).double() - best)) < 3.5
    entropy = -(log_posterior.exp() * log_posterior).sum(dim=1)
    assert abs(standard_errors(loss(log_posterior) - entropy)) < 3.5


def test_the_rule_without_the_mask_process_is_not_calibrated_where_the_label_hides() -> None:
    best, pick = rule_without_mask(SOURCE, at_test(LABEL), TEST).exp().max(dim=1)
    assert standard_errors((pick == TRUTH).double() - best) > 10


@pytest.mark.parametrize("part", [VALUE, LABEL], ids=str)
def test_knowing_the_mask_process_beats_not_knowing_it_under_mnar(part) -> None:
    mask = at_test(part)
    gain = loss(rule_without_mask(SOURCE, mask, TEST)) - loss(bayes_rule(SOURCE, SPLIT, mask, TEST))
    assert standard_errors(gain) > 10


@pytest.mark.parametrize("part", [VALUE, LABEL, IGNORABLE[1]], ids=str)
def test_what_is_hidden_changes_nothing(part) -> None:
    process, mask = MaskProcess.of(SOURCE, SPLIT, at_test(part)), at_test(part)
    shown, rows = mask.available(SOURCE)[TEST[:500]], SOURCE.batch(TEST[:500], SOURCE.observed[TEST[:500]]).inputs
    hidden = {m: ~shown[:, place, None] for place, m in enumerate(SOURCE.modalities)}
    answers = [
        process.log_posterior({m: torch.where(hidden[m], filler, x) for m, x in rows.items()}, shown, ~shown)
        for filler in (float("nan"), float("inf"), -7.0)
    ]
    assert answers[0].isfinite().all()
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


@pytest.mark.parametrize("part", [VALUE, LABEL], ids=str)
def test_what_nature_left_out_tells_nothing(part) -> None:
    observed = SOURCE.observed.clone()
    observed[TEST, 1] = False
    gappy = replace(SOURCE, observed=observed)
    rows = replace(SPLIT, source="")
    mask = draw(gappy, rows, part, 0, hides="test")
    left = gappy.select(["m0", "m2"])
    alone = draw(left, rows, part, 0, hides="test")
    assert torch.equal(mask.keep[:, [0, 2]], alone.keep)
    assert torch.allclose(bayes_rule(gappy, rows, mask, TEST), bayes_rule(left, rows, alone, TEST), atol=1e-9)


def test_an_unknown_process_another_split_or_other_data_are_refused(tmp_path) -> None:
    draw(SOURCE, SPLIT, {"name": "mcar"}, 0).save(tmp_path / "mask.parquet")
    read = draw(SOURCE, SPLIT, {"name": "file", "path": str(tmp_path / "mask.parquet")}, 0)
    with pytest.raises(MaskError, match="its process is unknown"):
        bayes_rule(SOURCE, SPLIT, read, TEST)
    with pytest.raises(MaskError, match="another split"):
        bayes_rule(SOURCE, split(SOURCE, seed=1), at_test(VALUE), TEST)
    digits = load_source("mfeat", modalities=["mor"])
    rows = split(digits)
    with pytest.raises(DataError, match="its Bayes rule is unknown"):
        bayes_rule(digits, rows, draw(digits, rows, {"name": "mnar"}, 0, hides="test"), rows.test)
