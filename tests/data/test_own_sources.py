"""A source class of the user's own, by its import path, and those of installed packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd.cli import main
from kd.data import SOURCES, load_source
from kd.data.sources import Sources
from kd.errors import ConfigError, DataError, KDError

MODULE = """
import torch
from kd.data import Source
from kd.errors import DataError

def halves(*, rows: int = 40, width: int) -> Source:
    x = torch.arange(rows * width, dtype=torch.float32).view(rows, width) % 7
    return Source(name="halves", inputs={"x": x}, label=torch.arange(rows) % 2, classes=2)

def loose(rows, *, width=3): ...
def wrong(): return [1, 2]
def broken(): return torch.ones(2) @ torch.ones(3)
def refused(): raise DataError("visits.csv: line 3: no date; write one")
def unfinished(): return Source(name="short", inputs={"x": torch.ones(3, 1)}, label=torch.zeros(4).long(), classes=2)
def untyped(*, rows: "Rows" = 3): ...
limit = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the working directory, as a user has one; forgotten after each test."""
    (tmp_path / "own_visits.py").write_text(MODULE)
    (tmp_path / "own_faulty.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "own_typo.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("own_visits", "own_faulty", "own_typo"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_factory_in_the_working_directory_is_a_source() -> None:
    source = load_source(**{"import": "own_visits:halves", "width": 3})
    assert (len(source), source.modalities) == (40, ["x"])


def test_a_study_uses_it_by_its_import_path(tmp_path: Path, capsys) -> None:
    tree = {"data": {"import": "own_visits:halves", "width": 3}, "seeds": 1, "nodes": {"one": {"sees": ["x"]}}}
    OmegaConf.save(OmegaConf.create(tree), tmp_path / "study.yaml")
    assert main(["check", "study.yaml"]) == 0, capsys.readouterr().err
    assert main(["check", "study.yaml", "data.width=wide", "data.rosw=3"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "data.width: expected int, got 'wide'" in lines[0]
    assert "data.rosw: unknown argument; did you mean 'rows'" in lines[1]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"import": "own_visits:halvse"},
            ["data.import: own_visits has no function 'halvse'", "did you mean 'halves'"],
        ),
        ({"import": "own_vists:halves"}, ["data.import: no module 'own_vists' in ", "folder that holds it"]),
        (
            {"import": "own_faulty:make"},
            ["data.import: own_faulty cannot be imported", "nothing_of_this_name", "own_faulty.py, line 1"],
        ),
        ({"import": "own_typo:make"}, ["data.import: own_typo cannot be imported", "SyntaxError"]),
        ({"import": "own_visits.halves"}, ["data.import: expected package.module:function, got 'own_visits.halves'"]),
        ({"import": 3}, ["data.import: expected package.module:function, got 3"]),
        ({"import": "own_visits:limit"}, ["data.import: own_visits has no function 'limit'"]),
        ({"import": "own_visits:halves"}, ["data.width: required argument is missing"]),
        ({"import": "own_visits:loose"}, ["data.import: loose: write its arguments after a star, def loose(*, rows)"]),
        (
            {"import": "own_visits:untyped"},
            ["data.import: the type hints of own_visits:untyped cannot be read", "'Rows'"],
        ),
        ({"import": "own_visits:wrong"}, ["data.import: own_visits:wrong returned list", "kd.data.Source"]),
        (
            {"import": "own_visits:broken"},
            ["data.import: own_visits:broken failed: RuntimeError", "own_visits.py, line 12"],
        ),
        ({"import": "own_visits:refused"}, ["visits.csv: line 3: no date; write one"]),
        ({"import": "own_visits:unfinished"}, ["short: inputs['x']: 3 rows but label has 4"]),
        ({"import": "own_visits:halves", "name": "mfeat"}, ["data: both name: and import: are written; keep one"]),
    ],
)
def test_what_is_wrong_with_a_factory_is_told_in_one_line(part: dict, expected: list[str]) -> None:
    with pytest.raises(KDError) as caught:
        SOURCES.build(part)
    assert "\n" not in str(caught.value)
    assert all(words in str(caught.value) for words in expected), str(caught.value)


def test_in_python_the_cause_of_a_failure_is_kept() -> None:
    with pytest.raises(DataError) as caught:
        load_source(**{"import": "own_visits:broken"})
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """A package that is installed and adds sources; looked for anew."""
    site = tmp_path / "site"
    info = site / "visits_package-1.2.dist-info"
    info.mkdir(parents=True)
    (site / "visits_package.py").write_text(MODULE)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: visits-package\nVersion: 1.2\nSummary: visits of a ward\n"
    )
    points = ["visits = visits_package:halves", "gone = visits_package:nothing", "synthetic = visits_package:halves"]
    (info / "entry_points.txt").write_text("\n".join(["[kd.sources]", *points]) + "\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "visits_package", raising=False)
    return Sources({"synthetic": SOURCES["synthetic"]}, nested={})


def test_an_installed_package_adds_names(installed: Sources) -> None:
    assert list(installed) == ["synthetic", "gone", "visits"]
    assert installed["visits"].sentence == "visits of a ward"
    assert installed["visits"].source == "package visits-package 1.2"
    assert len(installed.build({"name": "visits", "width": 2})) == 40


def test_a_package_cannot_take_one_of_our_names(installed: Sources) -> None:
    assert installed["synthetic"].factory == "kd.data.synthetic:synthetic"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"name": "gone"}, "data.name: gone: visits_package has no function 'nothing'"),
        ({"name": "vists"}, "data.name: unknown source 'vists'; did you mean 'visits'"),
        ({"name": "visits"}, "data.width: required argument is missing"),
    ],
)
def test_what_is_wrong_with_an_installed_source_is_told_in_one_line(installed: Sources, part: dict, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        installed.build(part)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
