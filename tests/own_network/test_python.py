"""Networks of the user's own in Python: two lines make them teachers, one a student."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import kd
from kd.distill.teachers import state_digest
from kd.errors import ConfigError

ROOT = Path(__file__).parents[2]


def plain_trainer(**settings: Any) -> pl.Trainer:
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "max_epochs": 1}
    return pl.Trainer(**{"accelerator": "cpu", "enable_model_summary": False, **silent, **settings})


def test_torchvision_and_hugging_face_teachers_in_lightning_modules_keep_every_bit(models, source, tmp_path) -> None:
    pictures = models.Pictures.load_from_checkpoint("pictures.ckpt")
    words = models.Words.load_from_checkpoint("words.ckpt")
    before = [state_digest(module.state_dict()) for module in (pictures, words)]
    assert any("running_mean" in name for name in pictures.state_dict())
    data = kd.DataModule(source, mask=kd.masks.mcar(0.3), batch_size=16)
    edges = {"image": kd.Edge(kd.adapt(pictures, image="x"), kd.KL(temperature=3)),
             "words": kd.Edge(kd.adapt(words, words="input_ids"), kd.KL(temperature=3))}  # fmt: skip
    student = kd.Distiller(models.Fused(), sees=["image", "words"], edges=edges, drop=0.3)
    trainer = plain_trainer()
    trainer.fit(student, data)
    assert [state_digest(module.state_dict()) for module in (pictures, words)] == before
    trainer.save_checkpoint(tmp_path / "student.ckpt")
    saved = torch.load(tmp_path / "student.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {f"model.{name}" for name in models.Fused().state_dict()}
    optimised = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in student.model.parameters()}
    assert float(trainer.callback_metrics["train/edge/image"]) > 0
    assert float(trainer.callback_metrics["train/edge/words"]) > 0


def test_adapted_network_answers_as_its_owner_would(models, source) -> None:
    rows, everything = torch.arange(10), torch.ones(10, 1, dtype=torch.bool)
    pictures = models.Pictures.load_from_checkpoint("pictures.ckpt").eval()
    image, words = source.inputs["image"][rows], source.inputs["words"][rows]
    normalised = {"argument": "x", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1]}
    expected = (image.float() / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.2, 0.1]).view(
        3, 1, 1
    )
    found = kd.adapt(pictures, image=normalised)({"image": image}, everything).logits
    assert torch.allclose(found, pictures(expected), atol=1e-5)
    text = models.Words.load_from_checkpoint("words.ckpt").eval()
    found = kd.adapt(text, words="input_ids")({"words": words}, everything).logits
    assert torch.equal(found, text(words, (words != 0).long()).logits)


def test_nothing_hidden_reaches_an_adapted_network(models, source) -> None:
    present = torch.tensor([[True], [False], [True]])
    views = kd.adapt(models.Views(3), view="x")
    x = torch.randn(3, 4)
    spoilt = x.clone()
    spoilt[1] = float("nan")
    assert views({"view": spoilt}, present).logits.isfinite().all()
    assert torch.equal(views({"view": spoilt}, present).logits[::2], views({"view": x}, present).logits[::2])
    holed = x.clone()
    holed[0, 2] = float("nan")
    filled = holed.nan_to_num(nan=0.0)
    assert torch.equal(views({"view": holed}, present).logits, views({"view": filled}, present).logits)
    text = kd.adapt(models.Words(3).eval(), words="input_ids")
    hidden = source.inputs["words"][:3].clone()
    hidden[1] = -1
    assert text({"words": hidden}, present).logits.isfinite().all()


def test_a_network_of_batches_and_a_labels_count_it_never_named(models, source) -> None:
    student = kd.Distiller(models.Fused(), sees=["image", "words"])
    trainer = plain_trainer(max_epochs=2)
    trainer.fit(student, kd.DataModule(source, batch_size=16))
    assert student.task.outputs == 3
    assert 0 <= float(trainer.callback_metrics["validation_score"]) <= 1


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda m: kd.adapt(m.Views(3), view="input"), "adapt.view: its forward has no argument 'input'; "),
        (lambda m: kd.adapt(m.Views(3)), "adapt: expected modality=argument"),
        (
            lambda m: kd.adapt(m.Views(3), view={"argument": "x", "std": [0.0]}),
            "adapt.view.std: expected numbers above 0",
        ),
        (
            lambda m: kd.adapt(m.Views(3), view={"argument": "x", "men": 1}),
            "adapt.view.men: unknown key; did you mean 'mean'",
        ),
        (lambda m: kd.Edge(m.Views(3), kd.KL()), "edge: name the modalities that the teacher takes"),
        (lambda m: kd.Distiller(m.Views(3)), "sees: name the modalities that the network takes"),
        (
            lambda m: kd.adapt(m.Pair(3), view="x")({"view": torch.zeros(1, 4)}, torch.ones(1, 1).bool()),
            "network: its forward returned tuple; expected logits",
        ),
    ],
)
def test_a_wrong_use_in_python_is_one_line(models, build: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(models)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_python_in_the_page_about_own_networks_runs(tmp_path, monkeypatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own-network.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_HOME", str(ROOT))
    names: dict[str, Any] = {"__name__": "own"}
    for code in blocks:
        exec(compile(code, "docs/own-network.md", "exec"), names)
    student = kd.Classifier.from_pretrained(tmp_path / "out" / "student")
    assert student.modalities == ["image", "table"]
