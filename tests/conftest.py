"""What every test shares: a store of its own, and a small learnable setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kd.config import Study
from kd.data import load_source
from kd.data.masks import draw
from kd.data.splits import split
from kd.distill.fit import Setting
from kd.parsing import parse


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test's runs in its own folder, and torch on one thread."""
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "runs"))
    torch.set_num_threads(1)
    return tmp_path / "runs"


@pytest.fixture
def small_study() -> Callable[..., Study]:
    """Return a maker of small studies: three synthetic views, two teachers and a student, 40 steps each."""

    def make(**changes: Any) -> Study:
        node = {"steps": 40, "validate_every": 10, "model": {"width": 8, "encoder": {"name": "mlp", "hidden": [8]}}}
        tree: dict[str, Any] = {
            "data": {"name": "synthetic", "modalities": 2, "rows": 400, "classes": 3, "width": 4},
            "mask": {"name": "severe", "complete": 40, "pool": 60},
            "seeds": 2,
            "nodes": {
                "one": {"sees": ["m0"], **node},
                "two": {"sees": ["m1"], **node},
                "student": {"sees": ["m0", "m1"], "rows": "complete", **node},
            },
            "edges": {
                "one": {"teacher": "one", "student": "student", "loss": {"name": "kl", "temperature": 3}},
                "two": {"teacher": "two", "student": "student", "loss": {"name": "kl", "temperature": 3}},
            },
            "ensembles": {"product": {"members": ["one", "two"]}},
            "contrasts": {"gain": {"method": "student", "baseline": "product"}},
        }
        return parse({**tree, **changes})

    return make


@pytest.fixture
def setting_of() -> Callable[..., Setting]:
    """Return a maker of the data side of a study's replicate."""

    def make(study: Study, seed: int = 0) -> Setting:
        source = load_source(**study.data)
        rows = split(source, test=study.split.test, validation=study.split.validation, seed=study.split.seed)
        return Setting(source, rows, draw(source, rows, study.mask, seed), seed)

    return make
