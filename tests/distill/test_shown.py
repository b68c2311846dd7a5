"""The rows that a training was shown: recorded from its batches, for one student and for a stack."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

import kd
from kd.data import load_source
from kd.distill.fit import train_graph
from kd.distill.trained import rows_seen
from kd.errors import ConfigError

OPTIONS = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}


def test_a_study_records_the_rows_of_its_batches(small_study, setting_of):
    study = small_study()
    study.nodes["one"].steps, study.nodes["one"].validate_every, study.nodes["one"].batch_size = 2, 1, 8
    setting = setting_of(study)
    seen = rows_seen(train_graph(study, setting)["one"])
    assert len(seen["rows"]) == 16  # two batches of eight, out of far more rows that it may learn from
    assert set(seen["rows"]) <= set(setting.split.train.tolist())
    assert seen["selection"] == setting.split.validation.tolist()


def test_rows_seen_before_a_training_was_stopped_are_not_forgotten(tmp_path):
    data = kd.DataModule(load_source("synthetic", rows=200), batch_size=16)
    whole, student = kd.AuditRows(), kd.Distiller(kd.classifier(data, width=4))
    trainer = pl.Trainer(max_epochs=1, callbacks=[whole], limit_train_batches=2, **OPTIONS)
    trainer.fit(student, data)
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    again = kd.AuditRows()
    trainer = pl.Trainer(max_epochs=2, callbacks=[again], limit_train_batches=2, **OPTIONS)
    trainer.fit(kd.Distiller(kd.classifier(data, width=4)), data, ckpt_path=str(tmp_path / "first.ckpt"))
    assert set(whole.fitted.tolist()) < set(again.fitted.tolist())
    told = again.audit("student").told()
    assert told["student: rows"].startswith(f"{len(again.fitted)} rows, ")
    assert told["student: selection"].startswith(f"{len(data.split.validation)} rows, ")


def test_batches_without_rows_are_refused_in_one_line():
    class Plain(pl.LightningModule):
        def training_step(self, batch, number):
            raise AssertionError("it was refused before")

        def configure_optimizers(self):
            return None

    batches = DataLoader(torch.zeros(8, 2), batch_size=4)
    with pytest.raises(ConfigError, match="AuditRows: expected batches with index"):
        pl.Trainer(max_epochs=1, callbacks=[kd.AuditRows()], **OPTIONS).fit(Plain(), batches)
