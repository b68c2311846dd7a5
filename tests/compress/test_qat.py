from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import kd
from kd.compress.calibration import Activations, Calibrated, calibration
from kd.compress.context import Context, Model
from kd.compress.export import export
from kd.compress.graph import computing, constants, layer_of, note_ranges
from kd.compress.package import Package
from kd.compress.pipeline import compress
from kd.compress.plain import as_network
from kd.compress.prune import Structured
from kd.compress.qat import Qat, finish, prepare
from kd.compress.rows import Rows, answers, differences
from kd.compress.sparse import Unstructured
from kd.compress.tune import Tune
from kd.config import Study
from kd.distill.fit import Setting, finetune, train_graph
from kd.distill.trained import package_folder
from kd.errors import ConfigError, KDError, RecordError
from kd.models.classifier import Classifier
from kd.models.network import Ranges
from kd.models.package import load_package
from kd.types import Batch, Modality
from tests.compress.conftest import fit, predictor, train

EVERY_KIND = {
    "fou": (Modality((12,)), {"name": "mlp"}),
    "image": (Modality((3, 8, 8), "image"), {"name": "cnn", "channels": [8, 16]}),
    "words": (Modality((5,), "text", vocabulary=60), {"name": "words", "layers": 1, "hidden": 16}),
    "bag": (Modality((5,), "text", vocabulary=300), {"name": "bag", "embedding": 16}),
    "steps": (Modality((3, 3), "sequence"), {"name": "gru", "hidden": 12}),
}
OF_WORDS, OF_PICTURES = ("words", "bag", "steps"), ("fou", "image")


def of_kinds(names: tuple[str, ...]) -> Classifier:
    torch.manual_seed(0)
    modality, encoders = ({name: EVERY_KIND[name][part] for name in names} for part in (0, 1))
    return Classifier(modality, 4, width=16, encoders=encoders)


