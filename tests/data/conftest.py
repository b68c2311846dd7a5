"""A user's own folder, whole: three modalities whose ids are only partly shared, arrays, labels as strings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from kd.cli import main

Tree = dict[str, Any]
IDS = [f"{number:03d}" for number in range(36)]
CLASSES = ["benign", "malign", "unclear"]


def write_folder(folder: Path) -> None:
    """Write 36 patients: a table of rows 0..29, pictures of 6..35, text of 3..33, labels of all."""
    drawn = np.random.default_rng(0)
    outcome = [CLASSES[number % 3] for number in range(36)]
    labels = pd.DataFrame({"patient": IDS, "outcome": outcome, "family": [f"f{n // 6}" for n in range(36)]})
    labels["score"], labels["risk"] = drawn.normal(size=36).round(3), drawn.random(36).round(3)
    labels.to_csv(folder / "labels.csv", index=False)
    age, ward = drawn.normal(60, 9, 30).round(1), drawn.choice(["north", "south", "west"], 30)
    lab = pd.DataFrame({"patient": IDS[:30], "age": age, "dose": drawn.normal(size=30).round(3), "ward": ward})
    lab.loc[4, "age"] = None
    lab.loc[5, ["age", "dose", "ward"]] = None
    lab.to_csv(folder / "lab.csv", index=False)
    (folder / "scans").mkdir()
    for name in IDS[6:]:
        Image.fromarray(drawn.integers(0, 255, (14, 12, 3), np.uint8)).save(folder / "scans" / f"{name}.png")
    note = [f"the tissue of {outcome[n]} kind looks {drawn.choice(['odd', 'fine'])}" for n in range(3, 34)]
    note[7] = ""
    pd.DataFrame({"patient": IDS[3:34], "note": note}).to_parquet(folder / "reports.parquet")
    np.savez(folder / "signal.npz", id=np.array(IDS[:20]), values=drawn.normal(size=(20, 5)).astype(np.float32))


def settings_of(folder: Path) -> Tree:
    return {
        "name": "table",
        "root": str(folder),
        "id": "patient",
        "label": {"file": "labels.csv", "column": "outcome"},
        "modalities": {
            "lab": {"file": "lab.csv"},
            "scan": {"folder": "scans", "size": 8},
            "report": {"file": "reports.parquet", "text": "note"},
            "signal": {"file": "signal.npz"},
        },
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_folder(folder)
    return folder


@pytest.fixture
def own(written: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may break."""
    return Path(shutil.copytree(written, tmp_path / "own"))


@pytest.fixture
def settings() -> Callable[[Path], Tree]:
    """Return a maker of the `data:` that reads the folder."""
    return settings_of


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Tree], list[str]]:
    """Return `kd check` on a study of such data, which must refuse it: the lines it gives."""

    def run(folder: Path, tree: Tree) -> list[str]:
        study = {"data": tree, "seeds": 1, "nodes": {"one": {"sees": ["lab"]}}}
        OmegaConf.save(OmegaConf.create(study), folder / "study.yaml")
        assert main(["check", str(folder / "study.yaml")]) == 2
        streams = capsys.readouterr()
        assert streams.out == ""
        assert "Traceback" not in streams.err
        return streams.err.splitlines()

    return run
