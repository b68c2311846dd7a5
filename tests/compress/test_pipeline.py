from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from kd.compress import PASSES
from kd.compress.context import Context
from kd.compress.package import Package, network_cost
from kd.compress.pipeline import apply, compress, faults
from kd.errors import ConfigError, KDError, RecordError
from kd.evaluate.predictor import OnnxPredictor
from kd.models.classifier import Classifier
from kd.types import Batch
from tests.compress.conftest import PASSES as SHIPPED
from tests.compress.conftest import Stages


@pytest.fixture(scope="module")
def packages(stages: Stages, student: Classifier, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    folder = tmp_path_factory.mktemp("packages")
    parent = Package.save(student, folder / "student")
    made = {"student": parent}
    for name, stage in stages[0].items():
        parent = Package.save(stage.model, folder / name, stage=name, parent=parent, evidence=stage.evidence)
        made[name] = parent
    return made


def test_every_pass_ran_in_the_order_given(stages: Stages) -> None:
    results, _, reported = stages
    assert list(results) == list(SHIPPED)
    assert [stage for stage, took in reported if took is not None] == list(results)


def test_student_stays_as_it_is(stages: Stages, student: Classifier) -> None:
    after = student.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in stages[1].items())


@pytest.mark.parametrize("name", PASSES)
def test_no_pass_changes_what_it_is_given(name: str, stages: Stages, student: Classifier, context: Context) -> None:
    takes = PASSES[name].load().takes  # type: ignore[attr-defined]
    given = student if takes == "torch" else stages[0]["onnx"].model

    def content() -> bytes:
        if isinstance(given, nn.Module):
            return b"".join(value.numpy().tobytes() for value in given.state_dict().values())
        return given.SerializeToString()  # type: ignore[no-any-return]

    before = content()
    made = apply(name, {"name": name}, given, context)
    assert content() == before
    assert made.model is not given


def test_every_card_names_its_parent_by_content(packages: dict[str, Package]) -> None:
    # Loading verifies checksums, and each card's parent is the address of the stage before as it stands now.
    again = [Package.load(package.folder) for package in packages.values()]
    for before, after in itertools.pairwise(again):
        assert after.card["parents"] == {before.stage: before.digest}


def test_every_stage_states_its_cost(stages: Stages, packages: dict[str, Package]) -> None:
    cost = {name: package.cost() for name, package in packages.items()}
    assert cost["pruned"]["macs"] <= 0.5 * cost["student"]["macs"]
    assert cost["int8"]["bytes"] < cost["onnx"]["bytes"]
    assert cost["int8"]["macs"] == cost["pruned"]["macs"]
    assert all(stage.seconds > 0 and stage.peak_mb > 0 for stage in stages[0].values())


def test_card_of_a_graph_names_opset_and_runtime(packages: dict[str, Package]) -> None:
    card = packages["onnx"].card
    assert card["opset"]["ai.onnx"] >= 18
    assert card["runtime"].startswith("onnxruntime")
    assert packages["onnx"].evidence["parity_max"] <= 1e-6


def test_every_package_has_a_model_card_for_people(packages: dict[str, Package]) -> None:
    written = {name: (package.folder / "README.md").read_text() for name, package in packages.items()}
    assert all("| `zer` | float32 | [20] | numbers |" in text for text in written.values())
    assert "load_package(folder)" in written["pruned"]
    assert 'session.run(None, {"fou": fou, "zer": zer, "mor": mor, "present": present})' in written["int8"]
    assert f"made from onnx `{packages['onnx'].digest[:12]}`" in written["int8"]
    assert "products and convolutions that run int8 kernels: 1" in written["int8"]
    assert f"opset {packages['int8'].card['opset']['ai.onnx']}" in written["int8"]


def test_a_stage_can_start_from_another_than_the_one_before(student: Classifier, rows: Batch) -> None:
    passes = {
        "half": {"name": "structured"},
        "most": {"name": "structured", "macs": 0.8, "of": "float"},
        "quarter": {"name": "structured", "of": "half"},
    }
    made = {stage.name: stage.model for stage in compress(student, rows, passes)}
    share = {name: network_cost(model)["macs"] / network_cost(student)["macs"] for name, model in made.items()}
    assert 0.2 < share["quarter"] <= 0.25 < 0.4 < share["half"] <= 0.5 < 0.7 < share["most"] <= 0.8


def test_a_module_that_knows_nothing_of_modalities_goes_through_every_stage() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    rows = torch.randn(128, 6)
    made = {stage.name: stage for stage in compress(network, rows, {k: SHIPPED[k] for k in ("pruned", "onnx", "int8")})}
    assert isinstance(made["pruned"].model, nn.Sequential)
    assert made["pruned"].model[-1].out_features == 3
    assert [value.name for value in made["int8"].model.graph.input] == ["input"]
    got = OnnxPredictor(made["onnx"].model)({"input": rows}, torch.ones(128, 1))
    torch.testing.assert_close(torch.as_tensor(got), made["pruned"].model(rows), atol=1e-5, rtol=1e-5)
    assert made["int8"].evidence["int8_share"] == 1.0


def test_rows_that_are_no_arguments_of_the_module_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Linear\.forward takes no argument 'image'; it takes input"):
        compress(nn.Linear(6, 3), {"image": torch.randn(8, 6)}, {"graph": {"name": "onnx"}})


def test_wrong_order_and_unknown_arguments_are_told_before_anything_runs(student: Classifier, rows: Batch) -> None:
    passes = {"int8": {"name": "static_int8", "bits": 4}, "graph": {"name": "onnx"}, "late": {"name": "tune"}}
    with pytest.raises(ConfigError) as caught:
        compress(student, rows, passes)
    assert len(caught.value.faults) == 2
    assert faults({"int8": {"name": "static_int8"}}) != []
    assert (
        "of: no stage 'grap' before it; did you mean 'graph'?"
        in faults({"graph": {"name": "onnx"}, "int8": {"name": "static_int8", "of": "grap"}})[0]
    )


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "card", "no card"])
@pytest.mark.parametrize("stage", ["tuned", "onnx"])
def test_damaged_package_is_refused_in_one_line(
    packages: dict[str, Package], tmp_path: Path, damage: str, stage: str
) -> None:
    folder = shutil.copytree(packages[stage].folder, tmp_path / "copy")
    file = folder / next(iter(json.loads((folder / "card.json").read_text())["checksums"]))
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


def test_unknown_kind_is_refused(packages: dict[str, Package], tmp_path: Path) -> None:
    folder = shutil.copytree(packages["onnx"].folder, tmp_path / "copy")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, "kind": "tensorrt"}))
    with pytest.raises(RecordError, match="tensorrt"):
        Package.load(folder)


def test_graph_cannot_be_asked_for_its_network(packages: dict[str, Package]) -> None:
    with pytest.raises(KDError, match="holds a graph"):
        packages["onnx"].network()
