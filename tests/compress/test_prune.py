from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from kd import models
from kd.compress.channels import remove, units_of
from kd.compress.context import Context
from kd.compress.package import Package
from kd.compress.pipeline import compress
from kd.compress.prune import Structured, least_important
from kd.compress.zeroed import zeroed
from kd.errors import ConfigError, KDError
from kd.evaluate.cost import macs
from kd.models import STAND_INS
from kd.models.classifier import Classifier
from kd.models.network import blank_rows
from kd.types import Batch, Modality

EVERY_KIND = {
    "fou": Modality((76,)),
    "image": Modality((3, 16, 16), "image"),
    "text": Modality((8,), "text", vocabulary=50),
}
ENCODERS = {
    "fou": {"name": "mlp"},
    "image": {"name": "cnn", "channels": [8, 32]},
    "text": {"name": "words", "layers": 1, "hidden": 32},
}
NO_ROWS = Context(Batch.of({"fou": torch.zeros(1, 76)}, torch.zeros(1)))


def network(fusion: str) -> Classifier:
    torch.manual_seed(0)
    return Classifier({"fou": [76], "pix": [240]}, 5, width=16, fusion={"name": fusion}).eval()


def every_kind(fusion: str = "concat") -> Classifier:
    torch.manual_seed(0)
    return Classifier(EVERY_KIND, 5, width=16, encoders=ENCODERS, fusion={"name": fusion}).eval()


def rows_of(model: Classifier, count: int = 16) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    inputs = {}
    for name, m in model.modality.items():
        whole = torch.randint(m.vocabulary or 256, (count, *m.shape), generator=draw).to(m.dtype)
        inputs[name] = torch.randn(count, *m.shape, generator=draw) if m.dtype.is_floating_point else whole
    return inputs, torch.rand(count, len(inputs), generator=draw) > 0.4


def cost(model: nn.Module) -> int:
    return macs(model, *blank_rows(model))


def test_pruned_network_equals_the_original_with_those_channels_zeroed() -> None:
    model, pruned = every_kind(), every_kind()
    removed = remove(pruned, least_important(units_of(model, "magnitude"), 0.4, Structured()))
    assert {layer.split(".")[1] for layer in removed} == {"fou", "image", "text"}
    torch.testing.assert_close(
        pruned(*rows_of(model)).logits, zeroed(model, removed)(*rows_of(model)).logits, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("fusion", models.FUSIONS)
def test_macs_land_just_under_the_target_and_the_network_still_trains(fusion: str) -> None:
    model = every_kind(fusion)
    pruned, evidence = Structured(macs=0.6)(model, NO_ROWS)
    ratio = cost(pruned) / cost(model)
    assert ratio == evidence["macs_ratio"]
    assert 0.5 < ratio <= 0.6
    assert evidence["parity_max"] < 1e-5
    answer = pruned.train()(*blank_rows(pruned))
    (answer.logits.sum() if answer.auxiliary is None else answer.logits.sum() + answer.auxiliary.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pruned.parameters())
    assert all(p.grad is not None for p in pruned.encoders.parameters())


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_any_target_can_be_met(share: float) -> None:
    model = network("concat")
    pruned, _ = Structured(macs=share)(model, NO_ROWS)
    assert share - 0.1 < cost(pruned) / cost(model) <= share


def test_whole_heads_go_and_the_residual_stream_stays(tmp_path: Path) -> None:
    model = every_kind()
    pruned, evidence = Structured(macs=0.4)(model, NO_ROWS)
    layer = pruned.encoders["text"].network.encoder.layer[0]
    assert layer.attention.self.query.out_features in (8, 16, 24)
    assert layer.attention.self.query.out_features == layer.attention.output.dense.in_features
    assert layer.attention.output.dense.out_features == 32
    assert layer.intermediate.dense.out_features < 128
    loaded = Classifier.from_pretrained(pruned.save_pretrained(tmp_path / "pruned"))
    assert torch.equal(loaded(*rows_of(model)).logits, pruned(*rows_of(model)).logits)
    assert "encoders.text.network.encoder.layer.0.attention.self.query" in evidence["channels"]


def resnet(tmp_path: Path) -> Classifier:
    """One whose normalisation is frozen, as that of pre-trained weights is."""
    import torchvision

    torch.manual_seed(0)
    plain = torchvision.models.resnet18(weights=None)
    for norm in (m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 2)
        norm.bias.data.normal_(std=0.1)
    save_file(plain.state_dict(), tmp_path / "resnet18.safetensors")
    encoder = {"name": "torchvision", "backbone": "resnet18", "pretrained": str(tmp_path / "resnet18.safetensors")}
    modality = {"image": Modality((3, 32, 32), "image"), "fou": Modality((76,))}
    return Classifier(modality, 5, width=16, encoders={"image": encoder}).eval()


def test_channels_of_frozen_norms_go_with_their_convolutions(tmp_path: Path) -> None:
    model = resnet(tmp_path)
    pruned, evidence = Structured(macs=0.3)(model, NO_ROWS)
    assert evidence["notes"] == []
    assert 0.25 < cost(pruned) / cost(model) <= 0.3
    loaded = Classifier.from_pretrained(pruned.save_pretrained(tmp_path / "pruned"))
    assert torch.equal(loaded(*rows_of(model)).logits, pruned(*rows_of(model)).logits)


def test_frozen_norms_fold_into_the_convolutions_of_the_graph() -> None:
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(8)
    for name, value in norm.named_buffers():
        value.copy_(torch.rand(8) + (0.5 if name == "running_var" else 0.0))
    convolved = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), norm, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    pictures = torch.randn(16, 3, 8, 8)
    (stage,) = compress(convolved, pictures, {"graph": {"name": "onnx"}})
    assert {node.op_type for node in stage.model.graph.node} <= {"Conv", "Relu", "Reshape", "Gemm", "Shape", "Concat"}
    assert stage.evidence["parity_max"] < 1e-6


