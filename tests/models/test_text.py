"""Encoders of words: padding, pre-trained models and what they refuse."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel

from kd.errors import ConfigError
from kd.models import ENCODERS, Classifier
from kd.pretrained import located
from kd.seeding import initialise
from kd.types import Modality

LENGTH, IDS = 6, 30
SMALL = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
PARTS: dict[str, dict[str, Any]] = {
    "bag": {"name": "bag", "embedding": 8, "hidden": [8]},
    "words": {"name": "words", "hidden": 8, "layers": 1, "heads": 2},
    "transformers": {"name": "transformers", "config": {"model_type": "bert", **SMALL}},
}
OTHERS = [
    {"model_type": "distilbert", "dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    {"model_type": "roberta", **SMALL, "max_position_embeddings": 16},
    {"model_type": "t5", "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2},
]


def encoder(part: dict[str, Any], *, pad: int = 0, ids: int = IDS, length: int = LENGTH) -> nn.Module:
    built = ENCODERS.build(part, Modality((length,), "text", vocabulary=ids, pad=pad), 4)
    return initialise(built, 0).eval()


def tokens(pad: int = 0, rows: int = 3) -> torch.Tensor:
    """Return rows of which the first is half padding."""
    x = torch.randint(2, IDS, (rows, LENGTH), generator=torch.Generator().manual_seed(0))
    x[0, LENGTH // 2 :] = pad
    return x


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a small pre-trained model, as transformers writes it."""
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=IDS, max_position_embeddings=LENGTH, **SMALL)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("name", PARTS)
def test_row_of_padding_alone_stands_for_nothing_and_harms_no_gradient(name: str, pad: int) -> None:
    reader, x = encoder(PARTS[name], pad=pad).train(), tokens(pad)
    x[1] = pad
    answer, keep = reader(x)
    assert keep[:, 0].tolist() == [True, False, True]
    answer.square().sum().backward()
    assert answer.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in reader.parameters())


