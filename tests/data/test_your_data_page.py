"""docs/your-data.md: its settings are known, its Python runs, and its faults are those that are given."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from kd.data import SOURCES, load_source
from kd.data.module import DataModule

PAGE = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return [content for written_in, content in found if written_in == language]


@pytest.fixture
def working(own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the example as working directory, with the module that the page shows."""
    monkeypatch.chdir(own)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "visits", raising=False)
    (own / "visits.py").write_text(blocks("python")[0])
    return own


@pytest.mark.parametrize("block", blocks("yaml"))
def test_settings_on_the_page_are_known(block: str, working: Path) -> None:
    tree: Any = OmegaConf.to_container(OmegaConf.create(block))
    assert SOURCES.faults(tree["data"], "data") == []


def test_the_first_example_reads_the_folder_it_describes(working: Path) -> None:
    tree: Any = OmegaConf.to_container(OmegaConf.create(blocks("yaml")[0]))
    source = load_source(**tree["data"])
    assert source.modalities == tree["nodes"]["full"]["sees"]
    assert not source.observed.all()


def test_the_source_on_the_page_makes_batches(working: Path) -> None:
    tree: Any = OmegaConf.to_container(OmegaConf.create(blocks("yaml")[-1]))
    source = load_source(**tree["data"])
    assert len(source) == 400
    assert source.observed.any(dim=1).all()
    batch = next(iter(DataModule(source).train_dataloader()))
    assert torch.equal(batch.present, source.observed[batch.index])


def test_faults_on_the_page_are_those_that_are_given(
    working: Path, settings: Callable[[Path], dict[str, Any]], check: Callable[[Path, dict[str, Any]], list[str]]
) -> None:
    lines = (working / "lab.csv").read_text().splitlines()
    name, _, *others = lines[11].split(",")
    lines[11] = ",".join([name, "n/a", *others])
    (working / "lab.csv").write_text("\n".join([*lines, "O05,50,1,west"]) + "\n")
    (working / "scans" / "012.png").write_bytes(b"no picture")
    given = check(working, settings(working) | {"root": "."})
    shown = next(block for block in blocks("") if "O05" in block).splitlines()
    assert len(given) == len(shown)
    assert all(any(line.endswith(fault) for line in given) for fault in shown), given