@pytest.mark.parametrize("ranking", ["layer", "branch", "global"])
def test_floors_hold_under_every_ranking(ranking: str) -> None:
    model = network("concat")
    with torch.no_grad():
        model.encoders["fou"].layers[0].weight[8:].mul_(1e-3)  # a global ranking would empty this branch
    settings = Structured(macs=0.4, ranking=ranking, keep=0.05, floors={"fou": 0.5})
    pruned, _ = settings(model, NO_ROWS)
    first, last = pruned.encoders["fou"].layers[0], pruned.encoders["fou"].layers[3]
    assert first.out_features >= 32
    assert last.out_features >= 8
    assert pruned.encoders["pix"].layers[0].out_features >= 4
    assert (first.in_features, pruned.head.out_features) == (76, 5)


def test_a_layer_ranking_takes_the_same_share_everywhere_and_a_global_one_does_not() -> None:
    model = network("concat")
    with torch.no_grad():
        model.encoders["fou"].layers[0].weight[8:].mul_(1e-3)
    found = units_of(model, "magnitude")
    gone = {
        ranking: least_important(found, 0.5, Structured(ranking=ranking)) for ranking in ("layer", "branch", "global")
    }
    whole = {units.layer: len(units.channels) for units in found}
    assert {len(gone["layer"][layer]) / count for layer, count in whole.items()} == {0.5}
    branches = [
        sum(len(channels) for layer, channels in gone["branch"].items() if layer.startswith(f"encoders.{name}"))
        for name in ("fou", "pix")
    ]
    assert branches == [40, 40]
    assert len(gone["global"]["encoders.fou.layers.0"]) > 32


@pytest.mark.parametrize("multiple", [8, 16])
def test_layers_keep_a_multiple_of_channels_where_they_have_as_many(multiple: int) -> None:
    pruned, evidence = Structured(macs=0.6, multiple=multiple)(network("concat"), NO_ROWS)
    assert evidence["macs_ratio"] <= 0.6
    assert all(left % multiple == 0 for left, _ in evidence["channels"].values())
    assert pruned.encoders["pix"].layers[3].out_features in (8, 16)


