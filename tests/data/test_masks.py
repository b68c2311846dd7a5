"""Masks: the contract of every mechanism, then each one's law, then the file."""

import itertools
import math
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.data import MECHANISMS, masks
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import Split, split
from kd.errors import ConfigError, MaskError

FILES = Path(tempfile.mkdtemp())
PARTS = {
    "file": {"name": "file", "path": str(FILES / "mask-{seed}.parquet")},
    "complete": {"name": "complete"},
    "mcar": {"name": "mcar", "rate": 0.4},
    "pattern": {"name": "pattern", "chances": {"a+b": 0.5, "c": 0.3, "a+b+c": 0.2}},
    "mar": {"name": "mar", "driver": "b", "rate": 0.4},
    "mnar": {"name": "mnar", "given": "label", "rate": 0.4},
    "severe": {"name": "severe", "complete": 100, "pool": 300},
    "block": {"name": "block", "rate": 0.4, "sites": 40},
    "cells": {"name": "cells", "rate": 0.4},
    "span": {"name": "span", "rate": 0.4},
    "unlabelled": {"name": "unlabelled", "rate": 0.4},
    "joint": {
        "name": "joint",
        "parts": {"scans": {"name": "mcar", "rate": 0.4}, "labels": {"name": "unlabelled", "labels": 90}},
    },
}


def rows_of(count=4000, modalities=("a", "b", "c"), classes=4, observed=None):
    return Source(
        name="rows",
        inputs={name: torch.zeros(count, 4) for name in modalities},
        label=torch.arange(count) % classes,
        classes=classes,
        observed=observed,
    )


for number in range(8):
    shown = torch.rand(4000, 3, generator=torch.Generator().manual_seed(number)) > 0.3
    shown[:, 0] |= ~shown.any(dim=1)
    pq.write_table(
        pa.table({name: shown[:, i].numpy() for i, name in enumerate("abc")}), FILES / f"mask-{number}.parquet"
    )

SOURCE = rows_of()
SPLIT = split(SOURCE)
TRAIN = SPLIT.train


def everything(mask):
    """Return whatever a mask shows and hides, bool [N, ...]."""
    labelled = torch.ones(len(mask.keep), 1, dtype=torch.bool) if mask.labelled is None else mask.labelled[:, None]
    return torch.cat([mask.keep, labelled, *(kept.flatten(1) for _, kept in sorted(mask.cells.items()))], dim=1)


def test_every_mechanism_has_a_contract_case():
    assert set(PARTS) == set(MECHANISMS)


@pytest.mark.parametrize("name", MECHANISMS)
def test_mask_is_reproducible_by_its_seed(name):
    first, again, other = (draw(SOURCE, SPLIT, PARTS[name], seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert torch.equal(everything(first), everything(again))
    assert first.fingerprint != other.fingerprint
    assert name == "complete" or not torch.equal(everything(first), everything(other))


@pytest.mark.parametrize("name", MECHANISMS)
def test_mask_leaves_validation_and_test_rows_alone(name):
    shown = everything(draw(SOURCE, SPLIT, PARTS[name], 0))
    assert shown[SPLIT.validation].all()
    assert shown[SPLIT.test].all()


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("order", list(itertools.permutations("abc"))[1:])
def test_order_of_modalities_changes_no_modality_s_mask(name, order):
    base = draw(SOURCE, SPLIT, PARTS[name], 3)
    other = rows_of(modalities=order)
    moved = draw(other, Split(SPLIT.train, SPLIT.validation, SPLIT.test), PARTS[name], 3)
    for column, modality in enumerate("abc"):
        assert torch.equal(base.keep[:, column], moved.keep[:, order.index(modality)])
        assert modality not in base.cells or torch.equal(base.cells[modality], moved.cells[modality])


@pytest.mark.parametrize("name", MECHANISMS)
def test_realised_rates_are_the_mask_s_own(name):
    mask = draw(SOURCE, SPLIT, PARTS[name], 0)
    hidden = dict(zip("abc", (~mask.keep[TRAIN]).double().mean(dim=0).tolist(), strict=True))
    hidden |= {f"cells/{m}": float((~kept[TRAIN]).double().mean()) for m, kept in mask.cells.items()}
    hidden |= {} if mask.labelled is None else {"labelled": float((~mask.labelled[TRAIN]).double().mean())}
    assert mask.realised == pytest.approx(hidden)


@pytest.mark.parametrize("allow_empty", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 0.5, 0.66, {"a": 0.8, "c": 0.2}, {"a": 1.0, "b": 0.5, "c": 0.5}])
def test_mcar_realises_the_rate_asked_within_a_binomial_bound(rate, allow_empty):
    mask = draw(SOURCE, SPLIT, {"name": "mcar", "rate": rate, "allow_empty": allow_empty}, 5)
    for name, realised in mask.realised.items():
        asked = rate.get(name, 0.0) if isinstance(rate, dict) else rate
        assert abs(realised - asked) <= 4.5 * math.sqrt(asked * (1 - asked) / len(TRAIN)) + 1e-6


def pattern_counts(keep):
    codes = keep.long() @ torch.tensor([1, 2, 4])
    return codes.bincount(minlength=8).double()


def test_mcar_with_empty_rows_draws_modalities_independently():
    hidden = (~draw(SOURCE, SPLIT, {"name": "mcar", "rate": 0.4, "allow_empty": True}, 0).keep[TRAIN]).double()
    correlation = torch.corrcoef(hidden.T)
    assert (correlation - torch.eye(3)).abs().max() < 4.5 / math.sqrt(len(TRAIN))


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.6, 0.65])
def test_mcar_without_empty_rows_follows_the_conditioned_law(rate):
    # Derived apart, for M = 3 and equal rates: r = (q - q^3) / (1 - q^3) = q (1 + q) / (1 + q + q^2), solved for q.
    q = (-(1 - rate) + math.sqrt((1 - rate) ** 2 + 4 * (1 - rate) * rate)) / (2 * (1 - rate))
    assert q * (1 + q) / (1 + q + q**2) == pytest.approx(rate)
    kept = torch.tensor([bin(code).count("1") for code in range(8)]).double()
    law = (1 - q) ** kept * q ** (3 - kept) / (1 - q**3)
    law[0] = 0
    counts = pattern_counts(draw(SOURCE, SPLIT, {"name": "mcar", "rate": rate}, 1).keep[TRAIN])
    expected = law * len(TRAIN)
    assert counts[0] == 0
    chi_square = ((counts - expected)[1:] ** 2 / expected[1:]).sum()
    assert chi_square < 29.9  # 6 degrees of freedom, p = 4e-5 (scipy.stats.chi2.isf)


