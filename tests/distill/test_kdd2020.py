"""KDD 2020 to the letter: the loss of a student of two modalities and one step of Adam, by the paper's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kd
from kd.distill import OPTIMIZERS
from kd.seeding import noise
from kd.types import Batch, Modality

ROWS, CLASSES, WIDTH, RATE = 12, 5, 7, 1e-3
ALPHA, TEMPERATURE = {"a": 0.7, "b": 1.8}, {"a": 2.0, "b": 4.0}
SHAPES = {"a": 4, "b": 6}
NO_DROPOUT = [np.ones((ROWS, WIDTH))] * 2
Weights = dict[str, np.ndarray]


def network(names: list[str], seed: int) -> kd.Classifier:
    """Return the released code's network: Linear-ReLU-Dropout twice for each modality, side by side, one Linear."""
    torch.manual_seed(seed)
    encoder = {"name": "mlp", "hidden": [WIDTH], "dropout": 0.5}
    shapes = {name: Modality((SHAPES[name],)) for name in names}
    return kd.Classifier(shapes, CLASSES, width=WIDTH, encoder=encoder).double()


def batch() -> Batch:
    draw = torch.Generator().manual_seed(3)
    inputs = {name: torch.randn(ROWS, size, generator=draw, dtype=torch.float64) for name, size in SHAPES.items()}
    made = Batch.of(inputs, torch.arange(ROWS) % CLASSES)
    present = made.present.clone()
    present[[2, 5], [0, 1]] = False  # two rows are incomplete: the student learns nothing from them
    return made.with_present(present)


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z)
    return powers / powers.sum(axis=1, keepdims=True)


class Naive:
    """The student's forward and backward pass and Adam's first step, written out in numpy.

    Args:
        weights: of the student, by name.
        masks: the dropout masks of both layers of each modality, 0 or 2, in the order they are drawn.
    """

    def __init__(self, weights: Weights, masks: dict[str, list[np.ndarray]]) -> None:
        self.weights, self.masks = weights, masks

    def logits(self, x: dict[str, np.ndarray]) -> np.ndarray:
        self.kept: dict[str, list[np.ndarray]] = {}
        for name, own in x.items():
            self.kept[name] = [own]
            for layer, mask in zip((0, 3), self.masks[name], strict=True):
                w, b = (self.weights[f"encoders.{name}.layers.{layer}.{part}"] for part in ("weight", "bias"))
                self.kept[name].append(np.maximum(self.kept[name][-1] @ w.T + b, 0) * mask)
        self.joint = np.concatenate([self.kept[name][-1] for name in x], axis=1)
        return self.joint @ self.weights["head.weight"].T + self.weights["head.bias"]

    def gradients(self, slope: np.ndarray) -> Weights:
        """Return dL/dweight of everything from dL/dlogits [B, C]."""
        found = {"head.weight": slope.T @ self.joint, "head.bias": slope.sum(axis=0)}
        back = np.split(slope @ self.weights["head.weight"], len(self.kept), axis=1)
        for name, below in zip(self.kept, back, strict=True):
            for place, layer in ((1, 3), (0, 0)):
                path, seen, given = (
                    f"encoders.{name}.layers.{layer}",
                    self.kept[name][place],
                    self.kept[name][place + 1],
                )
                below = below * self.masks[name][place] * (given > 0)
                found |= {f"{path}.weight": below.T @ seen, f"{path}.bias": below.sum(axis=0)}
                below = below @ self.weights[f"{path}.weight"]
        return found


@pytest.mark.parametrize("dropout", [False, True])
def test_loss_and_one_step_of_adam_are_the_papers_to_1e_12(dropout: bool) -> None:
    rows = batch()
    teachers = {name: network([name], seed) for seed, name in enumerate(SHAPES)}
    student = network(list(SHAPES), 9)
    student.train()
    for module in student.modules() if not dropout else ():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    edges = {name: kd.Edge(teachers[name], kd.KL(temperature=TEMPERATURE[name]), ALPHA[name]) for name in SHAPES}
    distiller = kd.Distiller(student, edges=edges, rows="complete", seed=4)
    weights = {name: value.detach().numpy().copy() for name, value in student.named_parameters()}
    masks = drawn_masks(student, rows, distiller) if dropout else dict.fromkeys(SHAPES, NO_DROPOUT)

    optimizer = OPTIMIZERS.build({"name": "adam"}, list(student.parameters()))
    loss = distiller.training_step(rows, 0)
    loss.backward()
    optimizer.step()

    # The paper: CE(z, y) + sum_m alpha_m T_m^2 KL(p(z_m; T_m) || p(z; T_m)), teachers in eval mode, over complete rows.
    whole = rows.present.all(dim=1).numpy()
    x = {name: value.numpy() * rows.present[:, [m]].numpy() for m, (name, value) in enumerate(rows.inputs.items())}
    naive = Naive(weights, masks)
    z = naive.logits(x)
    told = np.eye(CLASSES)[rows.label.numpy()]
    expected = -(told * np.log(softmax(z))).sum(axis=1)
    slope = softmax(z) - told
    for name, teacher in teachers.items():
        t, alpha = TEMPERATURE[name], ALPHA[name]
        quiet = Naive({k: v.detach().numpy() for k, v in teacher.named_parameters()}, {name: NO_DROPOUT})
        p, q = softmax(quiet.logits({name: x[name]}) / t), softmax(z / t)
        expected += alpha * t**2 * (p * np.log(p / q)).sum(axis=1)
        slope += alpha * t * (q - p)
    assert abs(loss.item() - expected[whole].sum() / ROWS) < 1e-12

    gradients = naive.gradients(slope * whole[:, None] / ROWS)
    moved = dict(student.named_parameters())
    assert set(gradients) == set(moved)
    for name, g in gradients.items():
        # The first step of Adam with betas .9 and .999: both means, corrected for their start at 0, are those of g.
        by_hand = weights[name] - RATE * g / (np.sqrt(g**2) + 1e-8)
        assert np.abs(moved[name].detach().numpy() - by_hand).max() < 1e-12, name
    assert all(parameter.grad is None for teacher in teachers.values() for parameter in teacher.parameters())


def drawn_masks(student: kd.Classifier, rows: Batch, distiller: kd.Distiller) -> dict[str, list[np.ndarray]]:
    """Return the dropout masks of the step to come, which are a function of (seed, step); 1 where nothing passes."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in SHAPES}

    def keep(name: str, given: torch.Tensor, made: torch.Tensor) -> None:
        found[name].append(torch.where(given != 0, made / given, torch.ones_like(made)).detach().numpy())

    hooks = [
        module.register_forward_hook(lambda _, given, made, name=name: keep(name, given[0], made))
        for name in SHAPES
        for module in student.encoders[name].modules()
        if isinstance(module, torch.nn.Dropout)
    ]
    with noise(distiller.seed, "noise", 0, 0, 0):
        student(rows.inputs, rows.present)
    for hook in hooks:
        hook.remove()
    return found
