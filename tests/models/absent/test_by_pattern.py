"""Ridge regressions and chained equations: scikit-learn's own predictions, one affine map per pattern."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import Ridge as ScikitRidge
from sklearn.linear_model import RidgeCV
from torch import Tensor

from kd.errors import ConfigError
from kd.models.absent.by_pattern import PatternStandIn
from kd.models.absent.iterative import Iterative
from kd.models.absent.mean import Mean
from kd.models.absent.ridge import Ridge
from kd.types import Modality

from .conftest import SHAPES, flat, hidden, some, vectors

VECTORS = {name: Modality(shape) for name, shape in SHAPES.items()}
COLUMNS = {"a": slice(0, 5), "b": slice(5, 11), "c": slice(11, 15)}
PATTERNS = torch.tensor(list(itertools.product([True, False], repeat=3)))
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def fitted(kind: type[PatternStandIn], training: dict[str, Tensor], available: Tensor, **arguments: Any) -> Any:
    stand_in = kind(VECTORS, 8, **arguments).double()
    stand_in.fit(hidden(training, available), available)
    return stand_in


def filled(stand_in: PatternStandIn, new: dict[str, Tensor], present: Tensor) -> Tensor:
    found, readable = stand_in.fill(hidden(new, present), present)
    assert readable.all()
    return flat(dict(found))


def standardised(training: dict[str, Tensor], available: Tensor) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    rows = flat(hidden(training, available)).numpy()
    mean, deviation = np.nanmean(rows, axis=0), np.nanstd(rows, axis=0)
    return (rows - mean) / deviation, mean, deviation


def test_ridge_predicts_what_scikit_learn_does_for_every_pattern() -> None:
    training, available, new = vectors(200), some(200), vectors(8, 1)
    found = filled(fitted(Ridge, training, available), new, PATTERNS)
    rows, mean, deviation = standardised(training, available)
    asked = (flat(new).numpy() - mean) / deviation
    for row, pattern in enumerate(PATTERNS):
        sources = [n for n, there in zip(COLUMNS, pattern, strict=True) if there]
        for name in COLUMNS.keys() - sources:
            expected = mean[COLUMNS[name]]
            if sources:
                columns = np.r_[tuple(COLUMNS[s] for s in sources)]
                have = ~np.isnan(rows[:, columns]).any(axis=1) & ~np.isnan(rows[:, COLUMNS[name]]).any(axis=1)
                model = RidgeCV(ALPHAS).fit(rows[have][:, columns], rows[have][:, COLUMNS[name]])
                expected = expected + model.predict(asked[row : row + 1, columns])[0] * deviation[COLUMNS[name]]
            torch.testing.assert_close(found[row, COLUMNS[name]], torch.as_tensor(expected), atol=1e-5, rtol=0)
        for name in sources:
            assert torch.equal(found[row, COLUMNS[name]], flat(new)[row, COLUMNS[name]])


def test_pair_that_too_few_rows_have_falls_back_to_the_mean_and_is_named() -> None:
    training, available = vectors(60), torch.tensor([[True, True, False]]).repeat(60, 1)
    available[:9] = torch.tensor([True, False, True])
    stand_in = fitted(Ridge, training, available)
    assert stand_in.unfitted == [
        "a from c",
        "a from b+c",
        "b from c",
        "b from a+c",
        "c from a",
        "c from b",
        "c from a+b",
    ]
    found = filled(stand_in, vectors(8, 1), PATTERNS)
    only_a = 3
    assert PATTERNS[only_a].tolist() == [True, False, False]
    torch.testing.assert_close(found[only_a, 11:], training["c"][:9].mean(dim=0))
    assert not torch.allclose(found[only_a, 5:11], training["b"][9:].flatten(1).mean(dim=0))


def principal(training: dict[str, Tensor], available: Tensor, components: int) -> tuple[dict[str, PCA], Any, Any, Any]:
    rows, mean, deviation = standardised(training, available)
    bases = {}
    for name, own in COLUMNS.items():
        have = ~np.isnan(rows[:, own]).any(axis=1)
        bases[name] = PCA(min(components, own.stop - own.start), svd_solver="full").fit(rows[have, own])
    return bases, rows, mean, deviation


def projected(bases: dict[str, PCA], rows: NDArray[Any]) -> NDArray[Any]:
    """Return components side by side, NaN where the modality is."""
    parts = [(rows[:, COLUMNS[name]] - basis.mean_) @ basis.components_.T for name, basis in bases.items()]
    return np.hstack(parts)


@pytest.mark.parametrize("components", [32, 2])
@pytest.mark.parametrize("nearest", [None, 3])
@pytest.mark.parametrize("rate", [0.4, 0.0])
def test_compiled_chain_is_the_transform_of_scikit_learns_imputer(
    components: int, nearest: int | None, rate: float
) -> None:
    training, available, new = vectors(120), some(120, rate=rate), vectors(8, 1)
    arguments = {"components": components, "rounds": 4, "n_nearest_features": nearest}
    found = filled(fitted(Iterative, training, available, **arguments), new, PATTERNS)
    bases, rows, mean, deviation = principal(training, available, components)
    imputer = IterativeImputer(ScikitRidge(alpha=1.0), max_iter=4, tol=0.0, n_nearest_features=nearest, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer.fit(projected(bases, rows))
    asked = (flat(hidden(new, PATTERNS)).numpy() - mean) / deviation
    known = np.split(
        imputer.transform(projected(bases, asked)), np.cumsum([b.n_components_ for b in bases.values()]), 1
    )
    whole = np.hstack([basis.inverse_transform(part) for basis, part in zip(bases.values(), known, strict=False)])
    expected = np.where(np.isnan(asked), whole * deviation + mean, flat(new).numpy())
    torch.testing.assert_close(found, torch.as_tensor(expected), atol=1e-5, rtol=0)


def test_modality_that_too_few_rows_have_stays_out_of_the_chain() -> None:
    training, available = vectors(60), torch.tensor([[True, True, False]]).repeat(60, 1)
    available[:9, 2] = True
    stand_in = fitted(Iterative, training, available)
    alone = filled(stand_in, vectors(8, 1), PATTERNS)
    torch.testing.assert_close(alone[PATTERNS[:, 2].logical_not(), 11:], training["c"][:9].mean(dim=0).expand(4, 4))
    # What is known of c changes no prediction of the others.
    for row, other in ((2, 3), (4, 5)):
        assert PATTERNS[row, :2].equal(PATTERNS[other, :2])
        rows = {n: x[:1].repeat(2, *[1] * (x.dim() - 1)) for n, x in vectors(1, 2).items()}
        found = filled(stand_in, rows, PATTERNS[[row, other]])
        torch.testing.assert_close(found[0, :11], found[1, :11])


@pytest.mark.parametrize("kind", [Ridge, Iterative])
def test_prediction_is_nearer_than_the_mean(kind: type[PatternStandIn]) -> None:
    training, available, new = vectors(200), some(200), vectors(100, 1)
    present = some(100, 1)
    mean = Mean(VECTORS, 8).double()
    mean.fit(hidden(training, available), available)
    by_mean, _ = mean.fill(hidden(new, present), present)
    error = (filled(fitted(kind, training, available), new, present) - flat(new)).square().mean()
    assert error < 0.5 * (flat(dict(by_mean)) - flat(new)).square().mean()


@pytest.mark.parametrize("kind", [Ridge, Iterative])
def test_networks_on_the_same_rows_share_one_fit(kind: type[PatternStandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    training, available = vectors(70, seed=7), some(70, seed=7)
    first = fitted(kind, training, available)
    monkeypatch.setattr(kind, "fitted_maps", lambda *_: pytest.fail("fitted again"))
    second = fitted(kind, training, available)
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(pytest.fail.Exception, match="fitted again"):
        fitted(kind, training, ~available | available.roll(1))


@pytest.mark.parametrize("kind", [Ridge, Iterative])
def test_network_of_one_modality_gets_its_mean(kind: type[PatternStandIn]) -> None:
    x = vectors(30)["a"]
    stand_in = kind({"a": Modality((5,))}, 8).double()
    stand_in.fit({"a": x}, torch.ones(30, 1, dtype=torch.bool))
    found, _ = stand_in.fill({"a": x[:2]}, torch.tensor([[False], [True]]))
    torch.testing.assert_close(found["a"], torch.stack([x.mean(dim=0), x[1]]))


@pytest.mark.parametrize("kind", [Ridge, Iterative])
def test_empty_cell_of_a_modality_that_is_there_counts_as_its_mean(kind: type[PatternStandIn]) -> None:
    stand_in = fitted(kind, vectors(60), some(60))
    new, present = vectors(1, 1), torch.tensor([[True, False, False]])
    holed, meant = new["a"].clone(), new["a"].clone()
    holed[0, 2] = torch.nan
    meant[0, 2] = stand_in.standardise["a"].mean[2]
    found = filled(stand_in, {**new, "a": holed}, present)[:, 5:]
    torch.testing.assert_close(found, filled(stand_in, {**new, "a": meant}, present)[:, 5:])


@pytest.mark.parametrize(
    ("kind", "arguments", "expected"),
    [
        (Ridge, {"alphas": [1.0, 0.0]}, "absent.alphas: expected penalties above 0"),
        (Ridge, {"alphas": []}, "absent.alphas: expected penalties above 0"),
        (Iterative, {"components": 0}, "absent.components: expected at least 1"),
        (Iterative, {"rounds": 0}, "absent.rounds: expected at least 1"),
        (Iterative, {"n_nearest_features": 0}, "absent.n_nearest_features: expected at least 1"),
        (Iterative, {"alpha": 0.0}, "absent.alpha: expected a penalty above 0"),
    ],
)
def test_ranges_are_told_with_the_fields_name(kind: Any, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        kind(VECTORS, 8, **arguments)


def test_seven_modalities_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="ridge holds a map per pattern, for at most 6 modalities, got 7"):
        Ridge({f"m{i}": Modality((2,)) for i in range(7)}, 8)
