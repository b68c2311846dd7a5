"""Columns that tell the label by themselves, and honest ones that do not."""

import pandas as pd
import pytest
import torch

from kd.data import load_source
from kd.data.columns import Frame
from kd.data.leaks.telling import label_columns, suspect_columns, telling_columns
from kd.data.source import Source


def source(x, label, **fields):
    return Source(name="rows", inputs={"a": x}, label=label, classes=3, **fields)


LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def test_column_that_renames_the_classes_is_found():
    x = torch.stack([torch.arange(6.0), torch.tensor([7.0, -1, 3])[LABEL], torch.tensor([7.0, 7, 3])[LABEL]], dim=1)
    assert label_columns(source(x, LABEL)) == ["a[1]"]


def test_column_that_gives_the_label_away_on_its_observed_rows_is_found():
    x = LABEL.float()[:, None].clone()
    x[0] = float("nan")
    observed = torch.tensor([[False]] + [[True]] * 5)
    assert label_columns(source(x, LABEL, observed=observed)) == ["a[0]"]
    x[1] = 5.0
    assert label_columns(source(x, LABEL, observed=observed)) == []


def test_affine_copy_of_a_regression_target_is_found():
    target = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    x = torch.stack([target[:, 1] * 2, target[:, 0] + 0.1 * target[:, 1], torch.ones(20)], dim=1)
    assert label_columns(source(x, target, task="regression")) == ["a[0]"]


ROWS, RANDOM = 600, torch.Generator().manual_seed(0)
CLASS = (torch.arange(ROWS) // 200)[torch.randperm(ROWS, generator=RANDOM)]
NOISE = torch.randn(ROWS, generator=RANDOM)


@pytest.mark.parametrize(
    "column",
    [
        CLASS + 0.01 * NOISE,
        (2.0 * CLASS).exp() + 0.01 * NOISE,
        200.0 * CLASS + torch.arange(ROWS).float() / 10,
        ((CLASS + 3 * torch.randint(0, 10, (ROWS,), generator=RANDOM)) * 7919 % 997).float(),
    ],
    ids=["noisy", "monotone", "sorted by class", "many codes per class"],
)
def test_column_that_tells_the_classes_nearly_without_fault_is_suspected(column):
    assert suspect_columns(source(torch.stack([NOISE, column], dim=1), CLASS)) == ["a[1]"]


def test_good_features_are_not_suspected():
    good = torch.stack([CLASS + 0.3 * NOISE, (CLASS == 0) + 0.01 * NOISE, NOISE], dim=1)
    assert telling_columns(source(good, CLASS)) == {}


def test_categories_tell_by_what_they_are_and_not_by_their_order():
    rows, label = torch.arange(ROWS), torch.arange(ROWS) // 200  # sorted by class, as data often come
    frame = pd.DataFrame(
        {"name": [f"p{row}" for row in rows], "ward": [f"{k}{row % 3}" for row, k in enumerate(label)]}
    )
    assert suspect_columns(Source("rows", {"a": Frame(frame)}, label, 3)) == ["a[ward]"]


def test_few_rows_are_not_suspected_but_of_an_exact_copy():
    x = torch.stack([LABEL + torch.tensor([0, 0, 0, 0.1, 0.1, 0.1]), LABEL * 2.0], dim=1)
    assert telling_columns(source(x, LABEL)) == {"a[1]": "exactly"}


def test_a_class_that_nearly_all_rows_have_makes_no_column_suspect():
    label = (torch.arange(4000) % 2000 == 0).long()
    x = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    assert suspect_columns(Source("rows", {"a": x}, label, 2)) == []


def test_monotone_function_of_a_regression_target_is_suspected():
    target = torch.randn(500, 1, generator=torch.Generator().manual_seed(0))
    other = torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
    x = torch.cat([target**3, target + 0.3 * other], dim=1)
    assert suspect_columns(source(x, target, task="regression")) == ["a[0]"]


@pytest.mark.parametrize("name", ["mfeat", "emoji", "synthetic"])
def test_no_column_of_shipped_data_is_suspected(name):
    assert telling_columns(load_source(name)) == {}
