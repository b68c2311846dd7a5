"""The command: results on standard output, one line per fault on standard error, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from kd.cli import differing, main


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rum"], "unknown verb; did you mean 'run'"),
        (["run"], "expected a config"),
        (["run", "nowhere.yaml"], "nowhere.yaml: no such config"),
        (["check", "configs/best.yaml", "--seeds"], "settings are written key=value"),
        (["list", "encoder"], "did you mean 'encoders'"),
        (["show", "0000"], "no run of this name"),
        (["show", "**"], "no run of this name"),
        (["list", "objectives", "zz=3"], "is not a setting here"),
        (["data", "describe", "synthetic", "rows=hot"], "rows: expected int"),
        (["data", "describe", "mfeet"], "did you mean 'mfeat'"),
        (["compress", "nowhere.onnx"], "nowhere.onnx: no such file"),
        (["run", "configs/best.yaml", "sedes=3"], "sedes: unknown key; did you mean 'seeds'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(words: list[str], expected: str, capsys) -> None:
    assert main(words) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert expected in streams.err
    assert streams.err.count("\n") == 1


@pytest.mark.parametrize(
    "kind",
    [
        *("sources", "mechanisms", "encoders", "fusions", "objectives", "weightings", "handling"),
        *("optimizers", "schedules", "passes"),
    ],
)
def test_every_registry_is_listed_with_its_sources(kind: str, capsys) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.endswith(")") and len(line.split()) > 3 for line in lines)
    assert main(["list", kind, "json=true"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(lines)


def test_run_prints_the_summary_and_names_the_report_last(tmp_path: Path, capsys) -> None:
    node = {"steps": 10, "validate_every": 10}
    tree = {
        "data": {"name": "synthetic", "modalities": 2, "rows": 200, "classes": 2, "width": 2},
        "seeds": 2,
        "nodes": {"both": {"sees": ["m0", "m1"], **node}},
    }
    path = tmp_path / "study.yaml"
    OmegaConf.save(tree, path)
    assert main(["run", str(path)]) == 0
    streams = capsys.readouterr()
    last = streams.out.splitlines()[-1]
    assert last.startswith("report: ")
    assert Path(last.removeprefix("report: ")).exists()
    assert "both" in streams.out
    assert "seed 0" in streams.err
    run_id = Path(last).parent.name
    assert main(["show", run_id[:8]]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == run_id


def test_check_tells_every_fault_and_runs_nothing(tmp_path: Path, capsys, store: Path) -> None:
    tree = {"data": {"name": "synthetic"}, "nodes": {"a": {"sees": ["m9"], "drop": 2.0}, "b": {"sees": []}}}
    path = tmp_path / "study.yaml"
    OmegaConf.save(tree, path)
    assert main(["check", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(str(path)) for line in lines)
    assert not store.exists()


def test_differing_names_the_ingredient() -> None:
    assert differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == {"a.c": (2, 3)}


def test_a_user_error_shows_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-m", "kd", "run", "nowhere.yaml"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def small_config(folder: Path, **changes: object) -> Path:
    node = {"steps": 20, "validate_every": 10, "model": {"width": 8, "encoder": {"name": "mlp", "hidden": [8]}}}
    tree = {
        "data": {"name": "synthetic", "modalities": 2, "rows": 300, "classes": 2, "width": 4},
        "seeds": 1,
        "nodes": {"both": {"sees": ["m0", "m1"], **node}},
        **changes,
    }
    path = folder / "study.yaml"
    OmegaConf.save(OmegaConf.create(tree), path)
    return path


def test_compress_prints_every_stage_and_evaluate_every_subset(tmp_path: Path, capsys) -> None:
    passes = {"pruned": {"name": "structured"}, "exported": {"name": "onnx"}, "int8": {"name": "static_int8"}}
    path = small_config(tmp_path, compress={"student": "both", "passes": passes})
    assert main(["compress", str(path)]) == 0
    printed = capsys.readouterr().out
    assert all(stage in printed for stage in ("float", *passes))
    assert main(["evaluate", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "m0+m1" in printed
    assert "int8" not in printed
    assert "Bayes rule" in printed


def test_compress_without_passes_is_refused(tmp_path: Path, capsys) -> None:
    assert main(["compress", str(small_config(tmp_path))]) == 2
    assert "compress: required here" in capsys.readouterr().err


def test_compress_quantises_a_file_and_prints_what_it_costs(tmp_path: Path, capsys) -> None:
    from tests.compress.conftest import graph_of, normal

    path, rows, folder = tmp_path / "net.onnx", tmp_path / "rows.npz", tmp_path / "small"
    nodes = [("MatMul", "first", "x w", "h"), ("Relu", "relu", "h", "r"), ("MatMul", "last", "r v", "scores")]
    weights = {"w": normal(16, 128), "v": normal(128, 8)}
    path.write_bytes(graph_of(nodes, {"x": ["rows", 16]}, weights, "scores").SerializeToString())
    np.savez(rows, x=normal(20, 16))
    assert main(["compress", str(path), f"rows={rows}", f"to={folder}", "percentile=99.9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:6]] == [
        "bytes",
        "ms, 1 row",
        "ms, 8 rows",
        "products and convolutions in int8",
    ]
    assert lines[9].startswith("| scores | ")
    assert lines[-2] == "static_int8, activations=signed percentile=99.9 embeddings=true; asked 20 rows: rows.npz"
    assert lines[-1] == f"model: {folder / 'model.onnx'}"
    assert main(["compress", str(path), "json=true"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["folder"] == str(tmp_path / "net-int8")
    assert card["pass"] == "dynamic_int8"
    assert main(["compress", str(path), "rows"]) == 2
    assert capsys.readouterr().err == "kd compress: 'rows': settings are written key=value, e.g. percentile=99.9\n"


def test_mask_is_shown_and_written(tmp_path: Path, capsys) -> None:
    from kd.data.mask import Mask

    path = small_config(tmp_path, mask={"name": "mcar", "rate": 0.3})
    assert main(["mask", "show", str(path), "json=true"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert {"+".join(found["modalities"]) for found in shown["patterns"]} == {"m0", "m1", "m0+m1"}
    assert main(["mask", "make", str(path), f"to={tmp_path / 'mask.parquet'}"]) == 0
    assert Mask.load(tmp_path / "mask.parquet").fingerprint == shown["fingerprint"]


def test_a_store_that_cannot_be_written_is_told_before_training(tmp_path: Path, capsys, monkeypatch) -> None:
    path = small_config(tmp_path)
    monkeypatch.setenv("KD_RUNS", str(path / "runs"))  # below a file
    assert main(["run", str(path)]) == 2
    streams = capsys.readouterr()
    assert "cannot write" in streams.err
    assert streams.err.count("\n") == 1
