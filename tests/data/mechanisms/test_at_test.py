"""Masks over test rows: the training mask's process, fitted to training rows, in draws of its own."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from kd.data import load_source
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.mechanisms.dependent import laws
from kd.data.source import Source
from kd.data.splits import Split, split
from kd.errors import MaskError

PARTS = [
    {"name": "complete"},
    {"name": "mcar", "rate": 0.4},
    {"name": "pattern", "chances": {"m0+m1": 0.5, "m2": 0.3, "m0+m1+m2": 0.2}},
    {"name": "mar", "driver": "m1", "rate": 0.4},
    {"name": "mnar", "given": "value", "rate": 0.4},
    {"name": "mnar", "given": "label", "rate": 0.4},
]
DEPENDENT = PARTS[3:]
SOURCE = load_source("synthetic", rows=12_000)
SPLIT = split(SOURCE, test=0.5)


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_test_mask_leaves_all_other_rows_alone_and_is_reproducible(part) -> None:
    mask, again, other = (draw(SOURCE, SPLIT, part, seed, hides="test") for seed in (0, 0, 1))
    assert mask.keep[torch.cat([SPLIT.train, SPLIT.validation])].all()
    assert mask.fingerprint == again.fingerprint != other.fingerprint
    assert part["name"] == "complete" or not torch.equal(mask.keep, other.keep)
    assert mask.realised["m2"] == pytest.approx(float((~mask.keep[SPLIT.test, 2]).double().mean()))


def twins() -> tuple[Source, Split]:
    """Return a source whose test rows are its training rows once more."""
    rows = torch.arange(6000)
    twice = torch.cat([rows, rows])
    source = replace(SOURCE, inputs={k: v[twice] for k, v in SOURCE.inputs.items()}, label=SOURCE.label[twice])
    return source, Split(rows, torch.empty(0, dtype=torch.int64), rows + 6000)


@pytest.mark.parametrize("part", PARTS[1:], ids=str)
def test_given_the_law_who_is_hidden_at_test_is_independent_of_the_training_mask(part) -> None:
    # On twins one stream for both would hide the same places: a correlation of 1.
    source, halves = twins()
    train = (~draw(source, halves, part, 0).keep[halves.train]).double()
    test = (~draw(source, halves, part, 0, hides="test").keep[halves.test]).double()
    chance = train.mean(dim=0).expand(6000, 3).clone()
    for name, law in (laws(source, halves, 0, part) if part in DEPENDENT else {}).items():
        chance[:, source.modalities.index(name)] = law.of_rows(source, halves.train)
    product = (train - chance) * (test - chance)
    assert (product.mean(dim=0).abs() <= 4 * product.std(dim=0) / math.sqrt(6000) + 1e-12).all()


@pytest.mark.parametrize("part", DEPENDENT, ids=str)
def test_laws_are_fitted_to_training_rows_alone(part) -> None:
    moved = {k: v.clone() for k, v in SOURCE.inputs.items()}
    for value in moved.values():
        value[SPLIT.test] = value[SPLIT.test] * 3 + 5
    shifted = replace(SOURCE, inputs=moved)
    x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    for name, law in laws(SOURCE, SPLIT, 0, part).items():
        row = torch.arange(4) if law.reads == "label" else x
        assert torch.equal(law.chance(row), laws(shifted, SPLIT, 0, part)[name].chance(row))


@pytest.mark.parametrize("part", DEPENDENT, ids=str)
@pytest.mark.parametrize("hides", ["train", "test"])
def test_rows_are_hidden_as_often_as_the_one_law_says(part, hides) -> None:
    # In ten groups of rows by their chance under the law, the share hidden is the mean chance.
    rows = SPLIT.train if hides == "train" else SPLIT.test
    hidden = ~draw(SOURCE, SPLIT, part, 2, hides=hides).keep[rows]
    found = laws(SOURCE, SPLIT, 2, part)
    assert set(found) == set(SOURCE.modalities) - {part.get("driver")}
    for name, law in found.items():
        read = SOURCE.label if law.reads == "label" else SOURCE.inputs[law.reads]
        chance = law.chance(read[rows])
        for group in chance.argsort().chunk(10):
            error = math.sqrt(float((chance[group] * (1 - chance[group])).sum())) / len(group)
            share = hidden[group, SOURCE.modalities.index(name)].double().mean()
            assert abs(float(share - chance[group].mean())) < 4 * error


@pytest.mark.parametrize("part", DEPENDENT, ids=str)
def test_the_rate_holds_on_training_rows_and_drifts_where_test_rows_do(part) -> None:
    rate = {"mar": {"m2": 0.3}}.get(part["name"], 0.3)
    train = draw(SOURCE, SPLIT, {**part, "rate": rate}, 0).realised["m2"]
    test = draw(SOURCE, SPLIT, {**part, "rate": rate}, 0, hides="test").realised["m2"]
    assert [train, test] == pytest.approx([0.3, 0.3], abs=0.04)
    if part.get("given") == "label":
        return
    inputs = {k: v.clone() for k, v in SOURCE.inputs.items()}
    read = part.get("driver", "m2")
    score = laws(SOURCE, SPLIT, 0, part)["m2"].score
    inputs[read][SPLIT.test] += 2 * (score.direction * score.scale).float()
    moved = draw(replace(SOURCE, inputs=inputs), SPLIT_BY_HAND, {**part, "rate": rate}, 0, hides="test")
    assert moved.realised["m2"] > test + 0.1


SPLIT_BY_HAND = Split(SPLIT.train, SPLIT.validation, SPLIT.test)


@pytest.mark.parametrize(
    "part", [{"name": "severe", "complete": 20}, {"name": "file", "path": "mask.parquet"}], ids=str
)
def test_what_is_no_process_of_single_rows_is_refused_for_test_rows(part) -> None:
    with pytest.raises(MaskError, match="is no process that test rows could undergo") as refused:
        draw(SOURCE, SPLIT, part, 0, hides="test")
    assert "\n" not in str(refused.value)


def test_a_mask_of_test_rows_comes_back_from_its_file_and_is_refused_in_training(tmp_path) -> None:
    mask = draw(SOURCE, SPLIT, DEPENDENT[0], 0, hides="test")
    mask.save(tmp_path / "mask.parquet")
    again = Mask.load(tmp_path / "mask.parquet")
    assert (again.fingerprint, again.hides) == (mask.fingerprint, "test")
    with pytest.raises(MaskError, match="hides modalities of test rows, expected train"):
        again.check(SOURCE, SPLIT)
    with pytest.raises(MaskError, match="hides modalities of test rows"):
        draw(SOURCE, SPLIT, {"name": "file", "path": str(tmp_path / "mask.parquet")}, 0)


def test_a_mechanism_that_tells_no_rows_apart_has_no_law() -> None:
    with pytest.raises(MaskError, match="mcar tells no rows apart"):
        laws(SOURCE, SPLIT, 0, {"name": "mcar"})
