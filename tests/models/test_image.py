"""Encoders of pictures: what they cost, what pre-trained ones keep, and what a backbone demands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models
from torchvision.ops import FrozenBatchNorm2d

from kd.errors import ConfigError
from kd.evaluate.cost import macs
from kd.models import ENCODERS, Classifier
from kd.models.image import group_norm
from kd.seeding import initialise
from kd.types import Modality

SMALL = "shufflenet_v2_x0_5"
FAMILIES = ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16", "swin_t", "densenet121"]
FAMILIES += ["squeezenet1_1", "mnasnet0_5", "regnet_y_400mf", "googlenet", "inception_v3"]


def pictures(rows: int = 2, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (rows, 3, side, side), generator=generator, dtype=torch.uint8)


def torchvision_encoder(side: int = 32, **part: object) -> nn.Module:
    return ENCODERS.build({"name": "torchvision", "backbone": SMALL, **part}, Modality((3, side, side), "image"), 8)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file of a small backbone's state, its statistics away from their defaults."""
    torch.manual_seed(0)
    network = models.get_model(SMALL, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_cnn_takes_at_most_30_million_macs_at_48_pixels() -> None:
    model = Classifier({"image": Modality((3, 48, 48), "image")}, 9)
    assert macs(model, {"image": pictures(side=48)}, torch.ones(2, 1, dtype=torch.bool)) < 30e6


@pytest.mark.parametrize("side", [1, 7, 33])
def test_cnn_reads_pictures_of_any_size(side: int) -> None:
    encoder = ENCODERS.build({"name": "cnn", "channels": [8, 16]}, Modality((3, side, side), "image"), 4)
    assert encoder(pictures(side=side))[0].shape == (2, 1, 4)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"channels": []}, "channels: expected at least 1"),
        ({"channels": [8, 0]}, "channels: expected widths of at least 1"),
        ({"blocks": 0}, "blocks: expected at least 1"),
        ({"dropout": 1.0}, "dropout: expected a probability"),
    ],
)
def test_impossible_cnn_is_refused(part: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        ENCODERS.build({"name": "cnn", **part}, Modality((3, 8, 8), "image"), 4)


def test_groups_of_channels_divide_them_evenly() -> None:
    assert [group_norm(channels).num_groups for channels in (8, 16, 24, 58, 96)] == [1, 1, 1, 2, 6]


def test_untrained_backbone_has_no_statistics_of_a_batch() -> None:
    network = torchvision_encoder()
    assert not any(isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d) for module in network.modules())
    assert any(isinstance(module, nn.GroupNorm) for module in network.modules())


def test_pretrained_backbone_gives_what_torchvision_gives(weights: Path) -> None:
    from safetensors.torch import load_file
    from torchvision.models.feature_extraction import create_feature_extractor

    reference = models.get_model(SMALL, weights=None)
    reference.load_state_dict(load_file(weights))
    body = create_feature_extractor(reference.eval(), ["mean"])
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])  # ImageNet's
    shown = (pictures() / 255 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    encoder = torchvision_encoder(pretrained=str(weights)).eval()
    expected = encoder.network.fc(body(shown)["mean"])  # type: ignore[union-attr,operator]
    assert torch.allclose(encoder(pictures())[0][:, 0], expected, atol=1e-5)


def test_training_changes_no_statistics_of_a_pretrained_backbone(weights: Path) -> None:
    encoder = torchvision_encoder(pretrained=str(weights)).train()
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    encoder(pictures())[0].square().sum().backward()
    optimizer.step()
    assert before
    assert all(torch.equal(before[name], value) for name, value in encoder.named_buffers())


def test_frozen_backbone_trains_its_last_layer_only(weights: Path) -> None:
    encoder = torchvision_encoder(pretrained=str(weights), frozen=True).train()
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == {
        "network.fc.weight",
        "network.fc.bias",
    }
    assert not any(module.training for module in encoder.network.modules())  # type: ignore[union-attr]
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.5)
    encoder(pictures())[0].square().sum().backward()
    optimizer.step()
    changed = {name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"network.fc.weight", "network.fc.bias"}


