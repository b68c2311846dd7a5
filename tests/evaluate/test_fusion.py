"""Late fusion: each combination against its definition, and what it is fitted on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from kd.errors import ConfigError
from kd.evaluate import COMBINATIONS
from kd.evaluate.fusion import Calibrated, Combination, Corrected, Mean, Product, Weighted
from kd.evaluate.predictions import Logits, all_subsets

ONE, TWO = torch.randn(2, 400, 3, generator=torch.Generator().manual_seed(0))
MEMBERS: list[Logits] = [{"a": ONE}, {"b": TWO}]
LABEL = torch.randint(0, 3, (400,), generator=torch.Generator().manual_seed(1))
EVERY = all_subsets(["a", "b"])
FLAT = torch.full((3,), 1 / 3).log()
every_combination = pytest.mark.parametrize("name", list(COMBINATIONS))


def built(name: str) -> Combination:
    made: Combination = COMBINATIONS.build({"name": name}, "multiclass")
    return made.fit(MEMBERS, LABEL, EVERY)


def fused(combination: Combination, subset: str, prior: Tensor = FLAT) -> Tensor:
    found = combination.combine(MEMBERS, subset, prior)
    assert found is not None
    return found


@every_combination
def test_one_member_alone_decides_as_it_would(name: str) -> None:
    found = fused(built(name), "b", torch.tensor([0.7, 0.2, 0.1]).log())
    assert torch.equal(found.argmax(dim=1), TWO.argmax(dim=1))
    assert found.isfinite().all()


@every_combination
def test_a_subset_that_nobody_sees_has_no_answer(name: str) -> None:
    assert built(name).combine(MEMBERS, "c", FLAT) is None


@every_combination
def test_only_what_is_fitted_on_validation_labels_says_so(name: str) -> None:
    told = built(name).selected
    assert bool(told) == (name in ("weighted", "calibrated"))
    assert not told or "validation NLL" in told


def test_product_multiplies_probabilities() -> None:
    product = ONE.softmax(-1) * TWO.softmax(-1)
    found = fused(Product("multiclass"), "a+b").softmax(-1)
    assert torch.allclose(found, product / product.sum(-1, keepdim=True), atol=1e-6)


def test_mean_averages_probabilities() -> None:
    found = fused(Mean("multiclass"), "a+b").exp()
    assert torch.allclose(found, (ONE.softmax(-1) + TWO.softmax(-1)) / 2, atol=1e-6)


def test_corrected_is_the_bayes_rule_of_independent_modalities() -> None:
    """Two discrete views, independent given the class: p(y | a, b) by summing their joint table."""
    random = np.random.default_rng(0)
    prior = np.array([0.6, 0.3, 0.1])
    a, b = random.dirichlet(np.ones(4), 3), random.dirichlet(np.ones(5), 3)
    joint = np.einsum("y,ya,yb->aby", prior, a, b)
    truth = joint / joint.sum(-1, keepdims=True)
    views = [joint.sum(axis) / joint.sum(axis).sum(-1, keepdims=True) for axis in (1, 0)]
    members = [
        {"a": torch.tensor(views[0]).log().repeat_interleave(5, dim=0)},
        {"b": torch.tensor(views[1]).log().repeat(4, 1)},
    ]
    found = Corrected("multiclass").combine(members, "a+b", torch.tensor(prior).log())
    assert found is not None
    assert np.allclose(found.exp().numpy(), truth.reshape(20, 3))
    plain = Product("multiclass").combine(members, "a+b", torch.tensor(prior).log())
    assert plain is not None
    assert not np.allclose(plain.softmax(-1).numpy(), truth.reshape(20, 3), atol=0.05)


def test_a_class_without_training_rows_gains_nothing_by_the_correction() -> None:
    prior = torch.tensor([0.5, 0.5, torch.finfo(torch.float32).tiny]).log()
    found, plain = fused(Corrected("multiclass"), "a+b", prior), fused(Product("multiclass"), "a+b")
    assert torch.allclose(found[:, 0] - found[:, 1], plain[:, 0] - plain[:, 1], atol=1e-5)
    assert (found[:, 2] - found[:, 0] < plain[:, 2] - plain[:, 0]).all()


def test_corrected_counts_the_prior_of_each_label_once() -> None:
    prior = torch.tensor([0.2, -1.0, 3.0])
    found = Corrected("multilabel").combine(MEMBERS, "a+b", prior)
    assert found is not None
    assert torch.allclose(found, ONE + TWO - prior)


def test_weights_are_those_of_least_nll_over_all_subsets() -> None:
    """The only free number of two members is found by a scan of it; subsets of one member do not depend on it."""
    sharp = [{"a": ONE}, {"b": torch.nn.functional.one_hot(LABEL, 3) + TWO}]
    found = Weighted("multiclass").fit(sharp, LABEL, EVERY)
    p, q = (next(iter(each.values())).double().softmax(-1)[torch.arange(400), LABEL].numpy() for each in sharp)
    scan = minimize_scalar(lambda w: -np.log(w * p + (1 - w) * q).mean(), bounds=(0, 1), method="bounded")
    assert found.weights[0] == pytest.approx(scan.x, abs=2e-3)
    assert sum(found.weights) == pytest.approx(1)


def test_weights_are_renormalised_over_those_who_can_answer() -> None:
    members: list[Logits] = [*MEMBERS, {"c": ONE + TWO}]
    found = Weighted("multiclass", (0.5, 0.3, 0.2)).combine(members, "b+c", FLAT)
    assert found is not None
    assert torch.allclose(found.exp(), 0.6 * TWO.softmax(-1) + 0.4 * (ONE + TWO).softmax(-1), atol=1e-6)


def test_a_member_that_is_too_sure_is_cooled_to_the_temperature_it_was_heated_by() -> None:
    """Labels drawn from softmax(z): for the logits 5 z the best temperature is 5 times that for z."""
    one, five = (Calibrated("multiclass").fit([{"a": k * ONE}], LABEL, ["a"]).temperatures[0] for k in (1, 5))
    assert five == pytest.approx(5 * one, rel=1e-3) or one > 50


def test_calibrated_is_the_product_of_cooled_members() -> None:
    found = fused(Calibrated("multiclass", (2.0, 0.5)), "a+b").softmax(-1)
    assert torch.allclose(found, (ONE / 2 + TWO / 0.5).softmax(-1), atol=1e-6)


def test_regression_averages_values() -> None:
    for name in ("mean", "product"):
        made: Combination = COMBINATIONS.build({"name": name}, "regression")
        assert torch.equal(fused(made, "a+b"), torch.stack([ONE, TWO]).mean(dim=0))


@pytest.mark.parametrize("name", ["weighted", "corrected", "calibrated"])
def test_a_task_it_is_not_defined_for_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: fuses multiclass .*are regression"):
        COMBINATIONS.build({"name": name}, "regression")
