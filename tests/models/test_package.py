"""Packages: a student of raw values without a config, and every way in which a folder can be wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from kd.errors import RecordError
from kd.models import Classifier
from kd.models.package import resize_layers
from kd.processors.features import Features
from kd.processors.pictures import Pixels
from kd.processors.words import Tokenizer
from kd.record import file_digest
from kd.seeding import initialise

WORDS = ["grinning cat", "weary cat", "red heart", "flag"]
TABLE = pd.DataFrame({"age": [1.0, float("nan"), 3.0, 4.0], "colour": ["red", "blue", None, "red"]})


def student() -> Classifier:
    """Return a network of a picture, words and a table's row, with everything that turns raw values into inputs."""
    processors = {
        "image": Pixels(16),
        "words": Tokenizer.trained(WORDS, length=5, vocabulary=60),
        "table": Features.fitted(TABLE),
    }
    model = Classifier(
        {name: processor.modality for name, processor in processors.items()},
        3,
        width=8,
        encoders={"image": {"name": "cnn", "channels": [8, 16]}, "words": {"name": "words", "hidden": 8, "heads": 2}},
        fusion={"name": "gated"},
    )
    initialise(model, 0)
    model.processors = dict(processors)
    model.class_names = ["animal", "symbol", "flag"]
    model.fit_scalers({"table": processors["table"](TABLE)}, torch.ones(4, 3, dtype=torch.bool))
    return model.eval()


def png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 12), colour).save(stream, "PNG")
    return stream.getvalue()


LOADING = """
import json, sys
import kd
student = kd.Classifier.from_pretrained(sys.argv[1])
inputs, present = student.encode({
    "words": ["grinning cat", None, "a new word", None],
    "image": [sys.argv[2], sys.argv[2], None, None],
    "table": [{"age": 2.0, "colour": "blue"}, None, None, {"age": None, "colour": "green"}],
})
print(json.dumps([student(inputs, present).logits.tolist(), student.class_names]))
"""


