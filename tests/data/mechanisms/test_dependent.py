"""Mechanisms that depend on something: their rates, their laws, and a likelihood-ratio test that tells them apart."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binom

from kd.data.masks import draw
from kd.data.mechanisms.dependent import principal_score
from kd.data.source import Source
from kd.data.splits import Split, split
from kd.errors import MaskError
from kd.statistics.dependence import likelihood_ratio

SEEDS, ROWS = 200, 800


def correlated(seed: int = 0, rows: int = ROWS, **changes: object) -> Source:
    """Return three modalities that share a factor with each other and with the label: what tells MAR from MNAR."""
    random = torch.Generator().manual_seed(seed)
    factor = torch.randn(rows, 1, generator=random)
    inputs = {
        name: 0.7 * factor + 0.7 * torch.randn(rows, width, generator=random)
        for name, width in {"a": 3, "b": 2, "c": 4}.items()
    }
    label = (factor[:, 0] + 0.5 * torch.randn(rows, generator=random) > 0).long()
    return Source("correlated", inputs, label, 2, **changes)  # type: ignore[arg-type]


def everything_trains(source: Source) -> Split:
    return Split(torch.arange(len(source)), torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize(
    "part",
    [
        {"name": "mar", "driver": "a"},
        {"name": "mnar", "given": "value"},
        {"name": "mnar", "given": "label", "strength": 1.0},
        {"name": "mar", "driver": "c", "strength": 6.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8, {"b": 0.3}])
def test_the_rate_asked_for_is_the_one_realised(part, rate) -> None:
    source = correlated(rows=6000)
    rows = split(source)
    mask = draw(source, rows, {**part, "rate": rate}, 3)
    for name, realised in mask.realised.items():
        asked = rate.get(name, 0.0) if isinstance(rate, dict) else rate
        asked = 0.0 if name == part.get("driver") else asked
        assert abs(realised - asked) <= 4.5 * math.sqrt(asked * (1 - asked) / len(rows.train)) + 1e-6


def test_patterns_have_the_chances_asked_for_and_gaps_of_nature_take_the_others() -> None:
    observed = torch.ones(6000, 3, dtype=torch.bool)
    observed[::3, 2] = False
    source = correlated(rows=6000, observed=observed)
    rows = everything_trains(source)
    chances = {"a+b": 2.0, "c": 2.0, "b+c+a": 1.0}
    keep = draw(source, rows, {"name": "pattern", "chances": chances}, 0).keep
    whole = keep[observed[:, 2]]
    for shown, chance in {(1, 1, 0): 0.4, (0, 0, 1): 0.4, (1, 1, 1): 0.2}.items():
        share = float((whole == torch.tensor(shown, dtype=torch.bool)).all(dim=1).double().mean())
        assert abs(share - chance) < 4.5 * math.sqrt(chance * (1 - chance) / len(whole))
    lacking = keep[~observed[:, 2]]
    assert not (lacking == torch.tensor([False, False, True])).all(dim=1).any()
    assert abs(float(lacking[:, 2].double().mean()) - 1 / 3) < 4.5 * math.sqrt(2 / 9 / len(lacking))


def helps(part: dict[str, object], seed: int, what: str) -> bool:
    """Say whether a hidden value, or the label, tells more about who is hidden than the driver does, at 5%."""
    source = correlated(seed)
    rows = everything_trains(source)
    hidden = (~draw(source, rows, part, seed).keep[:, 1]).numpy()
    driver = principal_score(source, "a", rows.train, "test").numpy()
    value = source.label.double().numpy() if what == "label" else principal_score(source, "b", rows.train, "t").numpy()
    return likelihood_ratio(hidden, driver, value) < 0.05


@pytest.mark.parametrize("what", ["value", "label"])
@pytest.mark.parametrize(
    "part", [{"name": "mcar", "rate": 0.4, "allow_empty": True}, {"name": "mar", "driver": "a", "rate": 0.4}], ids=str
)
def test_nothing_hidden_helps_given_the_driver_under_mcar_and_mar(part, what) -> None:
    alarms = sum(helps(part, seed, what) for seed in range(SEEDS))
    low, high = binom.interval(0.99, SEEDS, 0.05)
    assert low <= alarms <= high


@pytest.mark.parametrize("given", ["value", "label"])
def test_what_is_hidden_helps_under_mnar(given) -> None:
    # Power of at least .9 at one standard deviation = a log odds of 2, 800 rows, a rate of .4.
    found = sum(helps({"name": "mnar", "given": given, "rate": 0.4}, seed, given) for seed in range(50))
    assert found >= 45


def test_the_driver_is_never_hidden_and_under_mar_it_tells_who_is() -> None:
    source = correlated(rows=3000)
    keep = draw(source, everything_trains(source), {"name": "mar", "driver": "a", "rate": 0.5}, 0).keep
    assert keep[:, 0].all()
    driver = principal_score(source, "a", torch.arange(3000), "test")
    assert float(driver[~keep[:, 1]].mean()) > float(driver[keep[:, 1]].mean()) + 0.5


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"name": "mar", "driver": "z"}, "unknown driver 'z'"),
        ({"name": "mar", "driver": "a", "rate": {"a": 0.2}}, "the driver 'a' stays observed"),
        ({"name": "mar", "driver": "a", "rate": 1.0}, "rate of 'b' is 1; .* use mcar"),
        ({"name": "mar", "driver": "a", "rate": 1.2}, "mar: rate of 'a' is 1.2; expected a fraction"),
        ({"name": "pattern", "chances": {"a+z": 1}}, "unknown modality 'z' in 'a.z'"),
        ({"name": "pattern", "chances": {"a": -1}}, "weight of 'a' is -1; expected at least 0"),
        ({"name": "pattern", "chances": {"a": 0}}, "has no modality of any pattern"),
        ({"name": "mnar", "given": "value", "rate": 0.9, "allow_empty": False}, "with no modality"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(part, message) -> None:
    source = correlated()
    with pytest.raises(MaskError, match=message) as refused:
        draw(source, split(source), part, 0).available(source)
    assert "\n" not in str(refused.value)


def test_a_driver_that_some_rows_lack_or_that_holds_no_numbers_is_refused() -> None:
    observed = torch.ones(ROWS, 3, dtype=torch.bool)
    observed[:300, 0] = False
    with pytest.raises(MaskError, match="training rows lack the driver 'a'"):
        draw(correlated(observed=observed), split(correlated(observed=observed)), {"name": "mar", "driver": "a"}, 0)
    pictures = torch.zeros(60, 3, 8, 8, dtype=torch.uint8)
    source = Source("s", {"a": torch.zeros(60, 2), "p": pictures}, torch.arange(60) % 2, 2)
    with pytest.raises(MaskError, match="'p' holds no numbers"):
        draw(source, split(source), {"name": "mar", "driver": "p"}, 0)
