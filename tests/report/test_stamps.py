"""What was trained under an MNAR mask is stamped, and stands apart from what was not."""

from __future__ import annotations

import pandas as pd
import pytest
from omegaconf import OmegaConf

from kd.ablate import ablate, load_grid
from kd.errors import RecordError
from kd.parsing import parse
from kd.progress import Screen
from kd.record import load_record
from kd.report import tables
from kd.report.ablation import gather
from kd.study import run

STUDY = {
    "data": {"name": "synthetic", "rows": 300, "modalities": 2},
    "seeds": 2,
    "nodes": {
        "masked": {"sees": ["m0", "m1"], "drop": 0.5, "steps": 20},
        "alone": {"sees": ["m0"], "steps": 20},
    },
    "contrasts": {"gain": {"method": "masked", "baseline": "alone"}},
}
MASKS = {"mcar": {"name": "mcar", "rate": 0.3}, "mnar": {"name": "mnar", "given": "label", "rate": 0.3}}


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "runs"))


def test_every_row_of_a_run_under_mnar_is_stamped_and_its_page_says_so() -> None:
    folders = {name: run(parse({**STUDY, "mask": mask})) for name, mask in MASKS.items()}
    for name, folder in folders.items():
        for table in ("subsets", "summary", "contrasts"):
            assert set(pd.read_parquet(folder / f"{table}.parquet")["mask_kind"]) == {name.upper()}
        assert ("hidden MNAR" in (folder / "report.md").read_text()) == (name == "mnar")
    assert "| MNAR |" in (folders["mnar"] / "report.md").read_text()
    with pytest.raises(RecordError, match="was trained under an MNAR mask; compare it with others that were"):
        tables.compare(list(folders.values()))


def test_variants_under_mnar_stand_in_tables_of_their_own(tmp_path) -> None:
    path = tmp_path / "grid.yaml"
    OmegaConf.save(OmegaConf.create({**STUDY, "grid": {"mask": list(MASKS.values())}}), path)
    folder = ablate(load_grid(path), Screen())
    content = gather(load_record(folder), folder)
    assert list(content["summaries"]) == ["", ", trained under MNAR masks"]
    default, apart = content["summaries"].values()
    assert "mask kind" in apart.columns
    assert "mask kind" not in default.columns
    assert set(apart["node"]) == set(default["node"])
    assert len(apart) == len(default)
    assert list(content["contrasts"]) == ["", ", trained under MNAR masks"]
    assert "Comparisons, trained under MNAR masks" in (folder / "report.md").read_text()