def test_initialising_leaves_pretrained_weights_and_draws_the_last_layer(weights: Path) -> None:
    encoder = torchvision_encoder(pretrained=str(weights))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    initialise(encoder, 3)
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"network.fc.weight", "network.fc.bias"}


def test_package_of_a_pretrained_backbone_needs_its_file_no_more(weights: Path, tmp_path: Path) -> None:
    part = {"name": "torchvision", "backbone": SMALL, "pretrained": str(weights), "size": 40}
    model = Classifier({"image": Modality((3, 32, 32), "image")}, 4, width=8, encoder=part).eval()
    folder = model.save_pretrained(tmp_path / "package")
    weights.unlink()
    loaded, present = Classifier.from_pretrained(folder), torch.ones(2, 1, dtype=torch.bool)
    assert torch.equal(loaded({"image": pictures()}, present).logits, model({"image": pictures()}, present).logits)
    assert str(weights) not in (folder / "card.json").read_text()
    again = Classifier.from_pretrained(loaded.save_pretrained(tmp_path / "again"))
    assert torch.equal(again({"image": pictures()}, present).logits, model({"image": pictures()}, present).logits)


def test_card_copied_into_a_config_is_refused(weights: Path) -> None:
    copied = torchvision_encoder(pretrained=str(weights)).spec
    with pytest.raises(ConfigError, match="inside a package"):
        initialise(ENCODERS.build(copied, Modality((3, 32, 32), "image"), 8), 0)  # type: ignore[arg-type]


def test_size_that_a_vision_transformer_cannot_cut_is_refused() -> None:
    with pytest.raises(ConfigError, match="size: vit_b_16 cannot read"):
        torchvision_encoder(backbone="vit_b_16", size=40)


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"backbone": "resnet81"},
            "backbone: torchvision has no classification network 'resnet81'; did you mean 'resnet18'",
        ),
        ({"pretrained": "IMAGENET"}, "pretrained: shufflenet_v2_x0_5 has no weights 'IMAGENET'; known: IMAGENET1K_V1"),
        ({"pretrained": "none.safetensors"}, "pretrained: none.safetensors: weights cannot be read here"),
        ({"frozen": True}, "frozen: random weights"),
        ({"size": 0}, "size: expected at least 1"),
    ],
)
def test_impossible_backbone_is_refused_in_one_line(part: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        torchvision_encoder(**part)
    assert str(refused.value).startswith(expected)
    assert "\n" not in str(refused.value)


def test_weights_of_another_network_are_refused(weights: Path) -> None:
    with pytest.raises(ConfigError, match="not this backbone's weights"):
        torchvision_encoder(backbone="shufflenet_v2_x1_0", pretrained=str(weights))


class _Code:
    """What a pickle runs on loading."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.place),)


def _downloaded(content: object, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a file where torchvision looks for weights that it has already downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(home))
    checkpoints = home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(content, checkpoints / Path(models.get_model_weights(SMALL)["DEFAULT"].url).name)


def test_weights_by_name_are_torchvisions_own(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    _downloaded(load_file(weights), tmp_path / "home", monkeypatch)
    named, from_file = torchvision_encoder(pretrained="DEFAULT"), torchvision_encoder(pretrained=str(weights))
    one, other = named.state_dict(), from_file.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one if not key.startswith("network.fc."))


def test_code_in_a_downloaded_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _downloaded({"conv1.weight": _Code(tmp_path / "ran")}, tmp_path / "home", monkeypatch)
    with pytest.raises(ConfigError, match="weights cannot be read here"):
        torchvision_encoder(pretrained="DEFAULT")
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", FAMILIES)
def test_every_family_of_torchvision_encodes_small_pictures(backbone: str) -> None:
    encoder = initialise(torchvision_encoder(side=48, backbone=backbone), 0)
    tokens = encoder(pictures(side=48))[0]
    assert tokens.shape == (2, 1, 8)
    tokens.square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_listing_encoders_imports_no_torch() -> None:
    code = "import sys; from kd.models import ENCODERS; list(ENCODERS); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
