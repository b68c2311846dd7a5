"""Networks of the user's own on disk: checkpoints in, content addresses, packages out."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import kd
from kd.distill.fit import node_address, train_graph
from kd.distill.teachers import state_digest
from kd.distill.trained import package_folder
from kd.errors import RecordError
from kd.models.checkpoint import load_weights
from kd.models.package import load_package

from .conftest import OWN, study_of


def test_safetensors_and_plain_state_dicts_are_checkpoints_too(models, tmp_path) -> None:
    one = models.Views(3)
    save_file(one.state_dict(), tmp_path / "views.safetensors")
    torch.save(one.state_dict(), tmp_path / "views.pt")
    for name in ("views.safetensors", "views.pt"):
        other = models.Views(3)
        load_weights(other, tmp_path / name)
        assert state_digest(other.state_dict()) == state_digest(one.state_dict())


def test_content_address_follows_code_and_weights_and_not_their_place(models, own, setting, tmp_path) -> None:
    def address(checkpoint: str = "words.ckpt") -> dict[str, Any]:
        study = study_of(nodes={"words": {"model": {"checkpoint": checkpoint}}})
        return node_address(study, "words", setting.fingerprints, {})

    first = address()
    shutil.copy(own / "words.ckpt", tmp_path / "moved.ckpt")
    assert address(str(tmp_path / "moved.ckpt")) == first
    state = torch.load("words.ckpt", weights_only=True)["state_dict"]
    torch.save(
        {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}, own / "other.pt"
    )
    assert address("other.pt") != first
    code = own / "own_models.py"
    code.write_text(OWN + "\n# a remark\n")
    assert address() == first
    code.write_text(OWN.replace("width: int = 16", "width: int = 32"))
    assert address() != first
    code.write_text(OWN)


def test_a_package_that_names_code_runs_it_only_where_allowed(models, setting, tmp_path) -> None:
    record = train_graph(study_of(), setting)["words"]
    stored = load_package(package_folder(record))
    folder = stored.save_pretrained(tmp_path / "package")
    with pytest.raises(
        RecordError, match="runs the code of own_models:Words; pass imports=True if you trust it"
    ) as refused:
        kd.Classifier.from_pretrained(folder)
    assert "\n" not in str(refused.value)
    loaded = kd.Imported.from_pretrained(folder, imports=True)
    x, everything = {"words": setting.source.inputs["words"][:5]}, torch.ones(5, 1, dtype=torch.bool)
    assert torch.equal(loaded(x, everything).logits, stored(x, everything).logits)
    assert "checkpoint" not in loaded.spec


def test_tied_weights_go_into_a_package_and_come_back(models, tmp_path) -> None:
    described = {"view": kd.Modality((4,))}
    spec = {"import": "own_models:Tied", "classes": 4, "takes": {"view": "x"}}
    one = kd.Imported(described, 4, spec)
    assert one.network.layers[0].weight is one.network.layers[2].weight
    other = kd.Imported.from_pretrained(one.save_pretrained(tmp_path / "package"), imports=True)
    x, everything = {"view": torch.randn(5, 4)}, torch.ones(5, 1, dtype=torch.bool)
    assert torch.equal(one(x, everything).logits, other(x, everything).logits)
    assert other.network.layers[0].weight is other.network.layers[2].weight


def test_a_study_evaluates_and_reports_a_network_by_name(models, small_study) -> None:
    from kd.study import run

    own_view = {"import": "own_models:Views", "classes": 3, "takes": {"m0": "x"}}
    study = small_study(seeds=1)
    study.nodes["one"] = dataclasses.replace(study.nodes["one"], model=own_view)
    folder = run(study)
    assert (folder / "report.html").exists()
