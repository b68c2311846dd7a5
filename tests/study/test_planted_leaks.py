"""One planted leak each, through the code that a study runs: it must stop, and say which object saw which rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import torch

import kd
from kd.ablate import ablate
from kd.ablate.grid import make_grid
from kd.config import Study
from kd.data import MECHANISMS, load_source
from kd.data.columns import Frame
from kd.data.locked import lock
from kd.data.mechanisms.kinds import KINDS
from kd.data.module import loader
from kd.data.source import Source
from kd.data.splits import Split, split
from kd.distill.setting import ROWS_AT_ONCE
from kd.errors import ConfigError, LeakError
from kd.networks import build_network
from kd.parsing import parse
from kd.record import runs_root
from kd.study import run
from kd.study.leaks import finals

NODE = {
    "sees": ["m0"],
    "steps": 2,
    "validate_every": 1,
    "model": {"width": 4, "encoder": {"name": "mlp", "hidden": []}},
}
DATA = {"name": "synthetic", "modalities": 2, "rows": 400, "classes": 3, "width": 4}


@pytest.fixture
def study() -> Callable[..., Study]:
    """Return a maker of the smallest study there is: one node, two steps."""
    return lambda **changes: parse({"data": DATA, "seeds": 1, "nodes": {"one": NODE}, **changes})


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[Source], None]:
    """Return what makes every study's data this source."""
    return lambda source: monkeypatch.setattr("kd.study.check.load_source", lambda **_: source)


def wrote_no_table() -> bool:
    return not list((runs_root() / "run").glob("*/record.json"))


def provenance(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "provenance.json").read_text())


def test_a_scaler_fitted_on_all_rows_is_named(study, monkeypatch) -> None:
    def leaking(source, sees, ids, available, model, seed):
        return build_network(source, sees, torch.arange(len(source)), available, model, seed)

    monkeypatch.setattr("kd.distill.fit.build_network", leaking)
    with pytest.raises(LeakError, match=r"one seed 0: scaler m0: saw 100 test rows, the first \["):
        run(study())
    assert wrote_no_table()


def test_a_processor_fitted_on_all_rows_is_named(study, given, monkeypatch) -> None:
    random = torch.Generator().manual_seed(0)
    frame = pd.DataFrame(torch.randn(200, 6, generator=random).numpy()).rename(columns=str)
    given(Source("table", {"m0": Frame(frame)}, torch.arange(200) % 3, 3))
    everything = {"m0": torch.arange(200)}
    monkeypatch.setattr("kd.distill.setting.rows_with", lambda source, available, ids: everything)
    with pytest.raises(LeakError, match="one seed 0: processor m0: saw 50 test rows"):
        run(study())


def copied(move: float) -> tuple[Source, int, int]:
    """Return data in which a test row is a training row's copy, each number moved a little, and the two rows."""
    source = load_source(**DATA)
    parts = split(source)
    first, second = int(parts.train[0]), int(parts.test[0])
    random = torch.Generator().manual_seed(1)
    inputs = {name: value.clone() for name, value in source.inputs.items()}
    for value in inputs.values():
        value[second] = value[first] + move * torch.randn(value.shape[1], generator=random)
    # Labels are left as they were, so the split is as well.
    return replace(source, inputs=inputs, ceiling=None), first, second


@pytest.mark.parametrize("move", [0.0, 0.001])
def test_a_copy_of_a_training_row_among_the_test_rows_is_named(move, study, given) -> None:
    source, first, second = copied(move)
    given(source)
    with pytest.raises(ConfigError, match=rf"row {first} \(train\) and row {second} \(test\) are copies.*one group"):
        run(study())
    given(replace(source, group=source.group.index_fill(0, torch.tensor([second]), first)))
    run(study())


def test_copies_that_are_allowed_are_counted_and_told(study, given) -> None:
    given(copied(0.0)[0])
    told = provenance(run(study(duplicates="allow")))["audit"]["copies"]
    assert (told["pairs across parts"], told["setting"]) == (1, "allow")


