"""The law of the synthetic data: its information and accuracy against closed forms that others published."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import norm

from kd.data.synthetic import bayes_accuracy, information, synthetic, world_of
from kd.data.world import Estimate, gaussian_information
from kd.errors import DataError

NAMES = ["m0", "m1", "m2"]
SUBSETS = [list(s) for size in (1, 2, 3) for s in itertools.combinations(NAMES, size)]


def within(found: Estimate, truth: float, errors: float = 3) -> bool:
    return abs(found.nats - truth) <= errors * found.standard_error


def test_half_a_bit_passes_at_the_published_noise() -> None:
    # Shannon limit of rate 1/2 on the binary-input Gaussian channel, sigma = 0.97869: Richardson, Shokrollahi & Urbanke
    # 2001, doi:10.1109/18.910578. Its inputs -1 and 1 are 2 / sigma apart.
    assert gaussian_information(2 / 0.97869) / math.log(2) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("distance", [0.1, 0.5, 1.0, 2.0, 5.0, 23.9, 24.1, 60.0])
def test_two_class_information_is_the_integral_over_the_data_themselves(distance) -> None:
    # H(X) - H(X | Y) by the trapezoid rule on x, where the implementation integrates the log odds.
    x = torch.linspace(-12, distance + 12, 200_001, dtype=torch.float64)
    density = sum(torch.exp(-((x - mean) ** 2) / 2) for mean in (0.0, distance)) / (2 * math.sqrt(2 * math.pi))
    entropy = torch.trapezoid(-torch.special.xlogy(density, density), x)
    assert gaussian_information(distance) == pytest.approx(
        float(entropy) - 0.5 * math.log(2 * math.pi * math.e), abs=1e-8
    )


@pytest.mark.parametrize("subset", SUBSETS, ids="+".join)
def test_at_gamma_zero_squared_distances_add_and_monte_carlo_recovers_it(subset) -> None:
    source = synthetic(classes=2, gamma=0.0, separation=1.5)
    means = world_of(source).private
    distance = math.sqrt(sum(float((means[m][0] - means[m][1]).square().sum()) for m in subset))
    truth = world_of(source).two_class_information(subset)
    assert truth == pytest.approx(gaussian_information(distance), abs=1e-12)
    assert within(information(source, subset), truth)


def test_at_gamma_one_every_subset_tells_the_same_and_independent_draws_agree() -> None:
    source = synthetic(classes=2, gamma=1.0, separation=1.5)
    truths = [world_of(source).two_class_information(subset) for subset in SUBSETS]
    assert truths == pytest.approx([gaussian_information(1.5)] * 7, abs=1e-12)
    found = [information(source, subset) for subset in SUBSETS]
    assert len({estimate.nats for estimate in found}) == 7
    assert all(within(estimate, truths[0]) for estimate in found)
    for one, other in itertools.combinations(found, 2):
        assert abs(one.nats - other.nats) <= 3 * math.hypot(one.standard_error, other.standard_error)


def test_at_gamma_one_many_classes_tell_the_same_by_independent_draws() -> None:
    found = [information(synthetic(gamma=1.0), subset) for subset in SUBSETS]
    for one, other in itertools.combinations(found, 2):
        assert abs(one.nats - other.nats) <= 3 * math.hypot(one.standard_error, other.standard_error)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.75])
def test_below_gamma_one_a_modality_more_tells_more(gamma) -> None:
    # The same comparison as at gamma one, so that it is seen to fail where subsets differ.
    source = synthetic(gamma=gamma)
    one, three = information(source, ["m0"]), information(source, NAMES)
    assert three.nats - one.nats > 10 * math.hypot(one.standard_error, three.standard_error)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("subset", [["m1"], ["m0", "m2"]], ids="+".join)
def test_two_class_accuracy_is_fishers(gamma, subset) -> None:
    # Phi(d / 2) for two Gaussians d apart: Fisher 1936; Hastie et al., The Elements of Statistical Learning, 4.3.
    source = synthetic(classes=2, gamma=gamma, separation=1.5)
    world = world_of(source)
    blocks = [world.shared, *(world.private[name] for name in subset)]
    distance = math.sqrt(sum(float((b[0] - b[1]).square().sum()) for b in blocks))
    found = bayes_accuracy(source, subset)
    assert abs(found.accuracy - norm.cdf(distance / 2)) <= 3.5 * found.standard_error


@pytest.mark.parametrize("classes", [2, 5])
def test_information_runs_from_nothing_to_the_entropy_of_the_label(classes) -> None:
    apart, same = (synthetic(classes=classes, separation=d) for d in (60.0, 0.0))
    assert information(same, NAMES).nats == pytest.approx(0.0, abs=1e-12)
    assert information(apart, NAMES).nats == pytest.approx(math.log(classes), abs=1e-6)


def test_information_is_the_entropy_less_the_rules_own_loss_on_rows() -> None:
    source = synthetic(rows=20_000)
    log_posterior = world_of(source).posterior(source.select(["m0", "m2"]).inputs).log()
    gain = log_posterior.gather(1, source.label[:, None])[:, 0] + math.log(4)
    found = information(source, ["m0", "m2"])
    error = math.hypot(found.standard_error, float(gain.std()) / math.sqrt(20_000))
    assert abs(found.nats - float(gain.mean())) <= 3 * error


def test_a_closed_form_for_more_classes_than_two_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="needs 2 classes, got 4; use information") as refused:
        world_of(synthetic(rows=40)).two_class_information(["m0"])
    assert "\n" not in str(refused.value)
