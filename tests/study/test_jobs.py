"""Folds, baselines and several processes: the same study, the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kd.config import deciding
from kd.errors import ConfigError, KDError
from kd.record import load_record, run_folder
from kd.study import run
from kd.study.jobs import Job, run_jobs
from kd.study.replicate import Silent, places


def told(name: str, listener: Any) -> str:
    return os.environ[name]


def test_processes_know_the_environment_of_the_moment(monkeypatch) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("KD_TOLD", value)
        jobs = {key: Job(told, ("KD_TOLD",)) for key in "ab"}
        assert run_jobs(jobs, 2, None) == {"a": value, "b": value}


def stay(folder: str, listener: Any) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


KILLED = """
from tests.study.test_jobs import Job, run_jobs, stay
if __name__ == "__main__":
    run_jobs({key: Job(stay, (FOLDER,)) for key in "ab"}, 2, None)
"""


def test_processes_end_with_the_one_that_started_them_even_where_it_was_killed(tmp_path) -> None:
    script, pids = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(KILLED.replace("FOLDER", repr(str(pids))))
    pids.mkdir()
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([".", *sys.path])}
    asking = subprocess.Popen([sys.executable, str(script)], env=paths, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(pids.iterdir())) == 2 or asking.poll() is not None)
    asking.send_signal(signal.SIGKILL)
    asking.wait()
    workers = [int(path.name) for path in pids.iterdir()]
    assert len(workers) == 2
    wait_until(lambda: not any(runs(pid) for pid in workers))


def wait_until(so: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not so():
        assert time.monotonic() < end
        time.sleep(0.05)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")  # ended, and nobody has asked how: a container without an init
    return not (status.exists() and "zombie" in status.read_text())


def results(folder) -> str:
    return str(load_record(folder).metrics["results"])


def test_two_processes_give_the_numbers_of_one(small_study, tmp_path, monkeypatch) -> None:
    alone = results(run(small_study()))
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "other"))
    assert results(run(small_study(jobs=2))) == alone


def test_a_fault_in_a_process_is_told_as_if_there_were_none(small_study, monkeypatch) -> None:
    # A learning rate that makes the loss infinite is found in training only.
    study = small_study(jobs=2)
    for node in study.nodes.values():
        node.optimizer = {"name": "sgd", "lr": 1e30}
    with pytest.raises(ConfigError, match=r"lower optimizer\.lr"):
        run(study)


def test_a_script_that_is_no_file_is_refused_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {str(n): Job(told, (str(n),)) for n in range(2)}
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)
    with pytest.raises(KDError, match="<stdin> is no file; set jobs=1"):
        run_jobs(jobs, 2, Silent())


@pytest.mark.slow
def test_a_script_that_would_run_itself_again_says_how_to_stop_that(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from kd.errors import KDError\n"
        "from kd.study.jobs import Job, run_jobs\n"
        "from kd.study.replicate import Silent\n"
        "try:\n"
        "    run_jobs({name: Job(print, (name,)) for name in 'ab'}, 2, Silent())\n"
        "except KDError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("jobs: a process ended as it began; put what a script runs under `if __name__")
    assert "Traceback" not in done.stderr


def test_the_number_of_processes_decides_no_address(small_study) -> None:
    assert deciding(small_study(jobs=2)) == deciding(small_study())


def test_folds_answer_every_row_with_a_network_that_did_not_learn_from_it(small_study) -> None:
    study = small_study(split={"folds": 3}, seeds=2, baselines={"linear": {"sees": ["m0", "m1"]}})
    assert places(study) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    folder = run(study)
    subsets = pd.read_parquet(folder / "subsets.parquet")
    assert set(subsets.n) == {400}
    assert set(subsets[subsets.node == "linear"].subset) == {"m0", "m1", "m0+m1"}
    contrasts = pd.read_parquet(folder / "contrasts.parquet")
    assert len(contrasts) == 1
    assert contrasts.low.iloc[0] < contrasts.estimate.iloc[0] < contrasts.high.iloc[0]
    assert run_folder("baseline", next(v for k, v in load_record(folder).parents.items() if "linear" in k)).is_dir()
    summary = pd.read_parquet(folder / "summary.parquet")
    assert set(summary[summary.node == "linear"].what) == {"complete", "mean", "worst"}


def test_a_baseline_is_fitted_once(small_study) -> None:
    study = small_study(seeds=1, baselines={"linear": {"sees": ["m0"]}})
    before = load_record(run(study))
    record = run_folder("baseline", before.parents["linear seed 0"]) / "record.json"
    stamp = record.stat().st_mtime_ns
    assert load_record(run(study)).id == before.id
    assert record.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baselines": {"one": {"sees": ["m0"]}}}, r"baselines\.one: a node has this name"),
        ({"baselines": {"linear": {"sees": ["nothing"]}}}, r"baselines\.linear\.sees: unknown modality"),
        ({"baselines": {"linear": {"sees": ["m0"], "model": {"name": "logistics"}}}}, "did you mean 'logistic'"),
        (
            {"baselines": {"b": {"sees": ["m0"], "model": {"name": "boosting", "bins": 1}}}},
            r"baselines\.b\.model\.bins: ex",
        ),
        ({"split": {"folds": 1}}, r"split: .*expected at least 2"),
        ({"jobs": 0}, "jobs: expected at least 1"),
    ],
)
def test_faults_of_folds_and_baselines_are_told_before_training(small_study, changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        run(small_study(**changes))
