"""The replicates of a study one after another, or several at once in processes of their own, to the same numbers.

Processes share the run store and nothing else. What one has finished is read from there, so a stopped run goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from queue import Empty
from typing import Any

from kd.config import Study
from kd.data.source import Source
from kd.study.check import load
from kd.study.replicate import Listener, Replicate, name_of, places, run_replicate

SECONDS_BETWEEN_LOOKS = 0.2


def run_replicates(study: Study, source: Source, listener: Listener) -> list[Replicate]:
    """Run every replicate, `study.jobs` at a time, and return them in order.

    Raises:
        KDError: what the first replicate to fail raised; the others are stopped, and go on from there next time.
    """
    every = places(study)
    if min(study.jobs, len(every)) == 1:
        return [run_replicate(study, source, seed, fold, listener) for seed, fold in every]
    context = get_context("spawn")
    with context.Manager() as manager:
        heard = manager.Queue()
        pool = ProcessPoolExecutor(study.jobs, context, _watch_parent, (os.getpid(),))
        try:
            futures = [pool.submit(_run_one, study, seed, fold, heard) for seed, fold in every]
            _listen(futures, heard, listener)
            return [future.result() for future in futures]
        finally:
            _stop(pool)


def _run_one(study: Study, seed: int, fold: int, heard: Any) -> Replicate:
    return run_replicate(study, load(study), seed, fold, _Relay(heard, name_of(study, seed, fold)))


class _Relay:
    """A listener that tells the process that draws."""

    def __init__(self, heard: Any, name: str) -> None:
        self.heard, self.name = heard, name

    def stage(self, text: str) -> None:
        self.heard.put(("stage", text))

    def tick(self, text: str, done: int, total: int) -> None:
        self.heard.put(("tick", f"{self.name}: {text}", done, total))


def _listen(futures: Sequence[Future[Replicate]], heard: Any, listener: Listener) -> None:
    """Pass on what the processes tell until all are done or one has failed."""
    while not all(future.done() for future in futures):
        if any(future.done() and future.exception() for future in futures):
            return
        try:
            what, *rest = heard.get(timeout=SECONDS_BETWEEN_LOOKS)
        except Empty:
            continue
        getattr(listener, what)(*rest)


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the processes; what they have written stays."""
    workers = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.terminate()


def _watch_parent(parent: int) -> None:
    """End this process soon after the one that started it, even where that one was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
