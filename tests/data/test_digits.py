"""Digits: the pictures of scikit-learn cut into quadrants, and a copy of them that has changed."""

import pytest
import sklearn.datasets
import torch

from kd.config import Study
from kd.data.digits import CONTENT, QUADRANTS, digits
from kd.data.leaks.duplicates import copies
from kd.data.locked import load_locked
from kd.data.shipped import data_home
from kd.data.splits import split
from kd.errors import DataError
from kd.parsing import load
from kd.study import faults


@pytest.fixture(scope="module")
def source():
    return digits()


def test_rows_and_classes_are_those_that_scikit_learn_documents(source):
    # sklearn.datasets.load_digits: 1797 samples, about 180 per class, integers from 0 to 16.
    assert source.label.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert {name: m.shape for name, m in source.modality.items()} == dict.fromkeys(QUADRANTS, (16,))
    assert torch.cat(list(source.inputs.values())).unique().tolist() == list(range(17))
    source.validate()


def test_quadrants_put_together_are_the_pictures(source):
    parts = {name: value.view(-1, 4, 4) for name, value in source.inputs.items()}
    upper = torch.cat([parts["top_left"], parts["top_right"]], dim=2)
    lower = torch.cat([parts["bottom_left"], parts["bottom_right"]], dim=2)
    pictures = torch.from_numpy(sklearn.datasets.load_digits().images)
    assert torch.equal(torch.cat([upper, lower], dim=1).double(), pictures)


def test_no_picture_is_a_copy_of_another_so_that_every_row_is_its_own_group(source):
    assert len(torch.cat(list(source.inputs.values()), dim=1).unique(dim=0)) == len(source) == 1797
    assert len(copies(source).pairs) == 0
    assert source.group.tolist() == list(range(1797))


def test_selection_keeps_the_source_order_and_refuses_unknown_quadrants():
    assert digits(modalities=["bottom_left", "top_left"]).modalities == ["top_left", "bottom_left"]
    with pytest.raises(DataError, match="did you mean 'top_left'"):
        digits(modalities=["topleft"])


@pytest.mark.parametrize("what", ["pixel", "label", "row"])
def test_another_copy_of_scikit_learn_is_refused_in_one_line(what, monkeypatch):
    pixels, label = sklearn.datasets.load_digits(return_X_y=True)
    if what == "pixel":
        pixels[7, 3] += 1
    if what == "label":
        label[7] += 1
    if what == "row":
        pixels, label = pixels[:-1], label[:-1]
    monkeypatch.setattr("kd.data.digits.load_digits", lambda **_: (pixels, label))
    with pytest.raises(DataError, match=r"digits: scikit-learn [\d.]+ brings other rows .* install") as told:
        digits()
    assert "\n" not in str(told.value)


def test_a_search_leaves_the_locked_rows_out_and_a_final_split_tests_on_them(source):
    locked = load_locked("digits", source).rows
    # Classes keep their proportions: 500 of 1797 rows, give or take one.
    expected = source.label.bincount() * 500 / 1797
    assert ((source.label[locked].bincount() - expected).abs() <= 1).all()
    searched = split(source, locked="digits")
    assert not torch.isin(torch.cat([searched.train, searched.validation, searched.test]), locked).any()
    assert split(source, locked="digits", phase="final").test.tolist() == locked.tolist()


def test_a_study_of_the_fragment_has_no_fault(tmp_path):
    (tmp_path / "study.yaml").write_text(
        "use: parts/digits.yaml\nsplit: {locked: digits, phase: final}\nnodes:\n"
        '  "*": {sees: ["*"]}\n  masked: {sees: ["*"], drop: 0.5}\n'
    )
    study: Study = load(tmp_path / "study.yaml")
    assert set(study.nodes) == {*QUADRANTS, "masked"}
    assert faults(study) == []


def test_the_card_names_the_content_that_is_compared():
    assert CONTENT in (data_home() / "digits" / "CARD.md").read_text()
