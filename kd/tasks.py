"""What the labels mean: supervised loss per sample, probabilities and metrics for each kind of task."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassF1Score,
    MultilabelAccuracy,
    MultilabelF1Score,
)
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_accuracy,
    multilabel_f1_score,
)
from torchmetrics.functional.regression import r2_score
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from kd.errors import ConfigError

CALIBRATION_BINS = 15
CALIBRATION_MINIMUM_ROWS = 500
"""ECE on fewer rows is dominated by its own bias, so it is not printed (protocol 9)."""

LOWER_IS_BETTER = ("nll", "brier", "ece", "mse", "mae")
"""Metrics that fall as a model gets better."""


def ranking_score(probabilities: Tensor, truth: Tensor) -> dict[str, float]:
    """Return the area under the ROC curve, the mean over columns, as `auroc`; nothing where no column has one.

    The area is Mann and Whitney's U over the number of pairs, ties counted half: ranks of all columns at once, where
    torchmetrics draws curve after curve. A column whose rows are all alike has none and takes no part in the mean.

    Args:
        probabilities: [N, C].
        truth: bool [N, C]; of classes, one against the rest.
    """
    positive = truth.sum(dim=0).double()
    pairs = positive * (len(truth) - positive)
    if not pairs.any():
        return {}
    rank = torch.from_numpy(rankdata(probabilities.numpy(force=True), axis=0)).to(truth.device)
    above = (rank * truth).sum(dim=0) - positive * (positive + 1) / 2
    return {"auroc": float((above / pairs)[pairs > 0].mean())}


class Task:
    """Supervised loss, probabilities and metrics of one kind of label.

    Args:
        outputs: C, the number of logits.
        class_weight: one non-negative weight per class or label; None weighs all alike.
    """

    name: str
    primary: str
    """The metric that validation maximises."""

    def __init__(self, outputs: int, class_weight: Sequence[float] | None = None) -> None:
        if class_weight is not None and len(class_weight) != outputs:
            raise ConfigError(f"class_weight: expected {outputs} weights, got {len(class_weight)}")
        if class_weight is not None and not (min(class_weight) >= 0 and 0 < sum(class_weight) < math.inf):
            raise ConfigError(f"class_weight: expected weights of at least 0, one above, got {list(class_weight)}")
        self.outputs = outputs
        self.class_weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self._collections: dict[bool, MetricCollection] = {}

    def loss(self, logits: Tensor, label: Tensor, labelled: Tensor) -> Tensor:
        """Return the supervised loss per sample [B], 0 where a row has no label."""
        return torch.where(labelled, self._loss(logits, label), 0.0)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return [B, C]: class probabilities, label probabilities, or the predicted values."""
        raise NotImplementedError

    def prior(self, label: Tensor) -> Tensor:
        """Return [C], the logits of the constant answer that training labels suggest: what a model without inputs says.

        Class shares, label shares or the mean value.
        """
        raise NotImplementedError

    def score(self, logits: Tensor, label: Tensor) -> float:
        """Return the primary metric alone, the one that validation maximises."""
        raise NotImplementedError

    def scores(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the primary metric of each of R networks, [R], from logits [R, N, C] and the rows' labels."""
        return torch.tensor([self.score(each, label) for each in logits])

    def metrics(self, logits: Tensor, label: Tensor) -> dict[str, float]:
        """Return every metric of the task by name, from logits [N, C] and labels."""
        kept = self._collections
        enough = len(label) >= CALIBRATION_MINIMUM_ROWS
        # Making the metrics takes about as long as computing them.
        collection = kept[enough] if enough in kept else kept.setdefault(enough, self._metrics(len(label)))
        collection.reset()
        collection.update(self.probabilities(logits), label)
        values = {name: float(value) for name, value in collection.compute().items()}
        return values | self._further(logits, label)

    def row_scores(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Return metric -> [N] for the metrics that are means over rows; the mean of each is that of `metrics`."""
        raise NotImplementedError

    def _weight(self, device: torch.device) -> Tensor | None:
        return None if self.class_weight is None else self.class_weight.to(device)

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        raise NotImplementedError

    def _metrics(self, rows: int) -> MetricCollection:
        raise NotImplementedError

    def _further(self, logits: Tensor, label: Tensor) -> dict[str, float]:
        """Return the metrics that no collection of torchmetrics gives."""
        return {}


class Multiclass(Task):
    """Exactly one of C classes; label int64 [B] in [0, C)."""

    name, primary = "multiclass", "accuracy"

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        # Rows as places of one sample, so that classes come first: see `kl_divergence` in kd/objectives/kl.py.
        places, wanted = logits.movedim(-1, 0).unsqueeze(0), label.unsqueeze(0)
        return F.cross_entropy(places, wanted, weight=self._weight(logits.device), reduction="none").squeeze(0)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=-1)

    def prior(self, label: Tensor) -> Tensor:
        share = label.bincount(minlength=self.outputs) / len(label)
        return share.clamp_min(torch.finfo(share.dtype).tiny).log()

    def score(self, logits: Tensor, label: Tensor) -> float:
        return float(multiclass_accuracy(logits, label, num_classes=self.outputs, average="micro"))

    def scores(self, logits: Tensor, label: Tensor) -> Tensor:
        # Without a loop, which would take as long as the training of small networks. NaN is no right answer.
        right = (logits.argmax(dim=-1) == label) & logits.isfinite().all(dim=-1)
        return right.to(torch.float32).mean(dim=-1)

    def _metrics(self, rows: int) -> MetricCollection:
        classes = self.outputs
        found: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(num_classes=classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes=classes, average="macro"),
        }
        if rows >= CALIBRATION_MINIMUM_ROWS:
            found["ece"] = MulticlassCalibrationError(num_classes=classes, n_bins=CALIBRATION_BINS)
        return MetricCollection(found)

    def row_scores(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        one_hot = F.one_hot(label, self.outputs)
        return {
            "accuracy": (logits.argmax(dim=-1) == label).float(),
            "nll": F.cross_entropy(logits, label, reduction="none"),
            "brier": (logits.softmax(dim=-1) - one_hot).square().sum(dim=-1),
        }

    def _further(self, logits: Tensor, label: Tensor) -> dict[str, float]:
        each = self.row_scores(logits, label)
        proper = {name: float(each[name].mean()) for name in ("nll", "brier")}
        return ranking_score(self.probabilities(logits), F.one_hot(label, self.outputs).bool()) | proper


class Multilabel(Task):
    """Any of C labels; label float [B, C] of zeros and ones."""

    name, primary = "multilabel", "macro_f1"

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(
            logits, label.to(logits.dtype), weight=self._weight(logits.device), reduction="none"
        )
        return each.mean(dim=-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def prior(self, label: Tensor) -> Tensor:
        return label.float().mean(dim=0).logit(eps=1e-6)

    def score(self, logits: Tensor, label: Tensor) -> float:
        return float(multilabel_f1_score(logits.sigmoid(), label.long(), num_labels=self.outputs))

    def metrics(self, logits: Tensor, label: Tensor) -> dict[str, float]:
        return super().metrics(logits, label.long())

    def _metrics(self, rows: int) -> MetricCollection:
        labels = self.outputs
        return MetricCollection(
            {
                "accuracy": MultilabelAccuracy(num_labels=labels),
                "macro_f1": MultilabelF1Score(num_labels=labels),
            }
        )

    def row_scores(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        target, found = label.to(logits.dtype), logits.sigmoid()
        return {
            "accuracy": ((found > 0.5) == (target > 0.5)).float().mean(dim=-1),
            "nll": F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=-1),
            "brier": (found - target).square().mean(dim=-1),
        }

    def _further(self, logits: Tensor, label: Tensor) -> dict[str, float]:
        proper = {name: float(self.row_scores(logits, label)[name].mean()) for name in ("nll", "brier")}
        found = self.probabilities(logits)
        if len(label) >= CALIBRATION_MINIMUM_ROWS:
            each = [
                binary_calibration_error(p, y, CALIBRATION_BINS)
                for p, y in zip(found.T.contiguous(), label.T, strict=True)
            ]
            proper["ece"] = float(torch.stack(each).mean())
        return ranking_score(found, label.bool()) | proper


class Regression(Task):
    """C real values; label float [B, C]; the loss is the mean squared error."""

    name, primary = "regression", "r2"

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        weight = self._weight(logits.device)
        squared = (logits - label.to(logits.dtype)).square()
        return (squared if weight is None else squared * weight).mean(dim=-1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits

    def prior(self, label: Tensor) -> Tensor:
        return label.float().mean(dim=0)

    def score(self, logits: Tensor, label: Tensor) -> float:
        return float(r2_score(logits, label.to(logits.dtype)))

    def _metrics(self, rows: int) -> MetricCollection:
        return MetricCollection({"r2": R2Score(), "mse": MeanSquaredError(), "mae": MeanAbsoluteError()})

    def row_scores(self, logits: Tensor, label: Tensor) -> dict[str, Tensor]:
        error = logits - label.to(logits.dtype)
        return {"mse": error.square().mean(dim=-1), "mae": error.abs().mean(dim=-1)}


TASKS: dict[str, type[Task]] = {task.name: task for task in (Multiclass, Multilabel, Regression)}


def make_task(name: str, outputs: int, class_weight: Sequence[float] | None = None) -> Task:
    """Return the task called `multiclass`, `multilabel` or `regression`."""
    if name not in TASKS:
        raise ConfigError(f"task: unknown task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name](outputs, class_weight)
