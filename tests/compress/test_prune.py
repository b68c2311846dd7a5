from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kd import models
from kd.compress.package import Context, Package, network_cost
from kd.compress.prune import Structured, Tune, prune, zeroed
from kd.errors import ConfigError, KDError
from kd.models import STAND_INS
from kd.models.classifier import Classifier
from kd.models.network import blank_rows
from kd.types import Batch

FUSIONS = [name for name in models.FUSIONS if name not in ("transformer", "prompts")]
"""Those of which the encoders do most of the work; what a transformer's tokens share stays whole."""


def network(fusion: str) -> Classifier:
    torch.manual_seed(0)
    return Classifier({"fou": [76], "pix": [240]}, 5, width=16, fusion={"name": fusion}).eval()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_pruned_network_equals_the_original_with_those_channels_zeroed(fusion: str) -> None:
    model = network(fusion)
    pruned, removed, _ = prune(model, macs=0.5, keep=0.1)
    inputs = {"fou": torch.randn(8, 76), "pix": torch.randn(8, 240)}
    present = torch.rand(8, 2) > 0.4
    assert removed
    torch.testing.assert_close(
        pruned(inputs, present).logits, zeroed(model, removed)(inputs, present).logits, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_macs_land_just_under_the_target(fusion: str, share: float) -> None:
    model = network(fusion)
    pruned, _, _ = prune(model, macs=share, keep=0.1)
    ratio = network_cost(pruned)["macs"] / network_cost(model)["macs"]
    assert share - 0.1 < ratio <= share


@pytest.mark.parametrize("fusion", models.FUSIONS)
def test_pruned_network_still_trains(fusion: str) -> None:
    pruned, _, _ = prune(network(fusion), macs=0.9, keep=0.1)
    inputs, present = blank_rows(pruned)
    answer = pruned.train()(inputs, present)
    (answer.logits.sum() if answer.auxiliary is None else answer.logits.sum() + answer.auxiliary.sum()).backward()
    assert all(p.grad.isfinite().all() for p in pruned.encoders.parameters())  # type: ignore[union-attr]


def test_every_branch_keeps_its_floor_and_the_ends_keep_their_widths() -> None:
    pruned, _, _ = prune(network("concat"), macs=0.3, keep=0.25)
    for name, width in (("fou", 76), ("pix", 240)):
        first, last = pruned.encoders[name].layers[0], pruned.encoders[name].layers[3]  # type: ignore[index,union-attr]
        assert first.in_features == width
        assert first.out_features >= 16
        assert last.out_features >= 4
    assert pruned.head.out_features == 5  # type: ignore[union-attr]


@pytest.mark.parametrize("name", STAND_INS)
def test_student_with_any_stand_in_is_pruned_where_something_is_absent_too(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier({"a": [12], "b": [20]}, 5, width=16, absent={"name": name})
    inputs = {"a": torch.randn(64, 12), "b": torch.randn(64, 20)}
    present = torch.rand(64, 2, generator=torch.Generator().manual_seed(1)) > 0.4
    model.fit_scalers({scaled: inputs[scaled] for scaled in model.scaled}, present)
    pruned, removed, notes = prune(model.eval(), macs=0.5, keep=0.1)
    loaded = Classifier.from_pretrained(pruned.save_pretrained(tmp_path / "pruned"))  # type: ignore[operator]
    expected = zeroed(model, removed)(inputs, present).logits
    torch.testing.assert_close(loaded(inputs, present).logits, expected, atol=1e-5, rtol=1e-5)
    assert any(path.startswith("encoders") for path in removed)
    assert any("stand-in left whole" in note for note in notes) == (name in ("knn", "ridge", "iterative"))


def test_target_below_the_floor_is_refused_with_the_figure() -> None:
    with pytest.raises(KDError, match=r"0\.\d+ of the MACs remain at the floor"):
        prune(network("concat"), macs=0.1, keep=0.9)


def test_shares_outside_their_range_are_all_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Structured(macs=0.0, keep=2.0)
    assert len(caught.value.faults) == 2


def test_pruned_package_loads_without_pruning_code(student: Package, context: Context, tmp_path: Path) -> None:
    package = Structured(macs=0.5)(student, context, tmp_path / "pruned")
    loaded = Classifier.from_pretrained(package.folder)
    expected, _, _ = prune(student.model(), macs=0.5, keep=0.1)
    assert torch.equal(loaded(*blank_rows(loaded)).logits, expected(*blank_rows(loaded)).logits)
    assert package.card["parents"] == {"student": student.digest}
    assert package.bytes < student.bytes


def test_same_network_is_pruned_alike_twice() -> None:
    assert prune(network("mean"), macs=0.5, keep=0.1)[1] == prune(network("mean"), macs=0.5, keep=0.1)[1]


def test_tune_without_a_fit_is_refused(student: Package, rows: Batch, tmp_path: Path) -> None:
    with pytest.raises(KDError, match="no fit"):
        Tune()(student, Context(rows), tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()


def test_narrow_layers_are_pruned_to_their_last_channels() -> None:
    model = Classifier({"a": [4], "b": [4]}, 2, width=8, encoder={"name": "mlp", "hidden": [8]})
    pruned, removed, _ = prune(model.eval(), macs=0.2, keep=0.1)
    assert network_cost(pruned)["macs"] <= 0.2 * network_cost(model)["macs"]
    assert all(len(channels) < 8 for channels in removed.values())
