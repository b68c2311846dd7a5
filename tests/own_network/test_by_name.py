"""Networks of the user's own by name in a config: `{import: package.module:Class, ...}`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

import kd
from kd.distill.fit import Setting, build, train_graph
from kd.distill.graph import part_faults
from kd.distill.teachers import Frozen, state_digest
from kd.distill.trained import package_folder, rows_seen
from kd.distill.trial import try_node
from kd.errors import ConfigError
from kd.importing import import_class
from kd.models.package import load_package
from kd.parsing import parse

from .conftest import PICTURES, WORDS, study_of

ROOT = Path(__file__).parents[2]


def test_own_checkpoints_teach_from_a_config_and_keep_every_bit(models, setting) -> None:
    study = study_of(edges={"pictures": {"cache": False}})
    assert part_faults(study) == []
    for name in study.nodes:
        try_node(study, name, setting.source)
    trained = train_graph(study, setting)
    for name in ("pictures", "words"):
        weights = load_file(package_folder(trained[name]) / "weights.safetensors")
        given = torch.load(f"{name}.ckpt", weights_only=True)["state_dict"]
        assert state_digest(weights) == state_digest({f"network.{key}": value for key, value in given.items()})
        assert trained[name].metrics["steps"] == 0
        assert trained[name].selected_on == "nothing: the weights as they were given"
        assert rows_seen(trained[name]) == {}
    module, _ = build(study, "student", setting, {name: package_folder(record) for name, record in trained.items()})
    assert isinstance(module.edges["pictures"].teacher, Frozen)
    assert set(module.state_dict()) == {f"model.network.{name}" for name in models.Fused().state_dict()}
    assert trained["student"].metrics["steps"] == 4


def test_a_teacher_by_name_answers_as_the_module_it_came_from(models, setting) -> None:
    trained = train_graph(study_of(), setting)
    teacher = load_package(package_folder(trained["pictures"]))
    image, everything = setting.source.inputs["image"][:7], torch.ones(7, 1, dtype=torch.bool)
    own_module = models.Pictures.load_from_checkpoint("pictures.ckpt").eval()
    assert torch.equal(teacher({"image": image}, everything).logits, own_module(image.float() / 255))


def test_a_backbone_is_taken_out_of_a_checkpoint_by_its_prefix(models, setting) -> None:
    inner = {"import": "torchvision.models:resnet18", "num_classes": 3, "takes": {"image": "x"}}
    inner |= {"checkpoint": "pictures.ckpt", "prefix": "network."}
    whole = train_graph(study_of(), setting)["pictures"]
    part = train_graph(study_of(nodes={"pictures": {"model": inner}}), setting)["pictures"]
    one, other = (load_package(package_folder(record)) for record in (whole, part))
    x, everything = {"image": setting.source.inputs["image"][:5]}, torch.ones(5, 1, dtype=torch.bool)
    assert torch.equal(one(x, everything).logits, other(x, everything).logits)


def test_given_weights_can_be_trained_further_with_a_branch_frozen(models, setting) -> None:
    node = {"sees": ["words"], "steps": 4, "validate_every": 2, "model": WORDS, "select": "last"}
    node |= {"learning_rates": {"network.bert": 0, "network.classifier": 1e-2}}
    study = parse({"data": {"name": "synthetic"}, "nodes": {"words": node}})
    try_node(study, "words", setting.source)
    given = torch.load("words.ckpt", weights_only=True)["state_dict"]
    made = load_file(package_folder(train_graph(study, setting)["words"]) / "weights.safetensors")
    changed = {name for name, value in given.items() if not torch.equal(value, made[f"network.{name}"])}
    assert changed == {"network.classifier.weight", "network.classifier.bias"}


def test_init_with_zero_steps_is_the_network_it_starts_from(models, setting) -> None:
    nodes = {"copy": {"sees": ["words"], "init": "words", "steps": 0}}
    trained = train_graph(study_of(nodes=nodes), setting)
    one, other = (load_file(package_folder(trained[name]) / "weights.safetensors") for name in ("words", "copy"))
    assert state_digest(one) == state_digest(other)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"import": "own_models.Pictures"}, "model.import: expected package.module:Class"),
        ({"import": "own_modles:Pictures"}, "model.import: no module 'own_modles' in "),
        ({"import": "own_models:Picture"}, "model.import: own_models has no Class 'Picture'; did you mean 'Pictures'"),
        ({"import": "collections:OrderedDict"}, "model.import: collections:OrderedDict is no Module"),
        ({"import": "syntax_fault:Net"}, "model.import: syntax_fault cannot be imported (SyntaxError"),
        ({"import": "lacking:Net"}, "model.import: lacking cannot be imported (ModuleNotFoundError: No module named"),
        ({"classes": None}, "model.classes: expected int, got None"),
        ({"clases": 3}, "model.clases: unknown argument; did you mean 'classes'"),
        ({"takes": {"image": "pixels"}}, "model.takes.image: its forward has no argument 'pixels'; Known: x"),
        ({"takes": {"imagee": "x"}}, "model.takes.imagee: the node does not see it; did you mean 'image'"),
        ({"takes": "x"}, "model.takes: expected a mapping from modality to argument"),
        ({"checkpoint": "none.ckpt"}, "model.checkpoint: none.ckpt: no such file"),
        ({"checkpoint": 3}, "model.checkpoint: expected text, got 3"),
        ({"checkpoint": "pickled.ckpt"}, "checkpoint: pickled.ckpt: holds objects besides tensors"),
        ({"checkpoint": "cut.ckpt"}, "checkpoint: cut.ckpt: not a checkpoint, or damaged"),
        ({"checkpoint": "words.ckpt"}, "checkpoint: words.ckpt: lacks 'network.bn1.bias'"),
        ({"checkpoint": "listed.ckpt"}, "checkpoint: listed.ckpt: expected a state dict"),
        (
            {"prefix": "model."},
            "prefix: no weight in pictures.ckpt begins with 'model.'; the first is 'network.bn1.bias'",
        ),
        ({"classes": 4}, "checkpoint: pictures.ckpt: 'network.fc.bias' has shape [3], the network's [4]"),
        ({"import": "own_models:Broken"}, "import: own_models:Broken cannot be built (RuntimeError: out of luck)"),
    ],
)
def test_wrong_import_is_one_line(models, own, setting, change: dict[str, Any], expected: str) -> None:
    (own / "syntax_fault.py").write_text("def (\n")
    (own / "lacking.py").write_text("import a_package_nobody_has\n")
    torch.save({"state_dict": {}, "callback": Setting}, own / "pickled.ckpt")
    torch.save([torch.zeros(1)], own / "listed.ckpt")
    (own / "cut.ckpt").write_bytes((own / "words.ckpt").read_bytes()[:2000])
    model = {**PICTURES, **change}
    if change.get("import") == "own_models:Broken":
        model = {key: model[key] for key in ("import", "classes")}
    study = parse({"data": {"name": "synthetic"}, "nodes": {"t": {"sees": ["image"], "steps": 0, "model": model}}})
    found = part_faults(study)
    if not found:
        with pytest.raises(ConfigError) as refused:
            try_node(study, "t", setting.source)
        found = refused.value.faults
    assert any(expected in fault for fault in found), found
    assert all("\n" not in fault for fault in found)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (
            {"import": "own_models:Views", "classes": 5, "takes": {"view": "x"}},
            "answers 2 rows with [2, 5], expected [2, 3]",
        ),
        (
            {"import": "own_models:Views", "classes": 3},
            "model.import: own_models:Views cannot answer blank rows (TypeError",
        ),
        ({"import": "own_models:Pair", "classes": 3, "takes": {"view": "x"}}, "its forward returned tuple"),
        (
            {"import": "own_models:views", "classes": 3, "takes": {"view": "y"}},
            "takes.view: its forward has no argument 'y'",
        ),
    ],
)
def test_a_network_that_cannot_answer_is_found_before_training(models, model: dict[str, Any], expected: str) -> None:
    rows = kd.Source("views", {"view": torch.randn(6, 4)}, torch.arange(6) % 3, 3)
    study = parse({"data": {"name": "synthetic"}, "nodes": {"t": {"sees": ["view"], "model": model}}})
    assert part_faults(study) == []
    with pytest.raises(ConfigError) as refused:
        try_node(study, "t", rows)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_working_directory_is_searched_as_python_m_does(tmp_path, monkeypatch) -> None:
    (tmp_path / "net_found_here.py").write_text("from torch import nn\n\n\nclass Net(nn.Linear):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert import_class("net_found_here:Net", torch.nn.Module).__name__ == "Net"


def test_zero_steps_need_given_weights_and_teach_no_student() -> None:
    nodes = {"t": {"sees": ["m0"], "steps": 0}, "s": {"sees": ["m0"], "init": "t", "steps": 0}}
    edges = {"e": {"teacher": "t", "student": "s"}}
    found = part_faults(parse({"data": {"name": "synthetic"}, "nodes": nodes, "edges": edges}))
    assert any("nodes.t.steps: 0 uses given weights, and none are given" in fault for fault in found)
    assert any("edges.e.student: s takes 0 steps and learns nothing" in fault for fault in found)
    assert not any("nodes.s.steps" in fault for fault in found)


def test_an_import_replaces_what_defaults_say_of_the_model(models) -> None:
    tree = {"data": {"name": "synthetic"}, "defaults": {"model": {"width": 8}}, "nodes": {"t": {"sees": ["image"]}}}
    assert parse({**tree, "nodes": {"t": {"sees": ["image"], "model": PICTURES}}}).nodes["t"].model == PICTURES


def test_yaml_in_the_page_about_own_networks_fits_the_schema() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "own-network.md").read_text(), re.DOTALL)
    study = parse({"data": {"name": "synthetic"}, **OmegaConf.to_container(OmegaConf.create(text))})
    assert study.nodes["pictures"].model["takes"] == {"image": "x"}
