"""Jobs one after another, or several at once in processes of their own, to the same numbers.

Processes share the run store and nothing else. What one has finished is read from there, so stopped work goes on.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import current_process, get_all_start_methods, get_context, parent_process
from multiprocessing.managers import SyncManager
from pathlib import Path
from queue import Empty
from typing import Any

from kd.errors import KDError
from kd.study.replicate import Listener

SECONDS_BETWEEN_LOOKS = 0.2
GUARD = "put what a script runs under `if __name__ == '__main__':`, or set jobs=1"
NEEDED = ("kd.study.replicate",)
"""Modules that every process needs; imported once, where processes can be forked from one that has them."""


@dataclass(frozen=True)
class Job:
    """A call that can be made in another process.

    Attributes:
        function: of the arguments and a listener; at the top of its module.
        arguments: that travel between processes.
        needs: keys of the jobs that must be done before.
        name: put before what it tells of its progress where several run at once.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: frozenset[str] = frozenset()
    name: str = ""


Done = Callable[[str, Any], None]
"""Hears of every job that ends, with its key and what it returned."""


def run_jobs(
    jobs: Mapping[str, Job], processes: int, listener: Listener, done: Done = lambda key, result: None
) -> dict[str, Any]:
    """Run every job, some at a time, and return key -> result in the jobs' order.

    Args:
        jobs: by key, each after those that it needs.
        processes: at most so many at a time; 1 runs them here.
        listener: hears of their progress.
        done: hears of each that ends.

    Raises:
        KDError: what the first job to fail raised, and the others are stopped; or several processes cannot start.
    """
    found: dict[str, Any] = {}
    if min(processes, len(jobs)) <= 1:
        for key, job in jobs.items():
            found[key] = job.function(*job.arguments, listener)
            done(key, found[key])
        return found
    with _pool(min(processes, len(jobs))) as (pool, heard):
        running: dict[Future[Any], str] = {}
        waiting = dict(jobs)
        while waiting or running:
            for key in [key for key, job in waiting.items() if job.needs <= set(found)]:
                job = waiting.pop(key)
                running[pool.submit(job.function, *job.arguments, _Relay(heard, job.name))] = key
            ended, _ = wait(running, timeout=SECONDS_BETWEEN_LOOKS, return_when=FIRST_COMPLETED)
            _pass_on(heard, listener)
            for future in ended:
                key = running.pop(future)
                found[key] = future.result()
                done(key, found[key])
    return {key: found[key] for key in jobs}


@contextmanager
def _pool(processes: int) -> Iterator[tuple[ProcessPoolExecutor, Any]]:
    """Give processes and the queue on which they tell of their progress; end them whatever happens."""
    _refuse_scripts_that_start_again()
    context: Any = _context()
    begin = partial(_begin, dict(os.environ))
    manager = SyncManager(ctx=context)
    try:
        manager.start(begin)
    except EOFError:
        raise KDError(f"jobs: a process ended as it began; {GUARD}") from None
    with manager:
        pool = ProcessPoolExecutor(processes, context, begin)
        try:
            yield pool, manager.Queue()
        except BaseException:
            _stop(pool)
            raise
        pool.shutdown()


def _refuse_scripts_that_start_again() -> None:
    """Refuse to start processes that could not import the script that asks for them, or would run it once more.

    They import it, because what it has registered has to be known to them as well.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is not None and not Path(file).exists():
        raise KDError(f"jobs: several processes import the script that starts them, and {file} is no file; set jobs=1")
    if getattr(current_process(), "_inheriting", False):
        sys.exit(f"jobs: this process was importing the script that started it, which asks for processes; {GUARD}")


class _Relay:
    """A listener that tells the process that draws."""

    def __init__(self, heard: Any, name: str) -> None:
        self.heard, self.name = heard, name

    def stage(self, text: str) -> None:
        self.heard.put(("stage", text))

    def tick(self, text: str, done: int, total: int) -> None:
        self.heard.put(("tick", f"{self.name}: {text}" if self.name else text, done, total))


def _pass_on(heard: Any, listener: Listener) -> None:
    """Tell the listener what the processes have told so far."""
    while True:
        try:
            what, *rest = heard.get_nowait()
        except Empty:
            return
        getattr(listener, what)(*rest)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the processes; what they have written stays."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _context() -> Any:
    """Return how processes start: forked from a small server without threads of its own, or anew.

    Torch and Lightning are imported once instead of once per process, and are shared in memory.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(NEEDED))
    return context


def _begin(environment: Mapping[str, str]) -> None:
    """Take over the environment of the process that asked, which may be younger than the server; end when it ends."""
    os.environ.clear()
    os.environ.update(environment)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # returns even where it was killed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
