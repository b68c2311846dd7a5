"""Tasks: losses and metrics against scikit-learn and torch, and rows without a label."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics
from sklearn.calibration import calibration_curve

from kd.errors import ConfigError
from kd.tasks import CALIBRATION_MINIMUM_ROWS, make_task


def logits_and_label(rows: int = 600, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, classes, (rows,), generator=generator)
    logits = torch.randn(rows, classes, generator=generator) + torch.nn.functional.one_hot(label, classes)
    return logits, label


def test_multiclass_metrics_agree_with_scikit_learn() -> None:
    logits, label = logits_and_label()
    found = make_task("multiclass", 4).metrics(logits, label)
    p, y = logits.softmax(-1).double().numpy(), label.numpy()
    p /= p.sum(axis=1, keepdims=True)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(y, p.argmax(1)), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, p.argmax(1), average="macro"), abs=1e-6)
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(y, p, multi_class="ovr"), abs=1e-6)
    assert found["nll"] == pytest.approx(metrics.log_loss(y, p), abs=1e-6)
    brier = sum(metrics.brier_score_loss(y == k, p[:, k]) for k in range(4))
    assert found["brier"] == pytest.approx(brier, abs=1e-6)


def test_calibration_error_is_not_printed_for_few_rows() -> None:
    logits, label = logits_and_label()
    task = make_task("multiclass", 4)
    assert "ece" in task.metrics(logits, label)
    few = CALIBRATION_MINIMUM_ROWS - 1
    assert "ece" not in task.metrics(logits[:few], label[:few])


def expected_calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """Return the ECE over 15 bins of equal width, its curve from scikit-learn."""
    share, mean = calibration_curve(right, confidence, n_bins=15)
    rows = np.histogram(confidence, bins=np.linspace(0, 1, 16))[0]
    return float(np.abs(share - mean) @ rows[rows > 0] / len(right))


def test_calibration_error_agrees_with_scikit_learns_curve() -> None:
    logits, label = logits_and_label()
    confidence, answer = logits.softmax(-1).max(dim=-1)
    right = (answer == label).numpy()
    found = make_task("multiclass", 4).metrics(logits, label)["ece"]
    assert found == pytest.approx(expected_calibration_error(right, confidence.double().numpy()), abs=1e-6)


def multilabel_logits_and_label(rows: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(rows, 3, generator=generator) > 0.5).float()
    return torch.randn(rows, 3, generator=generator) + label, label


def test_a_class_without_test_rows_takes_no_part_in_auroc() -> None:
    logits, label = logits_and_label(classes=3)
    wider = torch.cat([logits, torch.randn(600, 1, generator=torch.Generator().manual_seed(1))], dim=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = make_task("multiclass", 4).metrics(wider, label)["auroc"]
    p, y = wider.softmax(-1).double().numpy(), label.numpy()
    assert found == pytest.approx(np.mean([metrics.roc_auc_score(y == k, p[:, k]) for k in range(3)]), abs=1e-6)


def test_a_label_that_every_row_has_or_lacks_takes_no_part_in_auroc() -> None:
    logits, label = multilabel_logits_and_label()
    label[:, 1], label[:, 2] = 0, 1
    found = make_task("multilabel", 3).metrics(logits, label)["auroc"]
    assert found == pytest.approx(metrics.roc_auc_score(label[:, 0], logits[:, 0]), abs=1e-6)


def test_rows_of_one_class_have_no_auroc() -> None:
    logits, label = logits_and_label()
    assert "auroc" not in make_task("multiclass", 4).metrics(logits, torch.zeros_like(label))


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "regression"])
def test_scores_per_row_average_to_the_metrics(name: str) -> None:
    logits, label = logits_and_label() if name == "multiclass" else multilabel_logits_and_label()
    task = make_task(name, logits.shape[1])
    found, rows = task.metrics(logits, label), task.row_scores(logits, label)
    assert len(rows) >= 2
    for metric, values in rows.items():
        assert float(values.mean()) == pytest.approx(found[metric], abs=1e-6)


def test_multilabel_scores_agree_with_scikit_learn() -> None:
    logits, label = multilabel_logits_and_label()
    found = make_task("multilabel", 3).metrics(logits, label)
    p, y = logits.sigmoid().double().numpy(), label.numpy()
    brier = np.mean([metrics.brier_score_loss(y[:, k], p[:, k]) for k in range(3)])
    assert found["brier"] == pytest.approx(brier, abs=1e-6)
    assert found["auroc"] == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-6)
    ece = np.mean([expected_calibration_error(y[:, k], p[:, k]) for k in range(3)])
    assert found["ece"] == pytest.approx(ece, abs=1e-6)
    assert "ece" not in make_task("multilabel", 3).metrics(logits[:499], label[:499])
    assert found["nll"] == pytest.approx(np.mean([metrics.log_loss(y[:, k], p[:, k]) for k in range(3)]), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(y, p > 0.5, average="macro"), abs=1e-6)


def test_regression_scores_agree_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    label = torch.randn(200, 2, generator=generator)
    predicted = label + 0.3 * torch.randn(200, 2, generator=generator)
    found = make_task("regression", 2).metrics(predicted, label)
    assert found["r2"] == pytest.approx(metrics.r2_score(label, predicted), abs=1e-5)
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(label, predicted), abs=1e-5)


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "regression"])
def test_score_is_the_primary_metric(name: str) -> None:
    logits, classes = logits_and_label()
    label = classes if name == "multiclass" else torch.nn.functional.one_hot(classes, 4).float()
    task = make_task(name, 4)
    assert task.score(logits, label) == pytest.approx(task.metrics(logits, label)[task.primary], abs=1e-6)


@pytest.mark.parametrize("name", ["multiclass", "multilabel", "regression"])
def test_rows_without_a_label_cost_nothing(name: str) -> None:
    logits, classes = logits_and_label(rows=4)
    label = classes if name == "multiclass" else torch.nn.functional.one_hot(classes, 4).float()
    logits.requires_grad_()
    found = make_task(name, 4).loss(logits, label, torch.tensor([True, False, True, False]))
    assert (found > 0).tolist() == [True, False, True, False]
    found.sum().backward()
    assert logits.grad is not None
    assert not logits.grad[[1, 3]].any()


def test_class_weights_weigh_their_class() -> None:
    logits, label = logits_and_label(rows=40)
    everyone = torch.ones(40, dtype=torch.bool)
    plain = make_task("multiclass", 4).loss(logits, label, everyone)
    weighted = make_task("multiclass", 4, [1.0, 2.0, 0.0, 1.0]).loss(logits, label, everyone)
    expected = plain * torch.tensor([1.0, 2.0, 0.0, 1.0])[label]
    assert torch.allclose(weighted, expected)


def test_wrong_number_of_class_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="class_weight: expected 4 weights, got 1"):
        make_task("multiclass", 4, [1.0])