def test_mcar_at_its_bound_keeps_exactly_one():
    keep = draw(SOURCE, SPLIT, {"name": "mcar", "rate": 2 / 3}, 0).keep[TRAIN]
    assert (keep.sum(dim=1) == 1).all()
    assert keep.double().mean(dim=0).tolist() == pytest.approx([1 / 3] * 3, abs=0.045)


def test_mcar_beyond_its_bound_says_what_is_possible():
    with pytest.raises(MaskError, match=r"at most 0\.6667"):
        draw(SOURCE, SPLIT, {"name": "mcar", "rate": 0.7}, 0)
    mask = draw(SOURCE, SPLIT, {"name": "mcar", "rate": 0.9, "allow_empty": True}, 0)
    assert not mask.available(SOURCE)[TRAIN].any(dim=1).all()


@pytest.mark.parametrize("rate", [-0.1, 1.1, {"d": 0.2}])
def test_mcar_rate_out_of_range_or_of_an_unknown_modality_is_refused(rate):
    with pytest.raises(MaskError):
        draw(SOURCE, SPLIT, {"name": "mcar", "rate": rate}, 0)


@settings(max_examples=40, deadline=None)
@given(
    rates=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    gaps=st.floats(0, 0.8),
    seed=st.integers(0, 10_000),
)
def test_mcar_leaves_every_row_something_or_refuses(rates, gaps, seed):
    names = [f"m{i}" for i in range(len(rates))]
    observed = torch.rand(60, len(names), generator=torch.Generator().manual_seed(seed)) >= gaps
    observed[:, 0] |= ~observed.any(dim=1)
    source = rows_of(60, names, 2, observed)
    parts = split(source)
    part = {"name": "mcar", "rate": dict(zip(names, rates, strict=True))}
    if sum(1 - r for r in rates) < 1 - 1e-9:
        with pytest.raises(MaskError):
            draw(source, parts, part, seed)
        return
    available = draw(source, parts, part, seed).available(source)
    assert available.any(dim=1).all()
    assert not (available & ~observed).any()


@settings(max_examples=30, deadline=None)
@given(complete=st.integers(1, 500), pool=st.none() | st.integers(0, 200), seed=st.integers(0, 10_000))
def test_severe_keeps_what_it_was_asked_or_says_what_is_possible(complete, pool, seed):
    source = rows_of(600)
    parts = split(source)
    rest = len(parts.train) - complete
    part = {"name": "severe", "complete": complete, "pool": pool}
    if rest < 0 or (pool or 0) > rest // 3:
        with pytest.raises(MaskError, match="impossible"):
            draw(source, parts, part, seed)
        return
    keep = draw(source, parts, part, seed).keep[parts.train]
    sizes = keep.sum(dim=1)
    assert (sizes == 3).sum() == complete
    assert not (sizes == 2).any()
    singles = keep[sizes == 1].sum(dim=0)
    assert singles.max() - singles.min() <= 1 if pool is None else singles.tolist() == [pool] * 3
    assert (sizes == 0).sum() == (0 if pool is None else rest - 3 * pool)


def test_severe_spreads_complete_rows_over_classes_and_nests_them():
    few, many = (draw(SOURCE, SPLIT, {"name": "severe", "complete": n}, 0).keep.all(dim=1) for n in (20, 50))
    few, many = few[TRAIN], many[TRAIN]
    assert not (few & ~many).any()
    assert SOURCE.label[TRAIN][few].bincount().tolist() == [5, 5, 5, 5]


