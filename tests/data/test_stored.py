"""A Hugging Face data set on disk as a source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kd.data import load_source
from kd.data.module import DataModule
from kd.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")

ROWS = 24
WHOLE = {
    "name": "stored",
    "id": "case",
    "label": "kind",
    "modalities": {
        "words": {"text": "note"},
        "picture": {"image": "photo", "size": 6},
        "lab": {"columns": ["age", "ward"]},
        "signal": {"values": "waves"},
    },
}


def columns() -> dict[str, Any]:
    drawn = np.random.default_rng(0)
    photos = [Image.fromarray(drawn.integers(0, 255, (8, 8, 3), np.uint8)) for _ in range(ROWS)]
    return {
        "case": [f"c{row:02d}" for row in range(ROWS)],
        "kind": [row % 3 for row in range(ROWS)],
        "note": [None if row == 4 else f"a note {['odd', 'fine'][row % 2]}" for row in range(ROWS)],
        "photo": [None if row in (1, 2) else photo for row, photo in enumerate(photos)],
        "age": [None if row == 3 else float(drawn.normal(60, 9)) for row in range(ROWS)],
        "ward": [["north", "south"][row % 2] for row in range(ROWS)],
        "waves": [drawn.normal(size=3).tolist() for _ in range(ROWS)],
    }


def write(folder: Path, **changes: Any) -> Path:
    features = datasets.Features(
        {
            "case": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=["zebra", "ant", "owl"]),
            "note": datasets.Value("string"),
            "photo": datasets.Image(),
            "age": datasets.Value("float64"),
            "ward": datasets.Value("string"),
            "waves": datasets.List(datasets.Value("float32")),
        }
    )
    datasets.Dataset.from_dict({**columns(), **changes}, features=features).save_to_disk(str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("stored") / "train")


def load(folder: Path, **changes: Any) -> Any:
    return load_source(**{**WHOLE, "path": str(folder), **changes})


def test_columns_become_modalities_and_empty_cells_gaps(folder: Path) -> None:
    source = load(folder).validate()
    assert source.ids == columns()["case"]
    assert source.modalities == ["words", "picture", "lab", "signal"]
    assert (~source.observed).nonzero().tolist() == [[1, 1], [2, 1], [4, 0]]


def test_class_names_keep_their_order(folder: Path) -> None:
    source = load(folder)
    assert source.class_names == ["zebra", "ant", "owl"]
    assert source.label.tolist() == columns()["kind"]


def test_values_are_those_that_were_written(folder: Path) -> None:
    source = load(folder)
    rows = torch.arange(ROWS)
    pixels = torch.from_numpy(np.array(columns()["photo"][0])).permute(2, 0, 1)
    same = load(folder, modalities={"picture": {"image": "photo", "size": 8}}).inputs["picture"].take(rows[:1])[0]
    assert torch.equal(same, pixels)
    torch.testing.assert_close(source.inputs["signal"], torch.tensor(columns()["waves"]))
    table = source.inputs["lab"].fit(rows)
    assert table.processor.names == ["age", "ward=north", "ward=south"]
    assert table.take(rows)[3].isnan().tolist() == [True, False, False]


def test_rows_without_an_id_column_are_called_by_their_number(folder: Path) -> None:
    source = load(folder, id=None)
    assert sorted(source.ids, key=int) == [str(row) for row in range(ROWS)]


def test_pictures_in_memory_and_in_workers_give_the_same_batches(folder: Path) -> None:
    one = DataModule(load(folder), batch_size=6)
    two = DataModule(load(folder, in_memory=False), batch_size=6, workers=2)
    assert one.source.fingerprint == two.source.fingerprint
    for first, second in zip(one.train_dataloader(), two.train_dataloader(), strict=True):
        assert torch.equal(first.inputs["picture"], second.inputs["picture"])
        assert torch.equal(first.inputs["words"], second.inputs["words"])


BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a class is unknown": (
        {"kind": [-1, *columns()["kind"][1:]]},
        {},
        ["row 0: the label 'kind' is empty", "unlabelled: drop"],
    ),
    "an id is there twice": (
        {"case": ["c01", *columns()["case"][1:]]},
        {},
        ["rows 0, 1: the id 'c01' is there 2 times"],
    ),
    "lists differ": (
        {"waves": [[1.0], *columns()["waves"][1:]]},
        {},
        ["rows 1, 2, 3 and 20 more", "shape [3]", "pad or cut"],
    ),
    "a number is infinite": ({"age": [float("inf"), *columns()["age"][1:]]}, {}, ["row 0: column 'age' is infinite"]),
    "the folder is misspelt": ({}, {"path": "nowhere"}, ["data.path: nowhere: no such folder"]),
    "the label is misspelt": ({}, {"label": "knid"}, ["data.label: ", "no column 'knid'", "did you mean 'kind'"]),
    "a text is a number": ({}, {"modalities": {"words": {"text": "age"}}}, ["column 'age' holds float64, not text"]),
    "a picture is a text": (
        {},
        {"modalities": {"p": {"image": "note"}}},
        ["data.modalities.p.image: column 'note' holds string"],
    ),
    "a picture is misspelt": (
        {},
        {"modalities": {"p": {"image": "phot"}}},
        ["data.modalities.p.image: no column 'phot'", "'photo'"],
    ),
    "a list is a text": (
        {},
        {"modalities": {"p": {"values": "note"}}},
        ["data.modalities.p.values: column 'note' holds string"],
    ),
    "the label is a feature": (
        {},
        {"modalities": {"lab": {"columns": ["kind"]}}},
        ["data.modalities.lab.columns: 'kind' is the label"],
    ),
    "the label is a text": (
        {},
        {"modalities": {"lab": {"text": "kind"}}},
        ["data.modalities.lab.text: 'kind' is the label"],
    ),
    "a key is unknown": (
        {},
        {"modalities": {"lab": {"text": "note", "size": 3}}},
        ["data.modalities.lab.size: unknown key"],
    ),
    "nothing says what it is": (
        {},
        {"modalities": {"lab": {}}},
        ["data.modalities.lab: nothing says where it is", "text:"],
    ),
    "a group is missing": (
        {"ward": [None, *columns()["ward"][1:]]},
        {"group": "ward"},
        ["row 0: the group 'ward' is empty"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_data_set_gives_one_line(name: str, tmp_path: Path, folder: Path) -> None:
    changes, settings, expected = BROKEN[name]
    place = write(tmp_path / "train", **changes) if changes else folder
    with pytest.raises((DataError, ConfigError)) as caught:
        load(place, **settings)
    assert "\n" not in str(caught.value)
    assert all(words in str(caught.value) for words in expected), str(caught.value)


def test_a_damaged_picture_names_its_row(tmp_path: Path) -> None:
    photos = [{"bytes": b"damaged", "path": None}, *columns()["photo"][1:]]
    for in_memory in (True, False):
        with pytest.raises(DataError, match=r"row 0: picture: not a picture or damaged") as caught:
            load(write(tmp_path / f"train{in_memory}", photo=photos), in_memory=in_memory)
        assert "\n" not in str(caught.value)


def test_a_folder_of_several_parts_and_one_of_something_else_are_told_apart(tmp_path: Path) -> None:
    part = datasets.Dataset.from_dict({"x": [1]})
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match=r"holds the parts train, test; name one, as .*both/train"):
        load(tmp_path / "both")
    with pytest.raises(DataError, match="not a data set on disk"):
        load(tmp_path)


def test_without_the_library_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'kd-missing\[datasets\]'"):
        load(folder)