def test_taylor_removes_what_the_loss_does_not_need(student: Classifier, context: Context) -> None:
    # Large weights into channels that nothing reads: by magnitude they stay, by the loss they go first.
    model = Classifier(student.modality, 4, width=96, encoder={"name": "mlp", "hidden": [96]})
    model.load_state_dict(student.state_dict())
    with torch.no_grad():
        model.encoders["fou"].layers[0].weight[:20] *= 50
        model.encoders["fou"].layers[3].weight[:, :20] *= 1e-4
    chosen = {}
    for importance in ("magnitude", "taylor"):
        settings = Structured(macs=0.5, importance=importance)
        chosen[importance], _ = settings._choose(model.eval(), 0.5 * cost(model), context)
    useless = set(range(20))
    gone = {name: useless & set(c["encoders.fou.layers.0"].tolist()) for name, c in chosen.items()}
    assert len(gone["taylor"]) > 15
    assert len(gone["magnitude"]) < 10


def test_rounds_train_between_and_reach_the_same_target(student: Classifier, context: Context) -> None:
    trained: list[int] = []

    def fit(model: nn.Module) -> nn.Module:
        trained.append(cost(model))
        assert context.fit is not None
        return context.fit(model)

    pruned, evidence = Structured(macs=0.4, rounds=3)(student, Context(context.rows, "multiclass", fit=fit))
    assert len(trained) == 2
    assert trained[0] > trained[1] > cost(pruned)
    assert 0.3 < evidence["macs_ratio"] <= 0.4


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Structured(importance="taylor"), "taylor needs the student's loss"),
        (Structured(rounds=2), "training between rounds needs a fit"),
        (Structured(floors={"foo": 0.5}), "floors: foo: the student does not see it; it sees fou, zer, mor"),
        (Structured(macs=0.1, keep=0.9), r"0\.\d+ of the MACs remain at the floor"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(
    settings: Structured, reason: str, student: Classifier, rows: Batch
) -> None:
    with pytest.raises(KDError, match=reason):
        settings(student, Context(rows))


@pytest.mark.parametrize("name", STAND_INS)
def test_student_with_any_stand_in_is_pruned_where_something_is_absent_too(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier({"a": [12], "b": [20]}, 5, width=16, absent={"name": name})
    inputs = {"a": torch.randn(64, 12), "b": torch.randn(64, 20)}
    present = torch.rand(64, 2, generator=torch.Generator().manual_seed(1)) > 0.4
    model.fit_scalers({scaled: inputs[scaled] for scaled in model.scaled}, present)
    pruned, evidence = Structured(macs=0.5)(model.eval(), NO_ROWS)
    loaded = Classifier.from_pretrained(pruned.save_pretrained(tmp_path / "pruned"))
    assert torch.equal(loaded(inputs, present).logits, pruned(inputs, present).logits)
    assert evidence["parity_max"] < 1e-5
    assert any(path.startswith("encoders") for path in evidence["channels"])
    assert any("stand-in left whole" in note for note in evidence["notes"]) == (name in ("knn", "ridge", "iterative"))


def test_shares_outside_their_range_are_all_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Structured(macs=0.0, keep=2.0, floors={"a": 1.5}, rounds=0, multiple=0)
    assert len(caught.value.faults) == 5


def test_pruned_package_loads_without_pruning_code(student: Classifier, rows: Batch, tmp_path: Path) -> None:
    (stage,) = compress(student, rows, {"pruned": {"name": "structured"}})
    parent = Package.save(student, tmp_path / "student")
    package = Package.save(stage.model, tmp_path / "pruned", stage="pruned", parent=parent, evidence=stage.evidence)
    loaded = Classifier.from_pretrained(package.folder)
    assert torch.equal(loaded(rows.inputs, rows.present).logits, stage.model(rows.inputs, rows.present).logits)
    assert package.bytes < parent.bytes


def test_same_network_is_pruned_alike_twice() -> None:
    one, other = (Structured()(network("mean"), NO_ROWS) for _ in range(2))
    assert one[1] == other[1]
    assert all(
        torch.equal(a, b) for a, b in zip(one[0].state_dict().values(), other[0].state_dict().values(), strict=True)
    )


def test_narrow_layers_are_pruned_to_their_last_channels() -> None:
    model = Classifier({"a": [4], "b": [4]}, 2, width=8, encoder={"name": "mlp", "hidden": [8]}).eval()
    pruned, _ = Structured(macs=0.2)(model, NO_ROWS)
    assert cost(pruned) <= 0.2 * cost(model)
    assert all(layer.out_features >= 1 for layer in pruned.modules() if isinstance(layer, nn.Linear))