def test_student_is_loaded_from_raw_values_in_ten_lines_without_a_config(tmp_path: Path) -> None:
    model, picture = student(), tmp_path / "picture.png"
    picture.write_bytes(png((250, 20, 3)))
    raw = {
        "image": [str(picture), picture.read_bytes(), None, None],
        "words": ["grinning cat", None, "a new word", None],
        "table": [{"age": 2.0, "colour": "blue"}, None, None, {"age": None, "colour": "green"}],
    }
    inputs, present = model.encode(raw)
    assert present.tolist() == [[True, True, True], [True, False, False], [False, True, False], [False, False, True]]
    expected = model(inputs, present).logits
    folder = model.save_pretrained(tmp_path / "student")
    ran = subprocess.run(
        [sys.executable, "-c", LOADING, str(folder), str(picture)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    logits, names = json.loads(ran.stdout)
    assert logits == expected.tolist()
    assert names == ["animal", "symbol", "flag"]
    assert len(LOADING.strip().splitlines()) <= 10


def test_a_modality_left_out_is_one_that_is_missing(tmp_path: Path) -> None:
    loaded = Classifier.from_pretrained(student().save_pretrained(tmp_path / "student"))
    inputs, present = loaded.encode({"words": ["red heart"]})
    other, absent = loaded.encode({"words": ["red heart"], "image": [None], "table": [None]})
    assert present.tolist() == absent.tolist() == [[False, True, False]]
    assert torch.equal(loaded(inputs, present).logits, loaded(other, absent).logits)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the card, and make its checksums those of the files as they are."""
    card = json.loads((folder / "card.json").read_text())
    card["checksums"] = {file: file_digest(folder / file) for file in card["checksums"]}
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def change_processors(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    states = json.loads((folder / "processors.json").read_text())
    change(states)
    (folder / "processors.json").write_text(json.dumps(states))
    rewrite(folder, lambda card: None)


def drop_a_weight(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    del state["head.bias"]
    save_file(state, folder / "weights.safetensors")
    rewrite(folder, lambda card: None)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(bytes(content))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights cut": (
        lambda f: (f / "weights.safetensors").write_bytes(b"\x00" * 100),
        "weights.safetensors: not the one",
    ),
    "weights changed": (lambda f: flip_a_bit(f / "weights.safetensors"), "weights.safetensors: not the one"),
    "weights gone": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors: missing"),
    "a weight gone": (drop_a_weight, "not the weights of the network on its card (head.bias)"),
    "processors changed": (lambda f: flip_a_bit(f / "processors.json"), "processors.json: not the one"),
    "processors gone": (lambda f: (f / "processors.json").unlink(), "processors.json: missing"),
    "processors no mapping": (
        lambda f: ((f / "processors.json").write_text("[]"), rewrite(f, lambda card: None)),
        "processors.json: damaged",
    ),
    "a processor damaged": (lambda f: change_processors(f, lambda p: p["image"].pop("size")), "processors.json: "),
    "a tokenizer damaged": (
        lambda f: change_processors(f, lambda p: p["words"].update(tokenizer={"model": 3})),
        "processors.json: ",
    ),
    "a newer processor": (
        lambda f: change_processors(f, lambda p: p["image"].update(name="hologram")),
        "processors.json: processor: unknown name 'hologram'",
    ),
    "a processor of another size": (
        lambda f: change_processors(f, lambda p: p["image"].update(size=17)),
        "image is not what the network takes",
    ),
    "a processor of nothing": (
        lambda f: change_processors(f, lambda p: p.update(sound=p["image"])),
        "sound is not what the network takes",
    ),
    "card cut": (lambda f: (f / "card.json").write_text('{"kind": "tor'), "card.json: damaged card"),
    "card empty": (lambda f: (f / "card.json").write_text(""), "card.json: damaged card"),
    "card a list": (lambda f: (f / "card.json").write_text("[]"), "card.json: damaged card"),
    "card no text": (lambda f: (f / "card.json").write_bytes(b"\xff\xfe\x00"), "card.json: damaged card"),
    "card gone": (lambda f: (f / "card.json").unlink(), "card.json: missing"),
    "no checksum": (lambda f: rewrite(f, lambda card: card["checksums"].pop("processors.json")), "damaged card"),
    "newer": (lambda f: rewrite(f, lambda card: card.update(format=99)), "format 99 is newer than"),
    "a graph": (lambda f: rewrite(f, lambda card: card.update(kind="onnx")), "holds a onnx graph, not a network"),
    "an encoder of a newer version": (
        lambda f: rewrite(f, lambda card: card["model"]["encoders"]["image"].update(name="hologram")),
        "encoders.image.name: unknown encoder 'hologram'",
    ),
    "an argument of a newer version": (
        lambda f: rewrite(f, lambda card: card["model"].update(depth=3)),
        "damaged package (TypeError",
    ),
    "other classes": (
        lambda f: rewrite(f, lambda card: card.update(classes=9, class_names=[])),
        "card.json: 9 classes for 3 logits",
    ),
    "another kind": (
        lambda f: rewrite(f, lambda card: card["modality"]["words"].update(kind="image", shape=[3, 4, 4])),
        "encoders.words: words cannot read image",
    ),
    "a modality gone": (lambda f: rewrite(f, lambda card: card["modality"].pop("words")), "damaged package"),
    "names of other classes": (
        lambda f: rewrite(f, lambda card: card.update(class_names=["one"])),
        "1 class names for 3 classes",
    ),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = student().save_pretrained(tmp_path_factory.mktemp("whole") / "student")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_package_is_refused_in_one_line(damage: str, package: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    for name, content in package.items():
        (folder / name).write_bytes(content)
    Classifier.from_pretrained(folder)
    harm, expected = DAMAGES[damage]
    harm(folder)
    with pytest.raises(RecordError) as refused:
        Classifier.from_pretrained(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)
    assert expected in str(refused.value)


def test_name_that_is_neither_folder_nor_hub_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("owner/no-such-package", "three/part/name"):
        with pytest.raises(RecordError, match=f"{name}: no such folder") as refused:
            Classifier.from_pretrained(name)
        assert "\n" not in str(refused.value)


def test_layers_take_the_shapes_that_are_stored() -> None:
    def layers(inner: int, groups: int) -> nn.Module:
        depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        return nn.Sequential(
            nn.Conv2d(3, inner, 3), nn.GroupNorm(groups, inner), depthwise, nn.Flatten(), nn.Linear(inner, 2)
        )

    pruned, whole = layers(4, 2), layers(8, 2)
    resize_layers(whole, pruned.state_dict())
    whole.load_state_dict(pruned.state_dict())
    picture = torch.randn(2, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole(picture), pruned(picture))


def test_pruned_convolutions_are_loaded_like_any_others(tmp_path: Path) -> None:
    narrow = student()
    for path in ("layers.3.first", "layers.3.first_norm", "layers.3.second"):
        layer = narrow.get_submodule(f"encoders.image.{path}")
        state = {f"{path}.weight": layer.weight[:8] if "second" not in path else layer.weight[:, :8]}  # type: ignore[index]
        resize_layers(narrow.get_submodule("encoders.image"), state)
    loaded = Classifier.from_pretrained(narrow.save_pretrained(tmp_path / "narrow"))
    assert loaded.get_submodule("encoders.image.layers.3.first").out_channels == 8
    inputs, present = loaded.encode({"image": [png((9, 9, 9))]})
    assert torch.equal(loaded(inputs, present).logits, narrow(inputs, present).logits)
