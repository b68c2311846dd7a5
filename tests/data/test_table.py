"""The user's own files and what they become; `test_table_faults.py` breaks them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._utils import ExceptionWrapper

from kd.data import load_source
from kd.data.columns import Images
from kd.data.module import DataModule
from kd.errors import DataError

IDS = [f"{number:03d}" for number in range(36)]
CLASSES = ["benign", "malign", "unclear"]
MODALITIES = {
    "lab": {"file": "lab.csv"},
    "scan": {"folder": "scans", "size": 8},
    "report": {"file": "reports.parquet", "text": "note"},
    "signal": {"file": "signal.npz"},
}
WHOLE = {
    "name": "table",
    "id": "patient",
    "label": {"file": "labels.csv", "column": "outcome"},
    "modalities": MODALITIES,
}


def load(folder: Path, **changes: Any) -> Any:
    return load_source(**{**WHOLE, "root": str(folder), **changes})


def edit(path: Path, line: int, cell: int, value: str) -> None:
    """Write a cell of a CSV; lines count from 1, as an editor shows them."""
    rows = [row.split(",") for row in path.read_text().splitlines()]
    rows[line - 1][cell] = value
    path.write_text("\n".join(map(",".join, rows)) + "\n")


def test_rows_are_the_labelled_ids_in_order_and_gaps_are_the_ids_that_a_file_lacks(written: Path) -> None:
    source = load(written).validate()
    assert source.ids == IDS
    assert source.modalities == ["lab", "scan", "report", "signal"]
    observed = {
        name: [IDS[row] for row in source.observed[:, c].nonzero()[:, 0]] for c, name in enumerate(source.inputs)
    }
    assert observed["lab"] == [name for name in IDS[:30] if name != "005"], "a row of empty cells lacks the table"
    assert observed["scan"] == IDS[6:]
    assert observed["report"] == [name for name in IDS[3:34] if name != "010"], "an empty text lacks the report"
    assert observed["signal"] == IDS[:20]


def test_labels_written_as_strings_become_sorted_classes(written: Path) -> None:
    source = load(written)
    assert source.class_names == CLASSES
    assert source.label.tolist() == [number % 3 for number in range(36)]


def test_whole_numbers_as_labels_are_sorted_as_numbers(own: Path) -> None:
    labels = pd.read_csv(own / "labels.csv", dtype=str)
    labels["outcome"] = [["2", "10", "9"][number % 3] for number in range(36)]
    labels.to_csv(own / "labels.csv", index=False)
    assert load(own).class_names == ["2", "9", "10"]


def test_cells_become_numbers_categories_and_holes(written: Path) -> None:
    source = load(written)
    table = source.inputs["lab"]
    fitted = table.fit(torch.arange(30))
    assert fitted.processor.names == ["age", "dose", "ward=north", "ward=south", "ward=west"]
    assert fitted.modality.holes
    rows = fitted.take(torch.arange(36))
    assert rows[4].isnan().tolist() == [True, False, False, False, False]
    cells = pd.read_csv(written / "lab.csv")
    assert rows[:3, 0].tolist() == pytest.approx(cells["age"][:3].tolist(), rel=1e-6)
    assert (rows[:4, 2:].sum(dim=1) == 1).all()


def test_columns_that_something_else_names_are_not_features(own: Path) -> None:
    lab, labels = pd.read_csv(own / "lab.csv", dtype=str), pd.read_csv(own / "labels.csv", dtype=str)
    lab.merge(labels.assign(note="it is said"), on="patient").to_csv(own / "all.csv", index=False)
    source = load(
        own,
        label={"file": "all.csv", "column": "outcome"},
        group={"file": "all.csv", "column": "family"},
        modalities={
            "lab": {"file": "all.csv", "drop": ["risk", "score"]},
            "words": {"file": "all.csv", "text": "note"},
        },
    )
    assert list(source.inputs["lab"].frame) == ["age", "dose", "ward"]


def test_ids_keep_their_zeros_in_every_kind_of_file(own: Path) -> None:
    pd.read_csv(own / "lab.csv", dtype={"patient": str}).to_parquet(own / "lab.parquet")
    modalities = MODALITIES | {"lab": {"file": "lab.parquet"}}
    assert torch.equal(load(own, modalities=modalities).observed, load(own).observed)


def test_parquet_and_csv_of_the_same_cells_give_the_same_features(own: Path) -> None:
    pd.read_csv(own / "lab.csv", dtype={"patient": str}).to_parquet(own / "lab.parquet")
    modalities = {"lab": {"file": "lab.parquet"}}
    rows = torch.arange(29)
    one = load(own, modalities=modalities, unlabelled="drop").inputs["lab"].fit(rows).take(rows)
    two = load(own, modalities={"lab": {"file": "lab.csv"}}, unlabelled="drop").inputs["lab"].fit(rows).take(rows)
    torch.testing.assert_close(one, two, equal_nan=True)


def test_words_that_stand_for_nothing_are_holes(own: Path) -> None:
    edit(own / "lab.csv", 3, 1, "NA")
    edit(own / "lab.csv", 4, 1, "-999")
    table = load(own, missing=["NA", -999]).inputs["lab"]
    assert table.frame["age"][:30].isna().to_numpy().nonzero()[0].tolist() == [1, 2, 4, 5]


def test_a_semicolon_a_byte_order_mark_and_quoted_lines_are_read(own: Path) -> None:
    content = (own / "lab.csv").read_text().replace(",", ";").replace("north", '"no\nrth"')
    (own / "lab.csv").write_text(content, encoding="utf-8-sig")
    pd.read_csv(own / "labels.csv", dtype={"patient": str}).to_parquet(own / "labels.parquet")
    source = load(own, separator=";", label={"file": "labels.parquet", "column": "outcome"})
    assert set(source.inputs["lab"].frame["ward"].dropna()) == {"no\nrth", "south", "west"}


def test_ids_without_a_label_can_be_left_out_and_the_card_counts_them(own: Path) -> None:
    lines = (own / "labels.csv").read_text().splitlines()
    (own / "labels.csv").write_text("\n".join(lines[:-2]) + "\n")
    source = load(own, unlabelled="drop")
    assert source.ids == IDS[:-2]
    assert "2 ids without a label (the first '034')" in source.card["left_out"]


def test_a_labelled_id_without_any_modality_is_no_row_and_the_card_counts_it(own: Path) -> None:
    with open(own / "labels.csv", "a") as stream:
        stream.write("999,benign,f9,0,0\n")
    source = load(own)
    assert source.ids == IDS
    assert "1 labelled ids without any modality (the first '999')" in source.card["left_out"]


def test_a_text_may_be_read_as_letter_ngrams(written: Path) -> None:
    report = {"file": "reports.parquet", "text": "note", "pieces": "ngrams"}
    column = load(written, modalities={"report": report}).inputs["report"]
    assert "ti" in column.fit(torch.arange(5)).processor.known


def test_groups_are_read_and_never_divided(written: Path) -> None:
    source = load(written, group={"file": "labels.csv", "column": "family"})
    assert source.group.tolist() == [number // 6 for number in range(36)]


@pytest.mark.parametrize(("task", "column"), [("regression", "score"), ("multilabel", "risk")])
def test_numbers_as_labels_keep_their_values(written: Path, task: str, column: str) -> None:
    source = load(written, task=task, label={"file": "labels.csv", "columns": [column]}).validate()
    expected = pd.read_csv(written / "labels.csv")[column]
    assert source.label[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert source.class_names == [column]


def test_arrays_are_vectors_sequences_or_pictures_by_their_shape(own: Path) -> None:
    ids = np.array(IDS)
    np.savez(own / "steps.npz", id=ids, values=np.ones((36, 4, 2)))
    np.savez(own / "photos.npz", id=ids, values=np.zeros((36, 3, 6, 6), np.uint8))
    holes = np.arange(72.0).reshape(36, 2)
    holes[1, 0] = holes[2] = np.nan
    np.savez(own / "holes.npz", id=ids, values=holes)
    modalities = {name: {"file": f"{name}.npz"} for name in ("steps", "photos", "holes")}
    source = load(own, modalities=modalities).validate()
    assert {name: m.kind for name, m in source.modality.items()} == {
        "steps": "sequence",
        "photos": "image",
        "holes": "vector",
    }
    assert source.modality["holes"].holes
    assert (~source.observed).nonzero().tolist() == [[2, 2]], "NaN throughout is a row that lacks the modality"


def test_pictures_are_decoded_once_or_on_demand_into_the_same_source(written: Path) -> None:
    eager, lazy = load(written, in_memory=True), load(written, in_memory=False)
    assert isinstance(eager.inputs["scan"], Images)
    assert eager.inputs["scan"].decoded.shape == (36, 3, 8, 8)
    assert lazy.inputs["scan"].decoded is None
    assert eager.fingerprint == lazy.fingerprint


def test_memory_and_workers_give_the_same_batches_for_a_seed(written: Path) -> None:
    batches = []
    for in_memory, workers in ((True, 0), (False, 0), (False, 2)):
        data = DataModule(load(written, in_memory=in_memory), batch_size=5, seed=3, workers=workers)
        batches.append(list(data.train_dataloader()))
    first, *others = batches
    assert len(first) > 2
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one.index, two.index)
            assert torch.equal(one.present, two.present)
            for name, value in one.inputs.items():
                torch.testing.assert_close(value, two.inputs[name], rtol=0, atol=0, equal_nan=True)


def test_several_faults_come_at_once(own: Path) -> None:
    edit(own / "lab.csv", 7, 1, "old")
    edit(own / "labels.csv", 4, 1, "")
    (own / "scans" / "007.png").write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        load(own)
    assert len(caught.value.faults) == 3
    assert {re.search(r"(lab|labels)\.csv|007\.png", fault)[0] for fault in caught.value.faults} == {
        "lab.csv",
        "labels.csv",
        "007.png",
    }


def test_a_fault_in_a_worker_is_one_line_as_well(own: Path) -> None:
    column = load(own, in_memory=False).inputs["scan"]
    (own / "scans" / "007.png").unlink()
    try:
        column.take(torch.tensor([7]))
    except DataError:
        # What torch's loader does with an error in one of its processes.
        handed_on = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(DataError, match=r"007\.png: no such picture; restore it") as caught:
        handed_on.reraise()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def faults_of(folder: Path) -> list[str]:
    try:
        load(folder).validate()
    except DataError as error:
        return error.faults
    return []


FILES = ["lab.csv", "labels.csv", "reports.parquet", "signal.npz", "scans/012.png"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(FILES), st.floats(0, 1), st.integers(0, 30), st.binary(max_size=6))
def test_whatever_bytes_a_file_holds_it_is_read_or_refused(
    own: Path, file: str, place: float, gone: int, put: bytes
) -> None:
    whole = (own / file).read_bytes()
    start = int(place * len(whole))
    (own / file).write_bytes(whole[:start] + put + whole[start + gone :])
    faults = faults_of(own)
    (own / file).write_bytes(whole)
    assert all(file in fault for fault in faults)


names = st.sets(st.text("abc07", min_size=1, max_size=3), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labelled=st.sets(st.text("abc07", min_size=1, max_size=3), min_size=4, max_size=12), one=names, two=names)
def test_observed_is_membership_whatever_ids_are_shared(tmp_path: Path, labelled: set, one: set, two: set) -> None:
    for key, ids in (("one", one | set(list(labelled)[:1])), ("two", two | set(list(labelled)[:1]))):
        pd.DataFrame({"patient": list(ids), "x": [len(name) % 2 for name in ids]}).to_csv(
            tmp_path / f"{key}.csv", index=False
        )
    members = {key: set(pd.read_csv(tmp_path / f"{key}.csv", dtype=str)["patient"]) for key in ("one", "two")}
    scores = pd.DataFrame({"patient": sorted(labelled), "y": range(len(labelled))})
    scores.to_csv(tmp_path / "labels.csv", index=False)
    tree = {"id": "patient", "label": {"file": "labels.csv", "column": "y"}, "unlabelled": "drop"}
    kept = [name for name in sorted(labelled) if any(name in ids for ids in members.values())]
    if len(kept) < 2:
        return
    modalities = {key: {"file": f"{key}.csv"} for key in members}
    source = load_source("table", **tree, task="regression", root=str(tmp_path), modalities=modalities)
    assert source.ids == kept
    assert source.observed.tolist() == [[name in ids for ids in members.values()] for name in kept]