@pytest.mark.parametrize("name", PARTS)
def test_more_padding_changes_nothing(name: str) -> None:
    longer, shorter = tokens()[:1], tokens()[:1, : LENGTH // 2]
    reader = encoder(PARTS[name])
    assert torch.allclose(reader(longer)[0], reader(shorter)[0], atol=1e-6)


def test_bag_is_blind_to_order_and_a_transformer_is_not() -> None:
    x = tokens()[1:]
    bag, words = encoder(PARTS["bag"]), encoder(PARTS["words"])
    assert torch.allclose(bag(x)[0], bag(x.flip(1))[0], atol=1e-6)
    assert not torch.allclose(words(x)[0], words(x.flip(1))[0], atol=1e-4)


def test_every_token_or_the_first_or_their_mean() -> None:
    x, reader = tokens(), encoder({**PARTS["words"], "pool": "tokens"})
    each, keep = reader(x)
    assert each.shape == (3, LENGTH, 4)
    assert torch.equal(keep, x != 0)
    for pool, expected in {"cls": each[:, 0], "mean": torch.stack([each[0, :3].mean(0), each[1].mean(0)])}.items():
        reader.pool = pool  # type: ignore[assignment]
        assert torch.allclose(reader(x)[0][:2, 0], expected[:2], atol=1e-6)


@pytest.mark.parametrize("config", OTHERS, ids=lambda config: config["model_type"])
def test_models_of_other_families_read_as_well(config: dict[str, Any]) -> None:
    reader = encoder({"name": "transformers", "config": config}).train()
    answer, keep = reader(tokens())
    answer.square().sum().backward()
    assert answer.shape == (3, 1, 4)
    assert keep.all()
    assert all(parameter.grad is not None for parameter in reader.parameters())


def test_pretrained_model_gives_what_transformers_gives(folder: Path) -> None:
    reader, x = encoder({"name": "transformers", "pretrained": str(folder)}), tokens()
    hidden = BertModel.from_pretrained(folder).eval()(x, attention_mask=(x != 0).long()).last_hidden_state
    mean = torch.stack([row[kept].mean(dim=0) for row, kept in zip(hidden, x != 0, strict=True)])
    assert torch.allclose(reader(x)[0][:, 0], reader.project(mean), atol=1e-6)  # type: ignore[operator]


def test_initialising_leaves_pretrained_weights(folder: Path) -> None:
    one, other = (encoder({"name": "transformers", "pretrained": str(folder)}) for _ in range(2))
    initialise(other, 7)
    same = {k: torch.equal(value, other.state_dict()[k]) for k, value in one.state_dict().items()}
    assert {key for key, equal in same.items() if not equal} == {"project.weight", "project.bias"}


def test_frozen_model_keeps_every_bit_and_gets_no_gradient(folder: Path) -> None:
    reader = encoder({"name": "transformers", "pretrained": str(folder), "frozen": True}).train()
    before = {name: value.clone() for name, value in reader.state_dict().items()}
    optimizer = torch.optim.AdamW(reader.parameters(), lr=0.1, weight_decay=0.5)
    one, other = reader(tokens())[0], reader(tokens())[0]
    assert torch.equal(one, other)  # no dropout
    one.square().sum().backward()
    optimizer.step()
    changed = {name for name, value in reader.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"project.weight", "project.bias"}
    assert all(p.grad is None for name, p in reader.named_parameters() if name.startswith("network."))


def test_package_of_a_pretrained_model_needs_its_folder_no_more(folder: Path, tmp_path: Path) -> None:
    part = {"name": "transformers", "pretrained": str(folder), "frozen": True}
    model = Classifier({"words": Modality((LENGTH,), "text", vocabulary=IDS)}, 3, width=4, encoder=part).eval()
    package, present = model.save_pretrained(tmp_path / "package"), torch.ones(3, 1, dtype=torch.bool)
    shutil.rmtree(folder)
    loaded = Classifier.from_pretrained(package)
    expected = model({"words": tokens()}, present).logits
    assert torch.equal(loaded({"words": tokens()}, present).logits, expected)
    assert str(folder) not in (package / "card.json").read_text()
    again = Classifier.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert torch.equal(again({"words": tokens()}, present).logits, expected)


def test_card_copied_into_a_config_is_refused(folder: Path) -> None:
    copied = encoder({"name": "transformers", "pretrained": str(folder)}).spec
    with pytest.raises(ConfigError, match="inside a package"):
        encoder(copied)  # type: ignore[arg-type]


def refused(**part: Any) -> str:
    with pytest.raises(ConfigError) as found:
        encoder({"name": "transformers", **part})
    assert "\n" not in str(found.value)
    return str(found.value)


def test_words_in_other_ids_than_the_models_are_refused(folder: Path) -> None:
    part = {"name": "transformers", "pretrained": str(folder)}
    with pytest.raises(ConfigError, match=r"30 token ids and the words come in 31; set the source's tokenizer: "):
        encoder(part, ids=31)
    config = BertConfig(vocab_size=5000, **SMALL)
    BertModel(config).save_pretrained(folder)
    with pytest.raises(ConfigError, match="5000 token ids and the words come in 30"):
        encoder(part)


def test_rows_longer_than_a_model_reads_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read rows of 9 tokens .* lower the source's length"):
        encoder({"name": "transformers", "pretrained": str(folder)}, length=9)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "brt"}, "config.model_type: transformers has no model 'brt'; did you mean 'bert'"),
        ({}, "config.model_type: transformers has no model"),
        (
            {"model_type": "bert", "hiden_size": 8},
            "config.hiden_size: bert has no such setting; did you mean 'hidden_size'",
        ),
        ({"model_type": "bert", "hidden_size": 15}, "config: no model can be built from it: The hidden size (15)"),
        ({"model_type": "bert", **SMALL, "vocab_size": 9}, "config.vocab_size: 9 is below the words' 30 token ids"),
    ],
)
def test_impossible_configuration_is_refused_in_one_line(config: dict[str, Any], expected: str) -> None:
    assert refused(config=config).startswith(expected)


def test_exactly_one_of_pretrained_and_config_is_named(folder: Path) -> None:
    assert "exactly one" in refused()
    assert "exactly one" in refused(pretrained=str(folder), config={"model_type": "bert"})
    assert "random weights" in refused(config={"model_type": "bert"}, frozen=True)


def test_no_hub_is_said_in_one_line_and_in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert refused(pretrained="owner/name").startswith("pretrained: owner/name: nothing to load here (no hub can be")


def test_missing_folder_and_package_are_named() -> None:
    assert "no such folder" in refused(pretrained="./nowhere")
    assert "is not installed; pip install no-such" in refused(pretrained="package:no_such/model")
    assert "has no folder 'nowhere'" in refused(pretrained="package:torch/nowhere")


def test_package_is_found_without_running_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "carrier_of_weights" / "model"
    inside.mkdir(parents=True)
    (tmp_path / "carrier_of_weights" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert located("package:carrier_of_weights/model") == str(inside)
    assert "carrier_of_weights" not in sys.modules


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "nothing to load here" in refused(pretrained=str(folder))


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    assert "nothing to load here" in refused(pretrained=str(folder))
    assert not (folder / "ran").exists()


def test_weights_that_are_missing_are_not_drawn_silently(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.0.output.dense.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert "1 weights are missing, encoder.layer.0.output.dense.weight" in refused(pretrained=str(folder))


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"name": "words", "hidden": 10}, "heads: hidden 10 is not divisible by 4 heads"),
        ({"name": "words", "layers": 0}, "layers: expected at least 1"),
        ({"name": "bag", "hidden": [0]}, "hidden: expected widths"),
        ({"name": "bag", "dropout": -0.1}, "dropout: expected a probability"),
    ],
)
def test_impossible_encoder_is_refused(part: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        encoder(part)
