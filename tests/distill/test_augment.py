"""Random changes of training rows: what they do, that they repeat, and what they must not reach."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional

from kd.distill.augment import Crop, DropWords, build_augmentations
from kd.distill.graph import part_faults
from kd.distill.loss import Edge
from kd.distill.module import Distiller
from kd.distill.teachers import Cached, Frozen
from kd.errors import ConfigError
from kd.models.classifier import Classifier
from kd.objectives.kl import KL
from kd.parsing import parse
from kd.types import Batch, Modality

PICTURES = Modality((3, 12, 12), "image")
WORDS = Modality((10,), "text", vocabulary=50)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(rows: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (rows, 3, 12, 12), dtype=torch.uint8, generator=seeded(1))


def test_crop_is_torchvisions_pad_and_crop_of_each_row() -> None:
    x = pictures()
    changed = Crop(PICTURES, pad=2)(x, seeded())
    padded = functional.pad(x, [2, 2, 2, 2], padding_mode="edge")
    for row, found in zip(padded, changed, strict=True):
        windows = [functional.crop(row, top, left, 12, 12) for top in range(5) for left in range(5)]
        assert any(torch.equal(found, window) for window in windows)


def test_crop_shifts_rows_differently_and_repeats_with_its_seed() -> None:
    x = pictures(1).expand(32, -1, -1, -1)
    crop = Crop(PICTURES, pad=3, flip=True, jitter=0.2)
    assert len({row.numpy().tobytes() for row in crop(x, seeded())}) > 16
    assert torch.equal(crop(x, seeded()), crop(x, seeded()))
    assert not torch.equal(crop(x, seeded()), crop(x, seeded(2)))
    assert crop(x, seeded()).dtype == torch.uint8


def test_flip_mirrors_about_half_of_the_rows_and_changes_nothing_else() -> None:
    x = pictures(200)
    changed = Crop(PICTURES, pad=0, flip=True)(x, seeded())
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(changed, x, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(changed, x, strict=True)]
    assert all(one != other for one, other in zip(mirrored, same, strict=True))
    # 200 fair coins: four standard deviations are 28.
    assert abs(sum(mirrored) - 100) < 28


def test_jitter_is_torchvisions_brightness_contrast_and_saturation() -> None:
    x = pictures(8)
    changed = Crop(PICTURES, pad=0, jitter=0.4)(x, seeded())
    stream = seeded()
    torch.randint(0, 1, (2, 8, 1), generator=stream)
    factors = 1 + 0.4 * (2 * torch.rand(3, 8, generator=stream) - 1)
    for row, (brightness, contrast, saturation), found in zip(x, factors.T.tolist(), changed, strict=True):
        expected = functional.adjust_brightness(row / 255, brightness)
        expected = functional.adjust_saturation(functional.adjust_contrast(expected, contrast), saturation)
        assert (255 * expected - found).abs().max() <= 0.51


def test_drop_words_keeps_the_first_token_and_padding() -> None:
    ids = torch.randint(1, 50, (400, 10), generator=seeded(1))
    ids[:, 7:] = WORDS.pad
    changed = DropWords(WORDS, probability=0.3, token=3)(ids, seeded())
    lost = (changed != ids) & (changed == 3)
    assert torch.equal(changed[:, 0], ids[:, 0])
    assert not changed[:, 7:].any()
    assert torch.equal(torch.where(lost, ids, changed), ids)
    # 2,400 draws: five standard errors are 0.047; 2% of the ids are 3 already.
    assert abs(float(lost[:, 1:7].float().mean()) - 0.3 * 48 / 49) < 0.047


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"picture": {"name": "crop", "pad": 12}}, "augment.picture.pad: expected 0 up to 11"),
        ({"picture": {"name": "drop_words"}}, "augment.picture: drop_words cannot change image, only text"),
        ({"words": {"name": "drop_words", "probability": 1.0}}, "augment.words.probability"),
        ({"words": {"name": "drop_words", "token": 50}}, "augment.words.token: expected an id in 0..49"),
        ({"words": {"name": "drop_word"}}, "augment.words.name: unknown augmentation 'drop_word'; did you mean"),
    ],
)
def test_wrong_augmentation_is_one_line(parts: dict[str, dict[str, object]], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build_augmentations(parts, {"picture": PICTURES, "words": WORDS})
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


class Recording(torch.nn.Module):
    """A network that keeps what it was shown."""

    modalities = ("a",)

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shown = torch.nn.Linear(3, 2), []

    def forward(self, inputs: dict[str, torch.Tensor], present: torch.Tensor) -> torch.Tensor:
        self.shown.append(inputs["a"])
        return self.layer(inputs["a"])


def doubled(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return 2 * x + torch.rand(x.shape, generator=generator)


def test_live_teacher_sees_the_rows_that_the_student_sees() -> None:
    student, teacher = Recording(), Recording()
    module = Distiller(student, edges=[Edge(teacher, KL())], augment={"a": doubled})  # type: ignore[dict-item]
    batch = Batch.of({"a": torch.ones(4, 3)}, torch.zeros(4, dtype=torch.int64))
    module.training_step(batch, 0)
    assert torch.equal(student.shown[0], teacher.shown[0])
    assert (student.shown[0] >= 2).all()
    assert torch.equal(batch.inputs["a"], torch.ones(4, 3))


def test_augmentation_repeats_with_the_step_and_differs_between_accumulated_batches() -> None:
    module = Distiller(Recording(), augment={"a": doubled})  # type: ignore[dict-item]
    batch = Batch.of({"a": torch.ones(4, 3)}, torch.zeros(4, dtype=torch.int64))
    for batch_index in (0, 0, 1):
        module.training_step(batch, batch_index)
    first, again, other = module.model.shown
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_outputs_computed_once_are_refused_for_rows_that_change() -> None:
    edge = Edge(Cached(torch.zeros(4, 2), ["a"]), KL())
    with pytest.raises(ConfigError, match="computed on a as it is"):
        Distiller(Recording(), edges=[edge], augment={"a": doubled})  # type: ignore[dict-item]
    Distiller(Recording(), edges=[Edge(Cached(torch.zeros(4, 2), ["b"]), KL())], augment={"a": doubled})  # type: ignore[dict-item]


def test_cache_true_with_an_augmenting_student_is_a_fault() -> None:
    nodes = {"t": {"sees": ["m0"]}, "s": {"sees": ["m0"], "augment": {"m0": {"name": "crop"}}}}
    edges = {"e": {"teacher": "t", "student": "s", "cache": True}}
    found = part_faults(parse({"data": {"name": "synthetic"}, "nodes": nodes, "edges": edges}))
    assert any("edges.e.cache: outputs computed once belong to m0 as it is" in fault for fault in found)


def test_unknown_and_unseen_modalities_of_augment_are_told_apart() -> None:
    from kd.distill.graph import data_faults

    tree = {"data": {"name": "synthetic"}, "nodes": {"t": {"sees": ["m0"], "augment": {"m1": {"name": "crop"}}}}}
    assert data_faults(parse(tree), ["m0", "m1"]) == []
    assert any("nodes.t.augment.m1: unknown modality" in fault for fault in data_faults(parse(tree), ["m0"]))


def test_frozen_teacher_of_our_own_is_live_where_it_must_be() -> None:
    teacher = Classifier({"a": Modality((3,))}, 2, width=4)
    Distiller(Recording(), edges=[Edge(Frozen(teacher), KL())], augment={"a": doubled})  # type: ignore[dict-item]
