"""The data module: whole batches, an order that survives a restart, rows per node."""

import functools
import operator

import pytest
import pytorch_lightning as pl
import torch

from kd.data import load_source, masks
from kd.data.module import DataModule, loader
from kd.data.splits import split
from kd.errors import DataError, LeakError, MaskError


@pytest.fixture(scope="module")
def source():
    return load_source("synthetic", rows=200)


def order(batches, epoch):
    batches.sampler.set_epoch(epoch)
    return [batch.index.tolist() for batch in batches]


def test_an_epoch_shows_every_row_once_and_keeps_the_partial_batch(source):
    batches = loader(source, source.observed, torch.arange(70), batch_size=32, seed=0)
    assert [len(b) for b in batches] == [32, 32, 6]
    assert len(batches) == 3
    assert sorted(functools.reduce(operator.iadd, order(batches, 1), [])) == list(range(70))


def test_order_is_a_function_of_seed_and_epoch(source):
    first, again, other = (loader(source, source.observed, torch.arange(70), seed=s) for s in (0, 0, 1))
    assert order(first, 2) == order(again, 2) != order(first, 3)
    assert order(first, 2) != order(other, 2)


def test_evaluation_order_is_fixed(source):
    batches = loader(source, source.observed, torch.tensor([5, 3, 9]), batch_size=2)
    assert order(batches, 0) == order(batches, 4) == [[5, 3], [9]]


def test_no_rows_are_refused(source):
    with pytest.raises(DataError, match="0 rows"):
        loader(source, source.observed, torch.arange(0))


def test_mask_acts_on_training_batches_only(source):
    data = DataModule(source, mask=masks.mcar(0.6))
    assert not torch.cat([b.present for b in data.train_dataloader()]).all()
    for batches in (data.val_dataloader(), data.test_dataloader()):
        assert torch.cat([b.present for b in batches]).all()


def test_parts_of_the_loaders_are_the_parts_of_the_split(source):
    data = DataModule(source)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    for batches, ids in zip(loaders, (data.split.train, data.split.validation, data.split.test), strict=True):
        assert sorted(torch.cat([b.index for b in batches]).tolist()) == ids.tolist()


def test_rows_of_a_node_are_those_it_can_use(source):
    data = DataModule(source, mask=masks.severe(complete=20, pool=15))
    assert len(data.rows_for(["m0"])) == len(data.rows_for(["m1"], "any")) == 35
    assert len(data.rows_for(["m0", "m2"])) == 50
    assert len(data.rows_for(["m0"], "complete")) == 20
    assert len(data.rows_for(source.modalities)) == 65


def test_rows_complete_trains_on_complete_rows_only(source):
    data = DataModule(source, mask=masks.severe(complete=20), rows="complete")
    assert sum(len(b) for b in data.train_dataloader()) == 20
    assert all(b.present.all() for b in data.train_dataloader())


def test_unknown_rule_or_modality_is_refused(source):
    data = DataModule(source)
    with pytest.raises(DataError, match="did you mean 'complete'"):
        data.rows_for(["m0"], "complet")
    with pytest.raises(DataError, match="unknown modality"):
        data.rows_for(["m9"])


def test_mask_of_another_split_and_cut_split_are_refused(source):
    other = split(source, seed=9)
    with pytest.raises(MaskError, match="another split"):
        DataModule(source, mask=masks.complete().draw(source, other))
    with pytest.raises(LeakError):
        DataModule(source, split=type(other)(other.train, other.train, other.test))


def test_fingerprints_follow_data_and_mask(source):
    plain, masked = DataModule(source), DataModule(source, mask=masks.mcar(0.2))
    assert plain.data_fingerprint == masked.data_fingerprint != DataModule(source, seed=1).data_fingerprint
    assert plain.mask_fingerprint != masked.mask_fingerprint


class Recorder(pl.LightningModule):
    """Keep the rows each step saw."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.seen = torch.nn.Linear(8, 4), []

    def training_step(self, batch, _):
        self.seen.append(batch.index.tolist())
        return torch.nn.functional.cross_entropy(self.layer(batch.inputs["m0"]), batch.label)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_resumed_training_sees_the_rows_an_uninterrupted_one_sees(source, tmp_path):
    def fit(epochs, checkpoint=None):
        model = Recorder()
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, DataModule(source), ckpt_path=checkpoint)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return model

    whole, first = fit(4), fit(2)
    second = fit(4, tmp_path / "2.ckpt")
    assert first.seen + second.seen == whole.seen
    assert torch.equal(second.layer.weight, whole.layer.weight)


def test_training_batches_have_their_share_of_labels(source):
    data = DataModule(source, mask=masks.unlabelled(labels=20), labelled_share=0.25)
    batches = data.train_dataloader()
    assert [len(batch) for batch in batches] == [32] * (-(-len(data.split.train) // 32))
    assert [int(batch.labelled.sum()) for batch in batches] == [8] * len(batches)
    assert order(batches, 1) == order(data.train_dataloader(), 1) != order(batches, 0)
    whole = DataModule(source, labelled_share=0.25).train_dataloader()  # no row lacks a label
    assert set(data.split.train.tolist()) <= {row for batch in order(whole, 0) for row in batch}


@pytest.mark.parametrize(("share", "size"), [(1.0, 32), (0.5, 1)])
def test_a_share_of_labels_that_leaves_one_kind_out_is_refused(source, share, size):
    data = DataModule(source, mask=masks.unlabelled(labels=20), labelled_share=share, batch_size=size)
    with pytest.raises(DataError, match=r"labelled_share: expected a share in \(0, 1\) of batches"):
        data.train_dataloader()
