"""Every encoder and every fusion through every pass: a chain of all passes for each pair, parity on every subset.

By default a covering array: every encoder meets every pass, and every fusion does. `make test-all` takes the full
product of encoders and fusions.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from kd.compress import PASSES
from kd.compress.package import Package
from kd.compress.pipeline import FLOAT, Stage, compress, routes
from kd.compress.qat import prepare
from kd.compress.rows import answers, differences
from kd.evaluate.predictor import Predictor
from kd.models import ENCODERS, FUSIONS
from kd.models.classifier import Classifier
from kd.seeding import initialise
from kd.types import Batch
from tests.compress.conftest import predictor
from tests.models.conftest import MODALITY, values
from tests.models.test_contracts import part

ROWS = 32
SETTINGS: dict[str, dict[str, Any]] = {
    "unstructured": {"sparsity": 0.3, "rounds": 1},
    "static_int8": {"rows": ROWS},
}
FIXED = {"gru": 0.995}
"""Encoders whose work hardly anything can be taken from, since the gates of a GRU stay whole."""
QUICK = {"torchvision": {"backbone": "resnet18"}}
"""Arguments of encoders whose channels can be followed, and that export in seconds."""
NEAR = 0.1
"""Of the logits' scale: the distance between the two best classes under which int8 may decide otherwise."""
TALL = list(ENCODERS) if len(ENCODERS) > len(FUSIONS) else list(FUSIONS)
COVERING = {(list(ENCODERS)[place % len(ENCODERS)], list(FUSIONS)[place % len(FUSIONS)]) for place in range(len(TALL))}
PAIRS = [
    pytest.param(*pair, marks=() if pair in COVERING else pytest.mark.slow, id="-".join(pair))
    for pair in itertools.product(ENCODERS, FUSIONS)
]


def chain(encoder: str = "") -> dict[str, dict[str, Any]]:
    """Return all passes there are: those on networks one after another, the export, those on graphs each of it."""
    own = {name: entry.load() for name, entry in PASSES.items()}
    on_networks = [name for name, each in own.items() if each.gives == "torch"]  # type: ignore[attr-defined]
    on_graphs = [name for name, each in own.items() if each.takes == "onnx"]  # type: ignore[attr-defined]
    passes: dict[str, dict[str, Any]] = {name: {"name": name} for name in [*on_networks, "onnx"]}
    passes |= {name: {"name": name, "of": "onnx"} for name in on_graphs}
    settings = {**SETTINGS, "structured": {"macs": FIXED.get(encoder, 0.96)}}
    return {name: {**each, **settings.get(name, {})} for name, each in passes.items()}


def student(encoder: str, fusion: str) -> tuple[Classifier, Batch]:
    """Return a network of the encoder's modality and a vector, and rows some of which lack either."""
    kind = ENCODERS[encoder].load().takes[0]  # type: ignore[attr-defined]
    own = {**part(encoder), **QUICK.get(encoder, {})}
    parts = {"own": own, "other": {"name": "mlp", "hidden": [16]}}
    model = Classifier({"own": MODALITY[kind], "other": (3,)}, 4, width=16, encoders=parts, fusion={"name": fusion})
    draw = torch.Generator().manual_seed(0)
    inputs = {"own": values(kind, ROWS), "other": torch.randn(ROWS, 3, generator=draw)}
    rows = Batch.of(inputs, torch.arange(ROWS) % 4).with_present(torch.rand(ROWS, 2, generator=draw) > 0.3)
    initialise(model, 0).fit_scalers(inputs, rows.present)
    return model.eval(), rows


@pytest.fixture(scope="module")
def kept() -> Iterator[list[dict[str, Any]]]:
    """Gather what was measured; the full product is kept as a record where KD_KEEP names a folder."""
    rows: list[dict[str, Any]] = []
    yield rows
    whole = len({(row["encoder"], row["fusion"]) for row in rows}) == len(PAIRS)
    if whole and "KD_KEEP" in os.environ:
        pd.DataFrame(rows).to_parquet(Path(os.environ["KD_KEEP"]) / "compress_contracts.parquet")


def training(rows: Batch) -> Callable[[nn.Module], nn.Module]:
    def fit(model: nn.Module) -> nn.Module:
        torch.manual_seed(0)  # of dropout
        optimiser = torch.optim.Adam(model.train().parameters(), lr=1e-3)
        for _ in range(2):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(rows.inputs, rows.present).logits, rows.label).backward()
            optimiser.step()
        return model.eval()

    return fit


@pytest.mark.parametrize(("encoder", "fusion"), PAIRS)
def test_a_student_goes_through_every_pass_and_keeps_its_answers(
    encoder: str, fusion: str, tmp_path: Path, kept: list[dict[str, Any]]
) -> None:
    model, rows = student(encoder, fusion)
    passes = chain(encoder)
    made = {stage.name: stage for stage in compress(model, rows, passes, fit=training(rows))}
    package, packages = Package.save(model, tmp_path / FLOAT), {}
    packages[FLOAT] = package
    found = {FLOAT: answers(predictor(model), rows)}
    for name, (source, _) in routes(passes).items():
        found[name] = checked(made[name], found[source], predictor(made[name].model), rows)
        near = None
        if PASSES[name].load().takes == "onnx":  # type: ignore[attr-defined]
            # A graph with learnt ranges is to decide as the network did that learnt them, rounding all the while.
            learnt = name == "static_int8"
            near = nearest(
                answers(predictor(prepare(made["qat"].model)), rows) if learnt else found[source], found[name]
            )
            assert near <= NEAR
        packages[name] = Package.save(made[name].model, tmp_path / name, stage=name, parent=packages[source])
        again = answers(packages[name].predictor(), rows)
        torch.testing.assert_close(again, found[name], rtol=0, atol=1e-6 * float(found[name].abs().max()))
        measured = {key: made[name].evidence.get(key) for key in ("parity_max", "agreement", "int8_share")}
        kept.append({"encoder": encoder, "fusion": fusion, "pass": name, **measured, "near_tie": near})


def checked(stage: Stage, before: Tensor, asked: Predictor, rows: Batch) -> Tensor:
    """Return a stage's answers under every pattern, compared with those before it as its pass promises."""
    got = answers(asked, rows)
    assert got.isfinite().all()
    if stage.name == "structured":
        assert stage.evidence["parity_max"] <= 1e-5
    if stage.name == "onnx":
        rounding = stage.evidence.get("rounding", 0.0)
        assert differences(before, got, None)["parity_max"] <= max(1e-6, 10 * rounding) <= 1e-5
    if PASSES[stage.name].load().takes == "onnx":  # type: ignore[attr-defined]
        assert stage.evidence["agreement"] == (before.argmax(-1) == got.argmax(-1)).double().mean().item()
    return got


def nearest(before: Tensor, got: Tensor) -> float:
    """Return how far apart the two best classes were, of the logits' scale, where a decision changed; 0 where none."""
    best = before.topk(2, dim=-1).values
    apart = (best[..., 0] - best[..., 1]) / before.abs().max()
    changed = before.argmax(-1) != got.argmax(-1)
    return float(apart[changed].max()) if changed.any() else 0.0


def test_the_default_array_covers_every_pair_of_encoder_or_fusion_and_pass() -> None:
    assert {encoder for encoder, _ in COVERING} == set(ENCODERS)
    assert {fusion for _, fusion in COVERING} == set(FUSIONS)
    assert set(chain()) == set(PASSES)
