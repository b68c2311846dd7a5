"""docs/gaps.md: the YAML on the page compares every handling on a reader's own files, and ends in advice."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from kd.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "gaps.md").read_text()
ROWS = 160


def written() -> str:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    return str(block)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page names: tables with gaps, and the config as it stands there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "runs"))
    random = np.random.default_rng(0)
    outcome = random.integers(2, size=ROWS)
    names = [f"P{row:03}" for row in range(ROWS)]
    pd.DataFrame({"patient": names, "outcome": np.where(outcome, "ill", "well")}).to_csv("labels.csv", index=False)
    tree: Any = OmegaConf.to_container(OmegaConf.create(written()))
    for modality, form in tree["data"]["modalities"].items():
        values = outcome[:, None] + random.normal(size=(ROWS, 4))
        table = pd.DataFrame(values, columns=[f"{modality}_{k}" for k in range(4)]).assign(patient=names)
        table.iloc[3, 1] = None  # a single empty cell
        table[random.random(ROWS) > 0.25].to_csv(form["file"], index=False)
    (tmp_path / "gaps.yaml").write_text(written())
    return tmp_path


def test_the_page_s_config_has_no_fault(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "gaps.yaml"]) == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_page_s_config_compares_everything_and_says_what_to_use(
    reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["seeds=5", "jobs=1", "defaults.steps=50", "defaults.validate_every=50"]
    assert main(["ablate", "gaps.yaml", *short]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    results = pd.read_parquet(next((reader / "runs" / "ablate").glob("*/results.parquet")))
    assert results["node"].nunique() >= 25
    assert set(results["subset"]) >= {"lab", "lab+vitals", "lab+vitals+device"}
    assert "what should I use" in shown.lower() or "use `" in shown.lower()
    assert shown.rstrip().endswith("report.html")
