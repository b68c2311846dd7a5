"""Masks from files: ours and another group's."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import split
from kd.errors import MaskError

IDS = [f"patient {row}" for row in range(40)]
SOURCE = Source("ward", {"scan": torch.zeros(40, 2), "blood": torch.ones(40, 3)}, torch.arange(40) % 2, 2, ids=IDS)
ROWS = split(SOURCE)


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return {"name": "file", "path": str(path)}


def test_a_mask_of_ours_comes_back_from_its_file_as_it_was(tmp_path) -> None:
    mask = draw(SOURCE, ROWS, {"name": "mcar", "rate": 0.3}, 4)
    mask.save(tmp_path / "mask.parquet")
    read = draw(SOURCE, ROWS, {"name": "file", "path": str(tmp_path / "mask.parquet")}, 4)
    assert torch.equal(read.keep, mask.keep)
    assert read.realised == mask.realised


def test_a_mask_of_ours_for_another_split_or_edited_by_hand_is_refused(tmp_path) -> None:
    path = tmp_path / "mask.parquet"
    draw(SOURCE, split(SOURCE, seed=1), {"name": "mcar", "rate": 0.3}, 4).save(path)
    with pytest.raises(MaskError, match="drawn for another split of ward"):
        draw(SOURCE, ROWS, {"name": "file", "path": str(path)}, 4)
    draw(SOURCE, ROWS, {"name": "mcar", "rate": 0.3}, 4).save(path)
    table = pq.read_table(path)
    flipped = pa.array([not shown for shown in table["scan"].to_pylist()])
    pq.write_table(table.set_column(0, "scan", flipped), path)
    with pytest.raises(MaskError, match="changed since it was drawn"):
        draw(SOURCE, ROWS, {"name": "file", "path": str(path)}, 4)


def test_another_groups_file_names_its_rows_in_any_order_and_touches_training_rows_only(tmp_path) -> None:
    part = write(tmp_path / "theirs.parquet", id=IDS[::-1][:30], blood=[row % 2 == 0 for row in range(39, 9, -1)])
    keep = draw(SOURCE, ROWS, part, 0).keep
    for row in range(40):
        hidden = row >= 10 and row % 2 == 1 and row in ROWS.train.tolist()
        assert keep[row].tolist() == [True, not hidden]


def test_each_seed_has_a_file_of_its_own(tmp_path) -> None:
    for seed in (0, 1):
        write(tmp_path / f"mask-{seed}.parquet", scan=[row % (seed + 2) > 0 for row in range(40)])
    part = {"name": "file", "path": str(tmp_path / "mask-{seed}.parquet")}
    assert not torch.equal(draw(SOURCE, ROWS, part, 0).keep, draw(SOURCE, ROWS, part, 1).keep)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scan": [True] * 39}, "39 rows for the 40 of ward; give it a column id"),
        ({"scam": [True] * 40}, "expected columns of scan, blood, got scam"),
        ({"id": IDS}, "expected columns of scan, blood, got id"),
        ({"scan": [1.0] * 40}, "column 'scan' is double; expected true"),
        ({"scan": [True] * 39 + [None]}, "bool with gaps"),
        ({"id": ["patient 1", "nobody"], "scan": [True, False]}, "id 'nobody' is no row of ward"),
        ({"id": ["patient 1", "patient 1"], "scan": [True, False]}, "id 'patient 1' stands there twice"),
        ({"scan": [False] * 40, "blood": [False] * 40}, "with no modality"),
    ],
)
def test_files_that_are_no_mask_of_these_data_are_refused_in_one_line(tmp_path, columns, message) -> None:
    part = write(tmp_path / "mask.parquet", **columns)
    with pytest.raises(MaskError, match=message) as refused:
        draw(SOURCE, ROWS, part, 0).available(SOURCE)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_cut_off_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(MaskError, match=r"no\.parquet: not a readable Parquet file \(No such file"):
        draw(SOURCE, ROWS, {"name": "file", "path": str(tmp_path / "no.parquet")}, 0)
    part = write(tmp_path / "mask.parquet", scan=[True] * 40)
    path = tmp_path / "mask.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MaskError, match="not a readable Parquet file"):
        draw(SOURCE, ROWS, part, 0)
