"""Rows set aside before a search: how they are drawn, kept in a file, and left out of splits."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from kd.cli import main
from kd.data import load_source, split
from kd.data.locked import Locked, load_locked, lock
from kd.data.source import Source
from kd.errors import ConfigError, DataError

SOURCE = load_source("synthetic", rows=400, classes=4)


def test_classes_keep_their_shares_and_smaller_sets_are_inside_larger_ones():
    large, small = lock(SOURCE, rows=100), lock(SOURCE, rows=40)
    assert SOURCE.label[large.rows].bincount().tolist() == [25, 25, 25, 25]
    assert set(small.rows.tolist()) <= set(large.rows.tolist())
    assert lock(SOURCE, rows=100, seed=1).rows.tolist() != large.rows.tolist()


def test_groups_stay_whole():
    grouped = replace(SOURCE, group=torch.arange(400) // 7)
    rows = lock(grouped, share=0.2).rows
    assert not set(grouped.group[rows].tolist()) & set(grouped.group[~torch.isin(torch.arange(400), rows)].tolist())
    assert len(lock(grouped, rows=100).rows) <= 100


def test_a_file_comes_back_and_one_that_was_edited_is_refused(tmp_path):
    path, found = tmp_path / "locked.json", lock(SOURCE, rows=50)
    found.save(path)
    assert Locked.load(path).hash == found.hash
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"rows": about["rows"][1:]}))
    with pytest.raises(DataError, match="edited since it was written"):
        Locked.load(path)
    with pytest.raises(DataError, match="no such file"):
        Locked.load(tmp_path / "none.json")


def test_a_file_of_other_rows_is_refused_and_one_of_other_modalities_is_not(tmp_path):
    path = tmp_path / "locked.json"
    lock(SOURCE, rows=50).save(path)
    load_locked(str(path), SOURCE.select(["m0"]))
    with pytest.raises(DataError, match="drawn for other rows than those of synthetic"):
        load_locked(str(path), load_source("synthetic", rows=404, classes=4))


def test_a_search_leaves_locked_rows_out_and_a_final_split_tests_on_them(tmp_path):
    path, found = str(tmp_path / "locked.json"), lock(SOURCE, rows=80)
    found.save(path)
    for fold in range(3):
        parts = split(SOURCE, locked=path, folds=3, fold=fold)
        every = torch.cat([parts.train, parts.validation, parts.test])
        assert len(every) == 320
        assert not torch.isin(every, found.rows).any()
    final = split(SOURCE, locked=path, phase="final", validation=0.1)
    assert final.test.tolist() == found.rows.tolist()
    assert (len(final.train), len(final.validation)) == (280, 40)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"phase": "final"}, "tests on locked rows; name their file"),
        ({"locked": "mfeat"}, "drawn for other rows"),
        ({"locked": "nothing"}, "no such file of locked rows"),
    ],
)
def test_wrong_settings_are_told(settings, said):
    with pytest.raises(DataError, match=said):
        split(SOURCE, **settings)


def test_folds_have_no_final_phase(tmp_path):
    path = str(tmp_path / "locked.json")
    lock(SOURCE, rows=80).save(path)
    with pytest.raises(DataError, match="final has one test part, remove folds"):
        split(SOURCE, locked=path, phase="final", folds=3)


@pytest.mark.parametrize(("name", "rows"), [("mfeat", 500), ("emoji", 369), ("digits", 500)])
def test_shipped_sets_are_what_the_command_draws(name, rows, tmp_path, capsys):
    source: Source = load_source(name)
    shipped = load_locked(name, source)
    assert len(shipped.rows) == rows
    asked = {"mfeat": "rows=500", "emoji": "share=0.2", "digits": "rows=500"}[name]
    assert main(["data", "lock", name, asked, f"to={tmp_path / 'mine.json'}"]) == 0
    assert Locked.load(tmp_path / "mine.json").hash == shipped.hash
    assert shipped.hash in capsys.readouterr().out


@pytest.mark.parametrize("wanted", [{}, {"rows": 10, "share": 0.1}, {"rows": 0}, {"share": 1.0}])
def test_a_set_of_nothing_or_of_everything_is_refused(wanted):
    with pytest.raises(ConfigError, match="lock: "):
        lock(SOURCE, **wanted)
