"""Records and content addresses: what changes an address, what does not, and writes that are whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kd.errors import RecordError, StorageError
from kd.record import RunRecord, digest, load_record, save_record, staged_folder, token_stream, write_atomic

CODE = '''"""Module."""


def loss(x):
    """Return it."""
    # why
    return x * 2
'''


def test_comments_docstrings_and_layout_change_no_address() -> None:
    plain = "def loss(x):\n    return (x\n            * 2)\n"
    assert token_stream(CODE.replace("why", "another reason").replace("Return it.", "Give it.")) == token_stream(CODE)
    assert token_stream(plain.replace("(", "").replace(")", "")) != token_stream(CODE)


def test_a_changed_expression_changes_the_address() -> None:
    assert token_stream(CODE.replace("* 2", "* 3")) != token_stream(CODE)


def test_a_string_that_decides_is_not_taken_for_a_docstring() -> None:
    assert token_stream('x = "a"\n') != token_stream('x = "b"\n')
    assert token_stream('f(\n    "a",\n)\n') != token_stream('f(\n    "b",\n)\n')


def test_changing_an_objective_retrains_students_and_no_teacher(small_study, setting_of, monkeypatch) -> None:
    import kd.record
    from kd.distill.fit import node_address

    study = small_study()
    setting = setting_of(study)
    parents = {"one": "1", "two": "2"}

    def addresses() -> dict[str, str]:
        return {name: digest(node_address(study, name, setting.fingerprints, parents)) for name in study.nodes}

    before = addresses()
    real = kd.record._room_digest
    monkeypatch.setattr(kd.record, "_room_digest", lambda room: "changed" if room == "objectives" else real(room))
    after = addresses()
    assert after["student"] != before["student"]
    assert {name: after[name] for name in ("one", "two")} == {name: before[name] for name in ("one", "two")}


def test_a_record_round_trips_and_names_a_changed_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "table.txt", "1")
    save_record(RunRecord(id="a", verb="run", name="n", config={"x": 1}, files={"table": "table.txt"}), tmp_path)
    assert load_record(tmp_path).config == {"x": 1}
    (tmp_path / "table.txt").write_text("2")
    with pytest.raises(RecordError, match=r"table\.txt"):
        load_record(tmp_path)


def test_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "result.json"
    write_atomic(target, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as refused:
        write_atomic(target, "new")
    assert "\n" not in str(refused.value)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_folder_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with staged_folder(tmp_path / "run") as stage:
            (stage / "half").write_text("x")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_process_has_finished_meanwhile_stays_as_it_is(tmp_path) -> None:
    from kd.record import staged_folder

    target = tmp_path / "run"
    with staged_folder(target) as late:
        (late / "record.json").write_text("late")
        with staged_folder(target) as early:
            (early / "record.json").write_text("early")
    assert (target / "record.json").read_text() == "early"
    with staged_folder(target) as stage:
        (target / "record.json").unlink()  # what is left without a record was never finished
        (target / "rest").write_text("")
        (stage / "record.json").write_text("again")
    assert [path.name for path in target.iterdir()] == ["record.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
