"""Splits: disjoint, stratified, whole groups, fixed by a seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.data.source import Source
from kd.data.splits import Split, split
from kd.errors import DataError, LeakError


def rows_of(count=400, classes=4, **fields):
    label = fields.pop("label", torch.arange(count) % classes)
    return Source(name="rows", inputs={"a": torch.zeros(count, 1)}, label=label, classes=classes, **fields)


def test_split_covers_every_row_once():
    parts = split(rows_of())
    assert torch.cat([parts.train, parts.validation, parts.test]).sort().values.tolist() == list(range(400))
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [260, 40, 100]


def test_split_is_stratified_by_class():
    source = rows_of()
    parts = split(source, seed=3)
    assert source.label[parts.test].bincount().tolist() == [25] * 4
    assert source.label[parts.validation].bincount().tolist() == [10] * 4


def test_split_is_fixed_by_its_seed():
    source = rows_of()
    assert split(source).fingerprint == split(source).fingerprint != split(source, seed=1).fingerprint


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=30, max_size=60), seed=st.integers(0, 1000))
def test_groups_are_never_cut(sizes, seed):
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    source = rows_of(len(group), classes=2, group=group)
    split(source, seed=seed).validate(source)


def test_multilabel_and_regression_are_split_without_strata():
    source = rows_of(40, classes=2, label=torch.rand(40, 2), task="regression")
    assert len(split(source).test) == 10


@pytest.mark.parametrize("fractions", [(0.0, 0.1), (0.5, 0.5), (1.0, 0.1), (0.25, 0.0)])
def test_empty_part_is_refused_in_one_line(fractions):
    with pytest.raises(DataError) as caught:
        split(rows_of(), test=fractions[0], validation=fractions[1])
    assert "\n" not in str(caught.value)


def test_class_too_rare_to_stratify_is_refused_in_one_line():
    with pytest.raises(DataError, match="rows: split") as caught:
        split(rows_of(40, label=torch.tensor([1] + [0] * 39)))
    assert "\n" not in str(caught.value)


def test_overlapping_parts_are_a_leak():
    with pytest.raises(LeakError, match=r"both train and test, the first \[1\]"):
        Split(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([1, 3])).validate()


def test_cut_group_is_a_leak():
    source = rows_of(4, classes=2, group=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(LeakError, match="group"):
        Split(torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3])).validate(source)


def test_folds_test_every_row_once_and_keep_groups_whole():
    source = rows_of(group=torch.arange(400) // 4, label=(torch.arange(400) // 4) % 4)
    folds = [split(source, folds=3, fold=fold) for fold in range(3)]
    assert torch.cat([each.test for each in folds]).sort().values.tolist() == list(range(400))
    for each in folds:
        assert not set(source.group[each.test].tolist()) & set(source.group[each.train].tolist())
        assert torch.cat([each.train, each.validation, each.test]).sort().values.tolist() == list(range(400))
        # 100 groups of 4 in 4 classes: a third of each class, give or take a group.
        assert all(abs(count - 100 / 3) <= 4 for count in source.label[each.test].bincount().tolist())
    assert torch.equal(split(source, folds=3, fold=4).test, folds[1].test)


@pytest.mark.parametrize("lost", [[], [0], [0, 50, 1200, 2999], list(range(50))])
def test_as_many_folds_as_speakers_leave_one_speaker_out(lost):
    # Six speakers say each of ten words 50 times; a recording that is lost, or a word, changes nothing in that.
    kept = torch.ones(3000, dtype=torch.bool)
    kept[lost] = False
    speaker, word = torch.arange(3000) // 500, torch.arange(3000) // 50 % 10
    source = rows_of(int(kept.sum()), classes=10, label=word[kept], group=speaker[kept])
    tested = []
    for fold in range(6):
        parts = split(source, folds=6, fold=fold).validate(source)
        train, validation, test = (
            source.group[ids].unique().tolist() for ids in (parts.train, parts.validation, parts.test)
        )
        assert (len(train), len(validation), len(test)) == (4, 1, 1)
        assert sorted(train + validation + test) == list(range(6))
        tested += test
    assert sorted(tested) == list(range(6))


@pytest.mark.parametrize(("folds", "message"), [(1, "expected at least 2"), (300, "no 300 folds")])
def test_impossible_folds_are_refused_in_one_line(folds, message):
    with pytest.raises(DataError, match=message) as refused:
        split(rows_of(), folds=folds)
    assert "\n" not in str(refused.value)
