"""The verb that says what to use, and the same at the end of others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kd.cli.arguments import arguments, refuse
from kd.cli.store import find
from kd.errors import RecordError


def advise(words: Sequence[str]) -> int:
    """Print what a finished run or ablation advises, with its evidence."""
    name, rest, as_json = arguments(words, "advise", "a run")
    for word in rest:
        refuse(word, "advise")
    from kd.report.advised import advice_document, advice_lines

    folder = find(name)
    if as_json:
        print(json.dumps(advice_document(folder)))
        return 0
    print("\n".join(advice_lines(folder)))
    return 0


def print_advice(folder: Path) -> None:
    """Print what a run has to advise, or what holds over an ablation's settings; nothing where that is nothing."""
    from kd.report.advised import advice_summary

    try:
        lines = advice_summary(folder)
    except RecordError:
        return
    print("\n".join(["", *lines, ""]))
