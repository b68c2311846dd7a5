"""Verbs that show what there is: data, masks, parts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kd.cli.arguments import arguments, refuse, settings
from kd.errors import ConfigError
from kd.registry import Entry, Registry, suggest

if TYPE_CHECKING:
    from kd.distill.setting import Setting

T = TypeVar("T", int, float)


def data(words: Sequence[str]) -> int:
    """List data sets, describe one, or set rows of one aside."""
    action, rest, as_json = arguments(words, "data", "list, describe or lock")
    from kd.data import SOURCES

    if action == "list":
        for word in rest:
            refuse(word, "data list")
        return _print_registry(SOURCES, as_json)
    if action == "lock" and rest:
        return _lock(rest[0], rest[1:])
    if action != "describe" or not rest:
        raise ConfigError("kd data: expected `kd data list`, `describe NAME|CONFIG.yaml` or `lock NAME|CONFIG.yaml`")
    from kd.report.describe import describe, lines, load
    from kd.report.gaps import draw

    pictures = [word.removeprefix("picture=") for word in rest[1:] if word.startswith("picture=")]
    changes = [word for word in rest[1:] if not word.startswith("picture=")]
    for word in changes:
        refuse(word, "data describe", "=" not in word)
    source, division = load(rest[0], changes)
    facts = describe(source, division)
    print(json.dumps(facts, default=str) if as_json else _printable("\n".join(lines(facts))))
    for path in pictures:
        draw(facts["gaps"], source.modalities, Path(path), title=f"{source.name}: {len(source):,} rows")
        print(path, file=sys.stderr if as_json else sys.stdout)
    return 0


def _lock(name: str, words: Sequence[str]) -> int:
    """Draw rows that no search may meet, and write them to a file."""
    from kd.data.locked import lock
    from kd.report.describe import load

    own = [word for word in words if word.startswith(("rows=", "share=", "to=", "seed="))]
    chosen = settings(own, {"rows": "", "share": "", "to": "", "seed": "0"}, "data lock")
    if not chosen["to"]:
        raise ConfigError("kd data lock: to: required, as in to=locked.json")
    rows = _number(chosen["rows"], int, "rows") if chosen["rows"] else None
    share = _number(chosen["share"], float, "share") if chosen["share"] else None
    source, _ = load(name, [word for word in words if word not in own])
    found = lock(source, rows=rows, share=share, seed=_number(chosen["seed"], int, "seed"))
    found.save(Path(chosen["to"]))
    print(f"{chosen['to']}: {len(found.rows)} of {len(source)} rows, {found.hash}")
    return 0


def _number(text: str, kind: Callable[[str], T], name: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"kd data lock: {name}: expected a number, got {text!r}") from None


def _printable(text: str) -> str:
    """Return the text in signs that standard output can show."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(str.maketrans("●○█", "x.#")).encode(encoding, "replace").decode(encoding)
    return text


def mask(words: Sequence[str]) -> int:
    """Show who sees what under a config's mask, or write it to a file."""
    action, rest, as_json = arguments(words, "mask", "show")
    if action not in ("show", "make") or not rest:
        raise ConfigError("kd mask: expected `kd mask show CONFIG [seed=0]` or `kd mask make CONFIG to=FILE [seed=0]`")
    from kd.parsing import load
    from kd.study import load as load_data
    from kd.study import setting_for

    known = {"seed": "0", "to": ""} if action == "make" else {"seed": "0", "html": "", "picture": ""}
    own = [word for word in rest[1:] if word.partition("=")[0] in ("seed", "to", "html", "picture")]
    chosen = settings(own, known, f"mask {action}")
    if not chosen["seed"].isdigit():
        raise ConfigError(f"kd mask: seed: expected a whole number, got {chosen['seed']!r}")
    if action == "make" and not chosen["to"]:
        raise ConfigError("kd mask make: to: required, as in to=mask.parquet")
    study = load(rest[0], [word for word in rest[1:] if word not in own])
    setting = setting_for(study, load_data(study), int(chosen["seed"]))
    if action == "make":
        setting.mask.save(Path(chosen["to"]))
        print(chosen["to"])
        return 0
    return _show_mask(setting, chosen, as_json)


def _show_mask(setting: Setting, chosen: Mapping[str, str], as_json: bool) -> int:
    from kd.report.gaps import draw
    from kd.report.mask import describe_mask, lines, write_mask_page

    facts = describe_mask(setting.mask, setting.source, setting.split)
    print(json.dumps(facts) if as_json else _printable("\n".join(lines(facts))))
    written = []
    if chosen["picture"]:
        title = f"{facts['mechanism']}: {facts['rows']:,} training rows"
        written.append(draw(facts["patterns"], facts["modalities"], Path(chosen["picture"]), title=title))
    if chosen["html"]:
        written.append(write_mask_page(facts, Path(chosen["html"])))
    for path in written:
        print(path, file=sys.stderr if as_json else sys.stdout)
    return 0


def _registries() -> dict[str, Registry]:
    from kd.baselines import BASELINES
    from kd.compress import PASSES
    from kd.data import MECHANISMS, SOURCES
    from kd.distill import AUGMENTATIONS, LOGGERS, OPTIMIZERS, SCHEDULES
    from kd.evaluate import COMBINATIONS
    from kd.models import ENCODERS, FUSIONS, STAND_INS
    from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS

    return {
        "sources": SOURCES,
        "mechanisms": MECHANISMS,
        "encoders": ENCODERS,
        "fusions": FUSIONS,
        "stand-ins": STAND_INS,
        "objectives": OBJECTIVES,
        "weightings": TEACHER_WEIGHTS,
        "optimizers": OPTIMIZERS,
        "schedules": SCHEDULES,
        "augmentations": AUGMENTATIONS,
        "loggers": LOGGERS,
        "baselines": BASELINES,
        "combinations": COMBINATIONS,
        "passes": PASSES,
        "handling": _handling({"model.absent": STAND_INS, "model.fusion": FUSIONS, "ensembles": COMBINATIONS}),
    }


def _handling(tables: Mapping[str, Registry]) -> Registry:
    """Return all that a config can do about an absent modality, each by the field that says so."""
    fields = {
        "rows: complete": Entry("", "rows that lack nothing, and no others", "complete-case analysis"),
        "drop": Entry("", "more hidden at random in training", "Neverova et al. 2016, 1501.00102"),
        "drop_warmup": Entry("", "the same, growing from 0 over the first steps", "ours, a schedule of it"),
        "recombine": Entry("", "rows of a class give each other modalities", "after co-training, Blum & Mitchell 1998"),
        "init": Entry("", "branches start from networks of one modality each", "a usual baseline, e.g. of 2305.01233"),
    }
    parts = {f"{field}: {name}": entry for field, table in tables.items() for name, entry in table.items()}
    return Registry("handling", fields | parts)


def list_parts(words: Sequence[str]) -> int:
    """Print a registry, a line each: name first, one sentence, source."""
    tables = _registries()
    kind, rest, as_json = arguments(words, "list", "a kind: " + ", ".join(tables))
    for word in rest:
        refuse(word, "list")
    if kind not in tables:
        raise ConfigError(f"kd list: unknown kind {kind!r}; {suggest(kind, tables)}")
    return _print_registry(tables[kind], as_json)


def _print_registry(table: Registry, as_json: bool) -> int:
    if as_json:
        print(json.dumps({name: {"sentence": e.sentence, "source": e.source} for name, e in table.items()}))
        return 0
    for name, entry in table.items():
        print(f"{name:{max(16, *map(len, table))}} {entry.sentence} ({entry.source})")
    return 0
