"""Every way we know of breaking a user's own folder: one line with file, row and fix through `kd check`, status 2."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

Tree = dict[str, Any]
Break = Callable[[Path, Tree], None]


def cell(file: str, line: int, column: int, value: str) -> Break:
    """Write one cell of a CSV; lines count from 1, as an editor shows them."""

    def change(folder: Path, tree: Tree) -> None:
        rows = [row.split(",") for row in (folder / file).read_text().splitlines()]
        rows[line - 1][column] = value
        (folder / file).write_text("\n".join(map(",".join, rows)) + "\n")

    return change


def added(file: str, line: str) -> Break:
    """Append a line."""

    def change(folder: Path, tree: Tree) -> None:
        with open(folder / file, "a") as stream:
            stream.write(line + "\n")

    return change


def removed(file: str) -> Break:
    return lambda folder, tree: (folder / file).unlink()


def content(file: str, written: bytes | str) -> Break:
    """Write a file anew."""
    data = written.encode() if isinstance(written, str) else written
    return lambda folder, tree: (folder / file).write_bytes(data) and None


def setting(place: str, value: Any) -> Break:
    """Set a field of `data:`; None removes it."""

    def change(folder: Path, tree: Tree) -> None:
        *parents, last = place.split(".")
        for key in parents:
            tree = tree[key]
        tree.pop(last, None)
        if value is not None:
            tree[last] = value

    return change


def column(file: str, name: str, values: Callable[[pd.DataFrame], Any]) -> Break:
    """Write a whole column of a CSV."""

    def change(folder: Path, tree: Tree) -> None:
        frame = pd.read_csv(folder / file, dtype=str)
        frame[name] = values(frame)
        frame.to_csv(folder / file, index=False)

    return change


def parquet(file: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Break:
    """Change a Parquet file."""

    def apply(folder: Path, tree: Tree) -> None:
        change(pd.read_parquet(folder / file)).to_parquet(folder / file)

    return apply


def arrays(**written: Any) -> Break:
    """Change the arrays of `signal.npz`; None leaves one out."""

    def change(folder: Path, tree: Tree) -> None:
        with np.load(folder / "signal.npz") as archive:
            found = dict(archive) | {
                key: value(dict(archive)) if callable(value) else value for key, value in written.items()
            }
        np.savez(folder / "signal.npz", **{key: value for key, value in found.items() if value is not None})

    return change


def both(*changes: Break) -> Break:
    def change(folder: Path, tree: Tree) -> None:
        for one in changes:
            one(folder, tree)

    return change


def png(mode: str = "RGB", size: int = 9) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (size, size)).save(buffer, "png")
    return buffer.getvalue()


def cut(folder: Path, tree: Tree) -> None:
    """Cut a picture off, as an interrupted copy does."""
    path = folder / "scans" / "012.png"
    path.write_bytes(path.read_bytes()[:-200])


def emptied(folder: Path, tree: Tree) -> None:
    for path in (folder / "scans").iterdir():
        path.unlink()


def with_value(row: int, value: float) -> Callable[[dict[str, Any]], Any]:
    def change(archive: dict[str, Any]) -> Any:
        values = archive["values"].copy()
        values[row, 0] = value
        return values

    return change


REGRESSION = both(setting("task", "regression"), setting("label.column", "score"))
MULTILABEL = both(setting("task", "multilabel"), setting("label", {"file": "labels.csv", "columns": ["risk", "score"]}))
PICTURES_LATER = setting("in_memory", False)

# name -> (what is broken, words that the one line holds: the file or field, the row, the fix).
BROKEN: dict[str, tuple[Break, list[str]]] = {
    "a file is missing": (removed("lab.csv"), ["data.modalities.lab.file", "lab.csv: no such file"]),
    "the labels' file is misspelt": (
        setting("label.file", "label.csv"),
        ["data.label.file", "did you mean 'labels.csv'"],
    ),
    "the folder is misspelt": (
        setting("modalities.scan.folder", "scan"),
        ["data.modalities.scan.folder", "did you mean 'scans'"],
    ),
    "the root is no folder": (setting("root", "nowhere"), ["data.root: nowhere: no such folder"]),
    "the id column is missing in one file": (
        parquet("reports.parquet", lambda frame: frame.rename(columns={"patient": "Patient"})),
        ["data.id: ", "reports.parquet has no column 'patient'", "did you mean 'Patient'"],
    ),
    "a file has another separator": (
        lambda folder, tree: content("lab.csv", (folder / "lab.csv").read_text().replace(",", ";"))(folder, tree),
        ["lab.csv has no column 'patient'", "data.separator"],
    ),
    "an id is there twice": (
        added("lab.csv", "004,50,1,west"),
        ["lab.csv: lines 6, 32", "'004' is there 2 times", "keep one"],
    ),
    "an id is there twice in arrays": (
        arrays(id=lambda a: np.array(["001", *a["id"][1:]])),
        ["signal.npz: rows 0, 1: the id '001' is there 2 times", "keep one"],
    ),
    "an id is empty": (cell("lab.csv", 9, 0, ""), ["lab.csv: line 9: the id is empty", "write one"]),
    "an id is null in Parquet": (
        parquet("reports.parquet", lambda frame: frame.assign(patient=[None, *frame["patient"][1:]])),
        ["reports.parquet: row 0: the id is empty"],
    ),
    "ids are decimal numbers": (
        parquet("reports.parquet", lambda frame: frame.assign(patient=frame["patient"].astype(float))),
        ["reports.parquet: column 'patient' holds double", "as text or whole numbers"],
    ),
    "a label's column is unknown": (
        setting("label.column", "outcme"),
        ["data.label: ", "labels.csv has no column 'outcme'", "did you mean 'outcome'"],
    ),
    "a feature's column is unknown": (
        setting("modalities.lab.columns", ["age", "doze"]),
        ["data.modalities.lab.columns", "lab.csv has no column 'doze'", "did you mean 'dose'"],
    ),
    "a dropped column is unknown": (
        setting("modalities.lab.drop", ["wards"]),
        ["data.modalities.lab.drop", "did you mean 'ward'"],
    ),
    "a column of categories is unknown": (
        setting("modalities.lab.categories", ["wards"]),
        ["data.modalities.lab.categories", "'ward'"],
    ),
    "the text's column is unknown": (
        setting("modalities.report.text", "notes"),
        ["data.modalities.report.text", "did you mean 'note'"],
    ),
    "a label is missing": (
        cell("labels.csv", 7, 1, ""),
        ["labels.csv: line 7: the label 'outcome' is empty", "unlabelled: drop"],
    ),
    "a label is NaN": (
        both(REGRESSION, cell("labels.csv", 7, 3, "NaN")),
        ["labels.csv: line 7: the label 'score' is empty", "write it"],
    ),
    "an id has no label": (
        both(added("lab.csv", "O05,50,1,west")),
        ["lab.csv: line 32: the id 'O05' has no label in", "labels.csv", "unlabelled: drop"],
    ),
    "a picture has no label": (
        content("scans/077.png", png()),
        ["scans/077.png: the id '077' has no label", "unlabelled: drop"],
    ),
    "a class has one row": (
        cell("labels.csv", 3, 1, "rare"),
        ["labels.csv: line 3: the class 'rare' has this row alone", "merge or remove"],
    ),
    "every label is the same": (
        column("labels.csv", "outcome", lambda f: "benign"),
        ["labels.csv: line 2: every label is 'benign'", "two classes"],
    ),
    "the labels are amounts": (
        setting("label.column", "score"),
        ["labels.csv: lines 2, 3, 4 and ", "the label 'score' is", "data.task: regression"],
    ),
    "a regression's label is a word": (
        both(REGRESSION, cell("labels.csv", 5, 3, "high")),
        ["labels.csv: line 5: the label 'score' is 'high'", "write a number"],
    ),
    "a regression's label is infinite": (
        both(REGRESSION, cell("labels.csv", 5, 3, "inf")),
        ["labels.csv: line 5", "'score' is infinite", "finite"],
    ),
    "a regression's label is constant": (
        both(REGRESSION, column("labels.csv", "score", lambda f: 2)),
        ["labels.csv: the label 'score' is 2 in every row"],
    ),
    "a multilabel value is above 1": (
        both(MULTILABEL, column("labels.csv", "score", lambda f: f["risk"].where(f.index != 8, "1.5"))),
        ["labels.csv: line 10: the label 'score' is 1.5", "0 to 1"],
    ),
    "a word stands among numbers": (
        cell("lab.csv", 12, 1, "n/a"),
        ["lab.csv: line 12: column 'age' holds 'n/a' among numbers", "data.missing"],
    ),
    "a number has a decimal comma": (
        cell("lab.csv", 12, 1, '"12;5"'),
        ["lab.csv: line 12: column 'age' holds '12;5'", "correct it"],
    ),
    "a number is infinite": (
        cell("lab.csv", 12, 2, "-inf"),
        ["lab.csv: line 12: column 'dose' is infinite", "leave it empty"],
    ),
    "a column is empty": (
        column("lab.csv", "dose", lambda f: ""),
        ["lab.csv: column 'dose' is empty in every row", "data.modalities.lab.drop"],
    ),
    "a column is prose": (
        lambda folder, tree: both(
            column("labels.csv", "outcome", lambda f: f["outcome"]),
            content("lab.csv", "patient,age,name\n" + "".join(f"{n:03d},{n},person {n}\n" for n in range(120))),
            setting("unlabelled", "drop"),
        )(folder, tree),
        ["lab.csv: column 'name' has 120 different values", "data.modalities.lab.drop"],
    ),
    "a column holds dates": (
        both(
            lambda folder, tree: pd.DataFrame(
                {"patient": ["001", "002"], "seen": pd.to_datetime(["2020-01-01"] * 2)}
            ).to_parquet(folder / "visits.parquet"),
            setting("modalities.visits", {"file": "visits.parquet"}),
        ),
        ["visits.parquet: column 'seen' holds timestamp", "convert it or leave it out"],
    ),
    "a file is not UTF-8": (
        lambda folder, tree: content(
            "lab.csv", (folder / "lab.csv").read_text().replace("\n003,", "\n003\xe9,").encode("latin-1")
        )(folder, tree),
        ["lab.csv: line 5: not UTF-8", "CSV UTF-8"],
    ),
    "a row has too few cells": (
        added("lab.csv", "035,50"),
        ["lab.csv: line 32: 2 cells but the header has 4", "complete the row"],
    ),
    "a row has too many cells": (
        cell("lab.csv", 6, 3, "west,2"),
        ["lab.csv: line 6: 5 cells but the header has 4", "quote"],
    ),
    "a quote is not closed": (cell("lab.csv", 6, 3, '"west'), ["lab.csv: line 6: not readable as CSV", "quotes"]),
    "a file is empty": (content("lab.csv", ""), ["lab.csv: empty", "fill it or leave it out"]),
    "a file has a header only": (content("lab.csv", "patient,age\n"), ["lab.csv: empty, no row below its header"]),
    "two columns have one name": (
        cell("lab.csv", 1, 2, "age"),
        ["lab.csv: line 1: column 'age' is there 2 times", "rename"],
    ),
    "a column has no name": (cell("lab.csv", 1, 2, ""), ["lab.csv: line 1: column 3 has no name"]),
    "a Parquet file is none": (
        content("reports.parquet", "note"),
        ["reports.parquet: not readable as Parquet", "write it again"],
    ),
    "a picture is cut off": (cut, ["scans/012.png: not a picture or damaged", "replace it"]),
    "a picture is cut off and read later": (
        both(cut, PICTURES_LATER),
        ["scans/012.png: not a picture or damaged", "replace it"],
    ),
    "a picture is none": (content("scans/012.png", "hello"), ["scans/012.png: not a picture or damaged"]),
    "a picture has 16 bits": (content("scans/012.png", png("I;16")), ["scans/012.png: more than 8 bits", "0..255"]),
    "a file among the pictures is none": (
        content("scans/notes.txt", "hello"),
        ["scans/notes.txt: no picture by its ending", "move it"],
    ),
    "pictures are in folders": (
        lambda folder, tree: (folder / "scans" / "more").mkdir(),
        ["scans/more: a folder", "move it out"],
    ),
    "two pictures have one stem": (
        content("scans/012.jpg", png()),
        ["scans/012.jpg, ", "scans/012.png: 2 pictures of one row", "keep one"],
    ),
    "a picture folder is empty": (emptied, ["scans: an empty folder", "named by its row's id"]),
    "arrays hold pickled objects": (
        arrays(id=lambda a: a["id"].astype(object)),
        ["signal.npz: holds pickled objects", "id.astype(str)"],
    ),
    "arrays have no id": (arrays(id=None), ["signal.npz: no array 'id'", "There are: values"]),
    "arrays have no values": (arrays(values=None, x=np.ones(3)), ["signal.npz: no array 'values'", "There are: id, x"]),
    "ids and values differ in length": (
        arrays(values=lambda a: a["values"][1:]),
        ["signal.npz: 'id' has 20 rows", "[19, 5]", "align"],
    ),
    "arrays are words": (
        arrays(values=lambda a: a["values"].astype(str)),
        ["signal.npz: 'values' is <U", "expected float [n, F]"],
    ),
    "arrays have one dimension": (
        arrays(values=lambda a: a["values"][:, 0]),
        ["signal.npz: 'values' is float32 [20]", "expected float [n, F]"],
    ),
    "pictures have their channels last": (
        arrays(values=np.zeros((20, 6, 6, 3), np.uint8)),
        ["signal.npz: 'values' is uint8 [20, 6, 6, 3]", "transpose"],
    ),
    "arrays are infinite": (arrays(values=with_value(4, np.inf)), ["signal.npz: row 4: 'values' is infinite", "NaN"]),
    "a sequence has holes": (
        arrays(values=lambda a: with_value(4, np.nan)(a)[:, :, None]),
        ["signal.npz: row 4: 'values' has holes (NaN) in a sequence", "fill them"],
    ),
    "an array file is none": (
        content("signal.npz", "PK not really"),
        ["signal.npz: not readable as NPZ", "numpy.savez"],
    ),
    "a modality has no labelled row": (
        parquet("reports.parquet", lambda frame: frame.assign(note=["" if n else "said" for n in range(31)])[1:]),
        ["reports.parquet: column 'note' is empty in every row"],
    ),
    "no id is shared": (
        parquet("reports.parquet", lambda frame: frame.assign(patient="P" + frame["patient"])),
        ["reports.parquet: no id has a label in", "'P003' here, '000' there", "write them alike"],
    ),
    "a text column holds numbers": (
        parquet("reports.parquet", lambda frame: frame.assign(note=1.5)),
        ["reports.parquet: column 'note' holds float64, not text", "columns: [note]"],
    ),
    "a text column holds numbers in a CSV": (
        setting("modalities.report", {"file": "lab.csv", "text": "age"}),
        ["lab.csv: column 'age' holds numbers, not text", "columns: [age]"],
    ),
    "the label is among the features": (
        setting("modalities.lab", {"file": "labels.csv", "columns": ["score", "outcome"]}),
        ["data.modalities.lab.columns: 'outcome' is the label", "remove it"],
    ),
    "a column is called like the label": (
        column("lab.csv", "outcome", lambda f: ["a", "b"] * 15),
        ["lab.csv: column 'outcome' is called like the label", "data.modalities.lab.drop"],
    ),
    "a column gives the label away": (
        column("lab.csv", "code", lambda f: [n % 3 + 7 for n in range(30)]),
        ["lab.csv: the label can be read off column 'code'", "data.modalities.lab.drop"],
    ),
    "the label is read as text": (
        setting("modalities.report", {"file": "labels.csv", "text": "outcome"}),
        ["data.modalities.report.text: 'outcome' is the label"],
    ),
    "the id is a feature": (
        setting("modalities.lab.columns", ["patient", "age"]),
        ["data.modalities.lab.columns: 'patient' is the id", "remove it"],
    ),
    "a group is missing": (
        both(setting("group", {"file": "labels.csv", "column": "family"}), cell("labels.csv", 8, 2, "")),
        ["labels.csv: line 8: the group 'family' is empty", "write one"],
    ),
    "a row has no group": (
        setting("group", {"file": "lab.csv", "column": "ward"}),
        ["lab.csv: no row for the id '030'", "add its group"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_gives_one_line_with_file_row_and_fix(
    name: str, own: Path, settings: Callable[[Path], Tree], check: Callable[[Path, Tree], list[str]]
) -> None:
    change, expected = BROKEN[name]
    tree = settings(own)
    change(own, tree)
    lines = check(own, tree)
    assert len(lines) == 1, lines
    missing = [words for words in expected if words not in lines[0]]
    assert not missing, lines[0]


def test_a_missing_id_column_is_told_for_every_table(
    own: Path, settings: Callable[[Path], Tree], check: Callable[[Path, Tree], list[str]]
) -> None:
    lines = check(own, settings(own) | {"id": "pateint"})
    assert [line for line in lines if "did you mean 'patient'" not in line] == []
    assert [Path(line.split(" has no")[0].split()[-1]).name for line in lines] == [
        "labels.csv",
        "lab.csv",
        "reports.parquet",
    ]
