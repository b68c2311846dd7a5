"""Teachers' outputs in the run store: computed once, found again, never stale, never half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kd.config import Study
from kd.data.source import tensor_digest
from kd.distill.fit import Setting, build, train_graph
from kd.distill.outputs import outputs_path, teacher_outputs
from kd.distill.teachers import Frozen, cache
from kd.record import digest


@pytest.fixture
def taught(small_study: Callable[..., Study], setting_of: Callable[..., Setting]) -> tuple[Frozen, Setting]:
    study = small_study()
    setting = setting_of(study)
    return Frozen(build(study, "one", setting, {})[0].model.eval()), setting


def test_outputs_are_those_of_the_teacher_and_are_found_again(taught: tuple[Frozen, Setting]) -> None:
    teacher, setting = taught
    expected = cache(teacher, setting.chunks()).logits
    assert torch.equal(teacher_outputs(teacher, setting).logits, expected)
    path = outputs_path(teacher, setting)
    # What is in the file is what the next student gets: nothing is computed again.
    other = expected + 1
    save_file({"logits": other}, path, metadata={"sha256": digest([["logits", tensor_digest(other)]])})
    assert torch.equal(teacher_outputs(teacher, setting).logits, other)


def test_one_changed_weight_another_mask_and_another_row_are_other_files(taught: tuple[Frozen, Setting]) -> None:
    teacher, setting = taught
    paths = {outputs_path(teacher, setting)}
    available = setting.available.clone()
    available[0, 0] = ~available[0, 0]
    hidden = replace(setting)
    hidden.__dict__["available"] = available
    paths.add(outputs_path(teacher, hidden))
    inputs = {name: value.clone() for name, value in setting.source.inputs.items()}
    inputs["m0"][0, 0] += 1
    other = replace(setting, source=replace(setting.source, inputs=inputs))
    other.__dict__["available"] = setting.available
    paths.add(outputs_path(teacher, other))
    before = teacher_outputs(teacher, setting).logits.clone()
    with torch.no_grad():
        next(teacher.model.parameters()).view(-1)[0] += 1e-3
    paths.add(outputs_path(teacher, setting))
    assert len(paths) == 4
    assert not torch.equal(teacher_outputs(teacher, setting).logits, before)


def test_what_students_read_of_a_teacher_is_kept_beside_its_logits(taught: tuple[Frozen, Setting]) -> None:
    teacher, setting = taught
    path = outputs_path(teacher, setting)
    layer = "encoders.m0.layers.0"
    teacher.reads = ("feature", layer)
    assert outputs_path(teacher, setting) != path
    found = teacher_outputs(teacher, setting)
    assert found.reads == teacher_outputs(teacher, setting).reads == (layer, "feature", "logits")
    rows = setting.rows(torch.tensor([3, 1]), setting.available)
    live = teacher(rows)
    for name in found.outputs:
        torch.testing.assert_close(found(rows).read(name), live.read(name))
    assert set(load_file(outputs_path(teacher, setting))) == {"logits", "feature", layer}


def test_availability_of_modalities_that_the_teacher_does_not_see_shares_the_file(
    taught: tuple[Frozen, Setting],
) -> None:
    teacher, setting = taught
    other = replace(setting)
    available = setting.available.clone()
    available[:, 1] = ~available[:, 1]
    other.__dict__["available"] = available
    assert outputs_path(teacher, other) == outputs_path(teacher, setting)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another format"])
def test_damaged_outputs_are_computed_again(taught: tuple[Frozen, Setting], damage: str) -> None:
    teacher, setting = taught
    expected = teacher_outputs(teacher, setting).logits.clone()
    path = outputs_path(teacher, setting)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes(
        {"cut": whole[: len(whole) // 2], "flipped": flipped, "empty": b"", "another format": b"x" * 99}[damage]
    )
    assert torch.equal(teacher_outputs(teacher, setting).logits, expected)
    assert path.read_bytes() == whole


def test_a_writer_killed_midway_leaves_nothing_that_is_read(taught: tuple[Frozen, Setting], store: Path) -> None:
    teacher, setting = taught
    path = outputs_path(teacher, setting)
    path.parent.mkdir(parents=True)
    (path.parent / f".{path.name}.killed").write_bytes(b"half")
    expected = cache(teacher, setting.chunks()).logits
    assert torch.equal(teacher_outputs(teacher, setting).logits, expected)
    assert torch.equal(load_file(path)["logits"], expected)


def test_students_of_one_teacher_share_its_outputs(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting], store: Path
) -> None:
    study = small_study()
    setting = setting_of(study)
    train_graph(study, setting)
    files = {path: os.stat(path).st_mtime_ns for path in (store / "outputs").iterdir()}
    assert len(files) == 2  # one and two
    study.edges["one"].weight = 0.5
    records = train_graph(study, setting)
    assert {path: os.stat(path).st_mtime_ns for path in (store / "outputs").iterdir()} == files
    assert len(list((store / "train").iterdir())) == len(records) + 1


def test_changed_code_of_an_imported_teacher_is_another_file(
    taught: tuple[Frozen, Setting], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd.models.imported import Imported

    code = "from torch import nn\n\n\nclass OwnTeacher(nn.Linear):\n    def forward(self, x):\n"
    code += "        return {0}super().forward(x)\n"
    file = tmp_path / "own_teacher_for_outputs.py"
    file.write_text(code.format(""))
    monkeypatch.syspath_prepend(tmp_path)
    own = {"import": f"{file.stem}:OwnTeacher", "takes": {"m0": "x"}, "in_features": 4, "out_features": 3}
    teacher, setting = Frozen(Imported({"m0": (4,)}, 3, own)), taught[1]
    before = outputs_path(teacher, setting)
    assert outputs_path(teacher, setting) == before
    file.write_text(code.format("-"))
    assert outputs_path(teacher, setting) != before