def test_a_noisy_copy_of_the_label_is_named_and_can_be_allowed_by_name(study, given) -> None:
    source = load_source(**DATA)
    noise = 0.05 * torch.randn(400, generator=torch.Generator().manual_seed(0))
    columns = torch.stack([noise, source.label.exp() + noise], dim=1)
    given(replace(source, inputs={**source.inputs, "m1": columns}, ceiling=None))
    with pytest.raises(ConfigError, match=r"label can be read off m1\[1\] \(nearly\) alone"):
        run(study())
    told = provenance(run(study(allow_columns=["m1[1]"])))["audit"]["columns that tell the label"]
    assert told == {"m1[1]": "nearly"}


def on_test_rows(setting):
    return loader(setting.source, setting.source.observed, setting.split.test, batch_size=ROWS_AT_ONCE)


def test_a_checkpoint_chosen_on_test_rows_is_named(study, monkeypatch) -> None:
    monkeypatch.setattr("kd.distill.fit.validation", on_test_rows)
    with pytest.raises(LeakError, match="one seed 0: selection: saw 100 test rows"):
        run(study())
    assert wrote_no_table()


def test_checkpoints_of_a_stack_chosen_on_test_rows_are_named(study, monkeypatch) -> None:
    monkeypatch.setattr("kd.distill.together.validation", on_test_rows)
    grid = make_grid({"data": DATA, "seeds": 2, "nodes": {"one": NODE}, "grid": {}, "replicas": 8})
    with pytest.raises(LeakError, match="one seed 0: selection: saw 100 test rows"):
        ablate(grid)
    assert wrote_no_table()


def test_a_node_trained_on_test_rows_is_named(study, monkeypatch) -> None:
    monkeypatch.setattr("kd.distill.fit.training_rows", lambda node, setting, teachers=(): setting.split.test)
    with pytest.raises(LeakError, match=r"one seed 0: (scaler m0|rows): saw"):
        run(study())


def test_a_pass_that_is_calibrated_on_test_rows_is_named(study, monkeypatch) -> None:
    monkeypatch.setattr("kd.study.compress.training_rows", lambda node, setting, teachers=(): setting.split.test)
    small = {"student": "one", "passes": {"small": {"name": "structured"}}}
    with pytest.raises(LeakError, match="compressed seed 0: calibration: saw 100 test rows"):
        run(study(compress=small))


def test_a_plain_trainer_that_chooses_on_test_rows_is_named() -> None:
    data = kd.DataModule(load_source(**DATA), batch_size=64)
    student, seen = kd.Distiller(kd.classifier(data, width=4)), kd.AuditRows()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_epochs=1, callbacks=[seen], **options)
    trainer.fit(student, data.train_dataloader(), data.test_dataloader())
    assert torch.equal(seen.fitted, data.split.train)
    with pytest.raises(LeakError, match=f"student: selection: saw {len(data.split.test)} test rows"):
        seen.audit("student").check(data.split.test)


def peeks_at_labels(source: Source, rows: Split, seed: int) -> torch.Tensor:
    """Hide the second modality from the rows of one class; declared MCAR below."""
    keep = torch.ones_like(source.observed)
    keep[rows.train, 1] = source.label[rows.train] != 0
    return keep


def peeks_at_test_rows(source: Source, rows: Split, seed: int) -> torch.Tensor:
    """Hide the second modality from training rows that lie below the mean of the test rows."""
    keep, value = torch.ones_like(source.observed), source.inputs["m0"][:, 0]
    keep[rows.train, 1] = value[rows.train] > value[rows.test].mean()
    return keep


def throws_dice(source: Source, rows: Split, seed: int) -> torch.Tensor:
    """Hide at random, whatever the seed."""
    keep = torch.ones_like(source.observed)
    keep[rows.train, 1] = torch.rand(len(rows.train)) > 0.5
    return keep