def test_severe_counts_a_row_as_complete_only_where_nature_left_all():
    observed = torch.ones(400, 3, dtype=torch.bool)
    observed[::2, 1] = False
    source = rows_of(400, observed=observed)
    parts = split(source)
    available = draw(source, parts, {"name": "severe", "complete": 10}, 0).available(source)[parts.train]
    assert available.all(dim=1).sum() == 10
    assert available.any(dim=1).all()
    with pytest.raises(MaskError, match="allow 1 to"):
        draw(source, parts, {"name": "severe", "complete": len(parts.train)}, 0)


def test_rows_beyond_the_pools_hold_nothing_and_are_accepted():
    available = draw(SOURCE, SPLIT, PARTS["severe"], 0).available(SOURCE)
    assert int((~available.any(dim=1)).sum()) == len(TRAIN) - 100 - 3 * 300


def test_mask_that_empties_a_row_unasked_is_refused():
    mask = draw(SOURCE, SPLIT, {"name": "complete"}, 0)
    keep = mask.keep.clone()
    keep[7] = False
    with pytest.raises(MaskError, match="first row 7"):
        Mask(**{**vars_of(mask), "keep": keep}).available(SOURCE)


def vars_of(mask):
    return {name: getattr(mask, name) for name in mask.__dataclass_fields__}


def test_mask_of_another_source_or_split_is_refused():
    mask = draw(SOURCE, SPLIT, PARTS["mcar"], 0)
    assert mask.check(SOURCE, SPLIT) is mask
    with pytest.raises(MaskError, match="another source"):
        mask.check(rows_of(modalities=("c", "b", "a")), SPLIT)
    with pytest.raises(MaskError, match="another source"):
        mask.available(SOURCE.select(["a", "b"]))
    with pytest.raises(MaskError, match="another split"):
        mask.check(SOURCE, split(SOURCE, seed=1))
    with pytest.raises(MaskError, match="split belongs to another source"):
        draw(SOURCE.select(["a", "b"]), SPLIT, PARTS["mcar"], 0)


@pytest.mark.parametrize("part", [*PARTS.values(), {"name": "mcar", "rate": {"a": 0.2, "b": 0}}])
def test_saved_mask_comes_back_the_same(part, tmp_path):
    mask = draw(SOURCE, SPLIT, part, 4)
    mask.save(tmp_path / "mask.parquet")
    again = Mask.load(tmp_path / "mask.parquet").check(SOURCE, SPLIT)
    assert torch.equal(everything(again), everything(mask))
    tensors = ("keep", "labelled", "cells")
    assert {k: v for k, v in vars_of(again).items() if k not in tensors} == {
        k: v for k, v in vars_of(mask).items() if k not in tensors
    }
    assert again.fingerprint == mask.fingerprint


def test_edited_mask_file_is_refused_by_name(tmp_path):
    path = tmp_path / "mine.parquet"
    draw(SOURCE, SPLIT, PARTS["mcar"], 0).save(path)
    table = pq.read_table(path)
    flipped = [not value for value in table["a"].to_pylist()]
    pq.write_table(table.set_column(0, table.schema.field("a"), [flipped]), path)
    with pytest.raises(MaskError, match=r"mine\.parquet: changed since it was drawn"):
        Mask.load(path)


def test_truncated_foreign_and_absent_mask_files_are_refused_by_name(tmp_path):
    path = tmp_path / "mine.parquet"
    draw(SOURCE, SPLIT, PARTS["mcar"], 0).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    for file in (path, tmp_path / "absent.parquet"):
        with pytest.raises(MaskError, match=file.name) as caught:
            Mask.load(file)
        assert "\n" not in str(caught.value)


def test_unknown_mechanism_or_argument_is_a_config_fault():
    with pytest.raises(ConfigError, match="did you mean 'mcar'"):
        draw(SOURCE, SPLIT, {"name": "mcr"}, 0)
    with pytest.raises(ConfigError, match="required argument"):
        draw(SOURCE, SPLIT, {"name": "severe"}, 0)


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (masks.complete(seed=2), {"name": "complete"}),
        (masks.mcar(0.2, seed=2), {"name": "mcar", "rate": 0.2}),
        (masks.severe(complete=50, seed=2), {"name": "severe", "complete": 50}),
        (masks.block(0.2, sites=9, seed=2), {"name": "block", "rate": 0.2, "sites": 9}),
        (masks.cells(0.2, seed=2), {"name": "cells", "rate": 0.2}),
        (masks.span({"a": 0.2}, seed=2), {"name": "span", "rate": {"a": 0.2}}),
        (masks.unlabelled(labels=40, seed=2), {"name": "unlabelled", "labels": 40}),
        (
            masks.joint({"one": masks.mcar(0.2), "two": masks.span()}, seed=2),
            {"name": "joint", "parts": {"one": {"name": "mcar", "rate": 0.2}, "two": {"name": "span"}}},
        ),
    ],
)
def test_request_in_python_is_the_part_in_yaml(request_, part):
    assert request_.draw(SOURCE, SPLIT).fingerprint == draw(SOURCE, SPLIT, part, 2).fingerprint