def rows_of(model: Classifier, count: int, seed: int) -> Batch:
    """Rows whose label shows in every modality; a third of each is missing."""
    draw, fixed = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    label = torch.randint(4, (count,), generator=draw)
    inputs = {}
    for name, m in model.modality.items():
        if m.dtype.is_floating_point:
            centre = torch.randn(4, *m.shape, generator=fixed)
            inputs[name] = centre[label] + torch.randn(count, *m.shape, generator=draw)
        else:
            most = m.vocabulary or 256
            centre = torch.randint(1, most // 2, (4, *m.shape), generator=fixed)
            inputs[name] = (centre[label] + torch.randint(most // 2, (count, *m.shape), generator=draw)).to(m.dtype)
    present = torch.rand(count, len(inputs), generator=draw) > 0.33
    present[:, 0] |= ~present.any(1)
    return Batch.of(inputs, label).with_present(present)


def trained(model: Classifier, rows: Batch) -> Classifier:
    model.fit_scalers(rows.inputs, rows.present)
    train(model, rows, steps=30)
    return model


def answers_of(model: Model, rows: Rows) -> torch.Tensor:
    return answers(predictor(model), rows)


def right(model: Model, rows: Batch) -> float:
    """Return the share of right answers under all patterns."""
    return (answers_of(model, rows).argmax(-1) == rows.label).double().mean().item()


def int8(graph: Model, rows: Rows, activations: Activations = "auto") -> Model:
    feeds = calibration(Context(rows), [value.name for value in graph.graph.input], 128)
    with Calibrated(graph, feeds, activations=activations, percentile=100) as calibrated:
        return calibrated.quantised()


def on_grid(weight: torch.Tensor, *, multiplied: bool) -> bool:
    """Say whether weights are whole multiples, up to 64 or 127, of what so many times is the largest."""
    whole = weight.detach().double()
    largest = whole.abs().flatten(1).amax(1).view(-1, *[1] * (whole.dim() - 1)) if multiplied else whole.abs().max()
    counts = whole * (64 if multiplied else 127) / largest.clamp(min=1e-30)
    return bool((counts - counts.round()).abs().max() < 1e-3)


@pytest.fixture(scope="module")
def still() -> Callable[[int], Batch]:
    """Return a maker of rows, by seed, whose first feature is always 0."""

    def make(seed: int) -> Batch:
        rows = rows_of(of_kinds(("fou",)), 256, seed)
        rows.inputs["fou"][:, 0] = 0
        return rows

    return make


@pytest.fixture(scope="module")
def hurt(still: Callable[[int], Batch]) -> Classifier:
    """A student that int8 hurts: the weights of a feature that is always 0 take the grid of all others."""
    model = trained(of_kinds(("fou",)), still(1))
    with torch.no_grad():
        model.encoders["fou"].layers[0].weight[:, 0] = 75
    return model


@pytest.fixture(scope="module")
def quantised(hurt: Classifier, still: Callable[[int], Batch]) -> Classifier:
    made, _ = Qat()(hurt, Context(still(1), "multiclass", fit=fit(still(1))))
    return made  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def graph(quantised: Classifier) -> Model:
    return export(quantised)


def noting(graph: Model, ranges: Ranges) -> Model:
    other = copy.deepcopy(graph)
    other.ClearField("metadata_props")
    note_ranges(other, ranges)
    return other


@pytest.mark.parametrize("names", [OF_WORDS, OF_PICTURES], ids=["words", "pictures"])
def test_int8_graph_answers_like_the_network_that_rounded_in_training(names: tuple[str, ...]) -> None:
    model = of_kinds(names)
    rows, unseen = (rows_of(model, 128, seed) for seed in (1, 2))
    trained(model, rows)
    made, evidence = Qat()(model, Context(rows, "multiclass", fit=lambda model: train(model, rows, steps=10)))
    graph = int8(export(made), rows)
    found = differences(answers_of(prepare(made), unseen), answers_of(graph, unseen), "multiclass")
    assert found["agreement"] >= 0.99
    assert found["parity_max"] <= 0.05
    assert evidence["notes"] == []
    assert made.state_dict().keys() == model.state_dict().keys()
    layers = {path: layer for path, layer in made.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    assert set(made.ranges) == set(layers)
    assert all(on_grid(layer.weight, multiplied=True) for layer in layers.values())
    tables = [layer for layer in made.modules() if isinstance(layer, nn.Embedding)]
    assert all(on_grid(table.weight, multiplied=False) for table in tables)


def signed() -> tuple[nn.Module, torch.Tensor]:
    layers = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
    return nn.Sequential(*layers), torch.randn(256, 8)


def unsigned() -> tuple[nn.Module, torch.Tensor]:
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    return nn.Sequential(*layers), torch.randn(256, 3, 8, 8)


@pytest.mark.parametrize("make", [signed, unsigned])
def test_layers_with_nothing_but_relu_between_give_the_same_numbers_in_int8(
    make: Callable[[], tuple[nn.Module, torch.Tensor]],
) -> None:
    torch.manual_seed(0)
    network, rows = as_network(*make())
    made, _ = Qat()(network, Context(rows, fit=lambda model: model))
    expected, got = (
        answers_of(prepare(made), rows),
        answers_of(int8(export(made), rows), rows),
    )
    # The graph rounds biases as well, so a few hidden values fall on the next step of their grid.
    assert ((expected - got).abs() < 1e-3 * expected.abs().max()).double().mean() > 0.9


def test_a_network_trained_for_signed_activations_gives_the_same_numbers_in_signed_int8() -> None:
    torch.manual_seed(0)
    network, rows = as_network(*signed())
    made, _ = Qat(activations="signed")(network, Context(rows, fit=lambda model: model))
    expected = answers_of(prepare(made, unsigned=False), rows)
    got = answers_of(int8(export(made), rows, "signed"), rows)
    assert ((expected - got).abs() < 1e-3 * expected.abs().max()).double().mean() > 0.9


def test_evidence_compares_with_the_network_before(student: Classifier, context: Context) -> None:
    untrained, evidence = Qat()(student, Context(context.rows, "multiclass", fit=lambda model: model.eval()))
    assert 0.99 < evidence["agreement"] <= 1
    assert 0 < evidence["parity_max"] < 0.05
    assert not torch.equal(untrained.head.weight, student.head.weight)
    assert torch.equal(untrained.head.bias, student.head.bias)


def test_training_for_int8_wins_back_more_than_half_of_what_int8_loses(
    hurt: Classifier, graph: Model, still: Callable[[int], Batch]
) -> None:
    rows, unseen = still(1), still(2)
    whole = right(hurt, unseen)
    lost, left = (whole - right(int8(made, rows), unseen) for made in (export(hurt), graph))
    assert lost > 0.1
    assert left < lost / 2


def scales(graph: Model) -> dict[str, float]:
    """Return layer -> the scale of what enters its product."""
    known = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in constants(graph).items()}
    maker = {output: node for node in graph.graph.node for output in node.output}
    return {layer_of(node.name): float(known[maker[node.input[0]].input[1]]) for node in computing(graph)}


def test_scales_of_the_int8_graph_are_those_of_the_learnt_ranges(
    quantised: Classifier, graph: Model, still: Callable[[int], Batch]
) -> None:
    made = int8(graph, still(1))
    expected = {path: (max(high, 0) - min(low, 0)) / 255 for path, (low, high) in quantised.ranges.items()}
    assert scales(made) == pytest.approx(expected, rel=1e-6)
    # Put on the grid once more, weights stay the integers that they are.
    weight = quantised.head.weight.detach().double()
    integers = (weight * 64 / weight.abs().amax(1, keepdim=True)).round().numpy()
    known = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    np.testing.assert_array_equal(known["model.head.weight_quantized"], integers)


def test_layers_without_a_learnt_range_are_calibrated(graph: Model, still: Callable[[int], Batch]) -> None:
    path, wide = "encoders.fou.layers.3", 1000.0
    found, calibrated = (
        scales(int8(noting(graph, noted), still(1), "unsigned")) for noted in ({path: (0.0, wide)}, {})
    )
    assert found.pop(path) == pytest.approx(wide / 255)
    assert calibrated.pop(path) < wide / 255
    assert found == calibrated


def test_a_range_moves_once_per_step_by_what_all_calls_of_the_layer_met() -> None:
    model = of_kinds(("steps",))
    rows = rows_of(model, 32, seed=1)
    path = "encoders.steps.layers.0.directions.0.state"
    model.ranges = {path: (-8.0, 4.0)}
    prepared = prepare(model, unsigned=False, average=0.75).train()
    met: list[torch.Tensor] = []
    prepared.get_submodule(path).register_forward_pre_hook(lambda _, given: met.append(given[0]), prepend=True)
    prepared(rows.inputs, rows.present | True)
    assert len(met) == 3
    low, high = finish(prepared, model).ranges[path]  # type: ignore[index,operator,union-attr]
    extremes = torch.cat(met).aminmax()
    assert low == pytest.approx(0.75 * -8 + 0.25 * extremes.min.item())
    assert high == pytest.approx(0.75 * 4 + 0.25 * extremes.max.item())


def test_ranges_stay_while_nothing_trains(quantised: Classifier, still: Callable[[int], Batch]) -> None:
    prepared = prepare(quantised)
    prepared(still(2).inputs, still(2).present)
    assert finish(prepared, quantised).ranges == quantised.ranges


@pytest.mark.parametrize("nobody", [False, True], ids=["some rows lack it", "no row has it"])
def test_what_stands_in_absent_rows_moves_no_range(nobody: bool) -> None:
    # Means 1000 deviations from zero: a filler 0 would stretch the range a hundredfold.
    torch.manual_seed(0)
    model = Classifier({"fou": [8], "zer": [8]}, 4, width=16)
    rows = Batch.of({name: 1000 + torch.randn(200, 8) for name in ("fou", "zer")}, torch.zeros(200).long())
    rows = rows.with_present(torch.rand(200, 2) > 0.3)
    model.fit_scalers(rows.inputs, rows.present)
    shown = rows.with_present(rows.present & torch.tensor([True, not nobody]))
    made, _ = Qat(average=0.5)(model, Context(rows, fit=lambda model: train(model, shown, steps=5)))
    assert max(max(-low, high) for low, high in made.ranges.values()) < 20


def test_gradients_pass_straight_through_to_the_weights() -> None:
    torch.manual_seed(0)
    network = nn.Linear(6, 3)
    prepared = prepare(network, unsigned=False)
    x = torch.randn(5, 6)
    prepared(x).sum().backward()
    assert not torch.equal(prepared.weight, network.weight)  # type: ignore[arg-type]
    (parameter,) = [p for name, p in prepared.named_parameters() if name.endswith("weight.original")]
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad, x.sum(0).expand(3, 6))


class Tied(nn.Module):
    """A table that also gives the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.out = nn.Linear(8, 20)
        self.out.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.table(x).mean(1))


def test_tied_weights_stay_tied_and_lie_on_the_grid_of_the_product() -> None:
    torch.manual_seed(0)
    network, x = Tied(), torch.randint(20, (64, 5))

    def fit(model: nn.Module) -> nn.Module:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model.train()({"x": x}, torch.ones(64, 1)).logits, x[:, 0]).backward()
            optimiser.step()
        return model

    (made,) = compress(network, x, {"trained": {"name": "qat"}}, fit=fit)
    assert made.model.table.weight is made.model.out.weight
    assert not torch.equal(made.model.out.weight, network.out.weight)
    assert on_grid(made.model.out.weight, multiplied=True)


def test_a_frozen_encoder_is_rounded_and_keeps_its_range(context: Context) -> None:
    model = of_kinds(("fou", "words"))
    rows = rows_of(model, 64, seed=1)
    frozen = trained(model, rows).encoders["words"]
    frozen.frozen = True
    frozen.network.requires_grad_(False)
    made, evidence = Qat()(model, Context(rows, fit=lambda model: train(model, rows, steps=5)))
    assert evidence["notes"] == []
    path = "encoders.words.network.encoder.layer.0.intermediate.dense"
    before, after = model.get_submodule(path).weight, made.get_submodule(path).weight
    step = before.abs().amax(1, keepdim=True) / 64
    assert bool(((before - after).abs() <= step / 2 * 1.001).all())
    assert path in made.ranges


def test_it_trains_with_the_students_own_teachers(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting]
) -> None:
    model = {"width": 8, "encoder": {"name": "mlp", "hidden": [8]}}
    hint = {"name": "fitnet", "student": "encoders.m0.layers.0", "teacher": "encoders.m0.layers.0"}
    study = small_study(
        seeds=1,
        nodes={
            "one": {"sees": ["m0"], "steps": 20, "validate_every": 10, "model": model},
            "student": {
                "sees": ["m0", "m1"], "steps": 20, "validate_every": 10, "model": model, "learning_rates": {"m1": 0.0}
            },
        },
        edges={"one": {"teacher": "one", "student": "student", "loss": hint}},
        ensembles={},
        contrasts={},
    )  # fmt: skip
    setting = setting_of(study)
    folders = {node: package_folder(record) for node, record in train_graph(study, setting).items()}
    student = load_package(folders["student"])
    shown = setting.rows(setting.split.train, setting.available).select(student.modalities)
    context = Context(shown, "multiclass", fit=lambda m: finetune(study, "student", setting, folders, m)[0])  # type: ignore[arg-type]
    made, _ = Qat()(student, context)
    layers = [path for path, layer in student.named_modules() if isinstance(layer, nn.Linear)]
    assert set(made.ranges) == set(layers)
    untrained, _ = Qat()(student, Context(shown, fit=lambda model: model))
    still, moved = (f"encoders.{name}.layers.0" for name in ("m1", "m0"))
    assert torch.equal(made.get_submodule(still).weight, untrained.get_submodule(still).weight)
    assert made.ranges[still] == untrained.ranges[still]
    assert not torch.equal(made.get_submodule(moved).weight, untrained.get_submodule(moved).weight)
    assert made.ranges[moved] != untrained.ranges[moved]


def test_ranges_travel_with_the_package(quantised: Classifier, tmp_path: Path) -> None:
    package = Package.save(quantised, tmp_path / "package")
    assert package.network().ranges == quantised.ranges
    card = tmp_path / "package" / "card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "ranges": {"head": 3}}))
    with pytest.raises(RecordError, match="damaged package"):
        package.network()


@pytest.mark.parametrize("pass_", [Tune(), Structured(), Unstructured()], ids=lambda pass_: type(pass_).__name__)
def test_what_is_pruned_or_trained_on_has_no_ranges(pass_: Tune, student: Classifier, context: Context) -> None:
    made, _ = Qat()(student, Context(context.rows, fit=lambda model: model))
    assert made.ranges
    assert pass_(made, context)[0].ranges == {}


def test_training_on_with_lightning_drops_the_ranges() -> None:
    data = kd.DataModule(kd.load_source("synthetic", modalities=1, rows=60, classes=2, width=4))
    student = kd.classifier(data, width=4)
    student.ranges = {"head": (0.0, 1.0)}
    pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
        kd.Distiller(student), data
    )
    assert student.ranges == {}


def test_a_network_with_nothing_to_train_for_int8_is_refused() -> None:
    with pytest.raises(KDError, match="qat: the network has no product, convolution or embedding"):
        compress(nn.Tanh(), torch.randn(8, 3), {"trained": {"name": "qat"}}, fit=lambda model: model)


@pytest.mark.parametrize("average", [0.0, 1.0, float("nan")])
def test_an_average_out_of_range_is_refused(average: float) -> None:
    with pytest.raises(ConfigError, match=r"qat\.average: expected a share in \(0, 1\)"):
        Qat(average=average)
