from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kd.compress.context import Context
from kd.compress.sparse import Unstructured
from kd.errors import ConfigError, KDError
from kd.models.classifier import Classifier
from kd.types import Batch, Modality


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]


def test_the_smallest_weights_go_and_the_others_stay_as_they_are(student: Classifier, context: Context) -> None:
    thinned, evidence = Unstructured(sparsity=0.8)(student, context)
    for before, after in zip(weights(student), weights(thinned), strict=True):
        kept = after != 0
        assert torch.equal(after[kept], before[kept])
        assert before[kept].abs().min() >= before[~kept].abs().max()
        assert (~kept).double().mean().item() == pytest.approx(0.8, abs=0.01)
    assert evidence["sparsity"] == pytest.approx(0.8, abs=0.01)
    assert set(evidence["branches"]) == {"fou", "zer", "mor", "fusion and head"}
    assert thinned.state_dict().keys() == student.state_dict().keys()


def test_a_global_ranking_spares_the_branch_of_large_weights(student: Classifier, context: Context) -> None:
    loud = copy.deepcopy(student)
    with torch.no_grad():
        for layer in (layer for layer in loud.encoders["fou"].modules() if isinstance(layer, nn.Linear)):
            layer.weight.mul_(10)
    found = {
        ranking: Unstructured(sparsity=0.5, ranking=ranking)(loud, context)[1]
        for ranking in ("layer", "branch", "global")
    }
    assert [each["sparsity"] for each in found.values()] == pytest.approx([0.5] * 3, abs=0.01)
    assert found["layer"]["branches"]["fou"] == found["branch"]["branches"]["fou"] == pytest.approx(0.5, abs=0.01)
    assert found["global"]["branches"]["fou"] < 0.2


def test_convolutions_that_lie_channels_last_are_thinned_as_well() -> None:
    picture = Classifier({"a": Modality((3, 8, 8), "image")}, 3, encoder={"name": "cnn", "channels": [4, 8]}).eval()
    assert any(not layer.weight.is_contiguous() for layer in picture.modules() if isinstance(layer, nn.Conv2d))
    rows = Batch.of({"a": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, torch.tensor([0, 1]))
    _, evidence = Unstructured(sparsity=0.5)(picture, Context(rows))
    assert evidence["branches"]["a"] == pytest.approx(0.5, abs=0.01)


def test_training_leaves_the_zeros_and_changes_the_rest(student: Classifier, context: Context) -> None:
    reached: list[float] = []

    def fit(model: nn.Module) -> nn.Module:
        reached.append(sum(int((w == 0).sum()) for w in weights(model)) / sum(w.numel() for w in weights(model)))
        assert context.fit is not None
        return context.fit(model)

    thinned, evidence = Unstructured(sparsity=0.9, rounds=3)(student, Context(context.rows, fit=fit))
    assert reached == sorted(reached)
    assert reached[0] > 0.5
    assert evidence["sparsity"] == pytest.approx(0.9, abs=0.01)
    before, after = weights(student)[0], weights(thinned)[0]
    assert not torch.equal(after[after != 0], before[after != 0])


def test_rounds_without_a_fit_and_shares_out_of_range_are_refused(student: Classifier, rows: Batch) -> None:
    with pytest.raises(KDError, match=r"unstructured\.rounds: training needs a fit"):
        Unstructured(rounds=2)(student, Context(rows))
    with pytest.raises(ConfigError) as caught:
        Unstructured(sparsity=1.0, rounds=-1)
    assert len(caught.value.faults) == 2