@pytest.mark.parametrize(
    ("cheat", "kind", "found"),
    [
        (peeks_at_labels, "MCAR", "drawn with the labels of rows exchanged, .* declared MCAR, which asks for no label"),
        (peeks_at_labels, "MAR", "drawn with the labels of rows exchanged, .* declared MAR, which asks for no label"),
        (peeks_at_test_rows, "MNAR", "drawn with other test rows, .* draw it from training rows alone"),
        (throws_dice, "MCAR", "drawn again with its own seed, .* rows see something else"),
    ],
)
def test_a_mask_that_is_not_what_it_declares_is_named(cheat, kind, found, study, monkeypatch) -> None:
    class Cheat:
        factory, load = "", staticmethod(lambda: cheat)

    monkeypatch.setitem(MECHANISMS._entries, "cheat", Cheat)
    monkeypatch.setitem(KINDS, "cheat", kind)
    with pytest.raises(ConfigError, match=f"mask cheat .seed 0.: {found}"):
        run(study(mask={"name": "cheat"}))


def test_a_file_declared_mcar_that_depends_on_the_label_is_named(study, tmp_path) -> None:
    label = load_source(**DATA).label
    random = torch.rand(400, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "mask.parquet"
    pq.write_table(pa.table({"m1": (random > 0.2 + 0.3 * (label == 0)).numpy()}), path)
    mask = {"name": "file", "path": str(path)}
    with pytest.raises(ConfigError, match=r"mask file .*: declared MCAR, but who has 'm1' depends on the label"):
        run(study(mask={**mask, "declared": "mcar"}))
    assert provenance(run(study(mask=mask)))["audit"]["mask"]["kind"] == "unknown"


@pytest.fixture
def locked(tmp_path):
    """Return the rows of a locked set of the studies' data, and its file."""
    found = lock(load_source(**DATA), rows=80)
    found.save(tmp_path / "locked.json")
    return found, str(tmp_path / "locked.json")


def test_a_search_never_meets_locked_rows_and_a_final_run_tests_on_them(study, locked) -> None:
    rows, path = locked
    search = provenance(run(study(split={"locked": path})))
    assert (search["split"]["test"], search["audit"]["locked"]["hash"]) == (80, rows.hash)
    assert finals(rows.hash) == []
    final = provenance(run(study(split={"locked": path, "phase": "final"})))
    assert final["split"]["test"] == 80
    assert final["audit"]["locked"]["final runs of this store on these rows"] == 1
    again = provenance(run(study(split={"locked": path, "phase": "final", "validation": 0.2})))
    assert again["audit"]["locked"]["final runs of this store on these rows"] == 2


def test_a_search_on_a_split_made_by_hand_that_tests_on_a_locked_row_is_refused(study, locked, monkeypatch) -> None:
    rows, path = locked

    def by_hand(study, source, fold=0):
        free = split(source, locked=path)
        return Split(free.train, free.validation, torch.cat([free.test, rows.rows[:2]]), source=source.fingerprint)

    for where in ("check", "replicate"):
        monkeypatch.setattr(f"kd.study.{where}.split_for", by_hand)
    with pytest.raises(ConfigError, match="split: meets, in a search, 2 locked rows"):
        run(study(split={"locked": path}))


def test_a_node_that_trains_on_a_locked_row_is_named(study, locked, monkeypatch) -> None:
    rows, path = locked
    with_one = lambda node, setting, teachers=(): torch.cat([setting.split.train, rows.rows[:1]])  # noqa: E731
    monkeypatch.setattr("kd.distill.fit.training_rows", with_one)
    with pytest.raises(LeakError, match=r"one seed 0: scaler m0: saw 1 locked rows"):
        run(study(split={"locked": path}))


def test_an_encoder_pretrained_on_test_rows_is_named(study, given, tmp_path) -> None:
    source = load_source(**DATA)
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "linear.ckpt")
    own = {"import": "torch.nn:Linear", "in_features": 4, "out_features": 3, "takes": {"m0": "input"}}
    nodes = {"one": {**NODE, "model": {**own, "checkpoint": str(tmp_path / "linear.ckpt")}}}
    parts = split(source)
    seen = [int(parts.test[0]), int(parts.train[0])]
    given(replace(source, card={"pretraining": {"torch.nn:Linear": seen}}))
    named = rf"nodes.one.model: .*linear.ckpt was trained on 1 test rows of synthetic \(row {seen[0]}\)"
    with pytest.raises(ConfigError, match=named):
        run(study(nodes=nodes))
    given(source)
    assert "unknown (not declared)" in provenance(run(study(nodes=nodes)))["audit"]["pre-trained"]["nodes.one.model"]
