from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from kd.compress import PASSES
from kd.compress.package import Context, Package
from kd.compress.pipeline import StageResult, compress, faults
from kd.errors import ConfigError, KDError, RecordError

Stages = tuple[dict[str, StageResult], dict[Path, bytes], list[tuple[str, float | None]]]


def test_every_shipped_pass_ran_in_the_order_given(stages: Stages) -> None:
    results, _, reported = stages
    assert list(results) == ["pruned", "tuned", "onnx", "int8"]
    assert {result.package.stage for result in results.values()} == set(results)
    assert len(results) == len(PASSES)
    assert [stage for stage, took in reported if took is not None] == list(results)


def test_student_stays_byte_identical(stages: Stages, student: Package) -> None:
    assert {file: file.read_bytes() for file in student.folder.iterdir()} == stages[1]


def test_no_stage_changes_the_one_before(stages: Stages) -> None:
    # Loading verifies checksums, and each card's parent is the address of the stage before as it stands now.
    packages = [Package.load(result.package.folder) for result in stages[0].values()]
    for before, after in itertools.pairwise(packages):
        assert after.card["parents"] == {before.stage: before.digest}


def test_every_stage_states_its_cost(stages: Stages, student: Package) -> None:
    results = stages[0]
    assert results["pruned"].package.cost()["macs"] <= 0.5 * student.cost()["macs"]
    assert results["int8"].package.cost()["bytes"] < results["onnx"].package.cost()["bytes"]
    assert results["int8"].package.cost()["macs"] == results["pruned"].package.cost()["macs"]
    assert all(result.seconds > 0 and result.peak_mb > 0 for result in results.values())
    assert results["onnx"].parity is not None


def test_wrong_order_and_unknown_arguments_are_told_before_anything_runs(
    student: Package, context: Context, tmp_path: Path
) -> None:
    passes = {"int8": {"name": "static_int8", "bits": 4}, "graph": {"name": "onnx"}, "late": {"name": "tune"}}
    with pytest.raises(ConfigError) as caught:
        compress(student, passes, context, tmp_path / "out")
    assert len(caught.value.faults) == 2
    assert not (tmp_path / "out").exists()
    assert faults({"int8": {"name": "static_int8"}}) != []


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "card", "no card"])
@pytest.mark.parametrize("stage", ["tuned", "onnx"])
def test_damaged_package_is_refused_in_one_line(stages: Stages, tmp_path: Path, damage: str, stage: str) -> None:
    folder = shutil.copytree(stages[0][stage].package.folder, tmp_path / "copy")
    file = next(file for file in folder.iterdir() if file.name != "card.json")
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:-9])
    if damage == "flip":
        file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    if damage == "delete":
        file.unlink()
    if damage == "card":
        (folder / "card.json").write_text('{"kind": "torch",\n')
    if damage == "no card":
        (folder / "card.json").unlink()
    with pytest.raises(RecordError) as caught:
        Package.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_unknown_kind_is_refused(stages: Stages, tmp_path: Path) -> None:
    folder = shutil.copytree(stages[0]["onnx"].package.folder, tmp_path / "copy")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "kind": "tensorrt"}))
    with pytest.raises(RecordError, match="tensorrt"):
        Package.load(folder)


def test_graph_cannot_be_asked_for_its_network(stages: Stages) -> None:
    with pytest.raises(KDError, match="go before onnx"):
        stages[0]["onnx"].package.model()
