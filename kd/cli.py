"""The `kd` command: verbs, what they print, and exit codes (0 done, 1 our fault, 2 the user's input).

Standard output is the result (`json=true` for machines); progress and errors go to standard error. Imports that
cost time stand inside the verbs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd.errors import ConfigError, KDError
from kd.registry import Registry, suggest

if TYPE_CHECKING:
    from kd.config import Study

HELP = """\
kd: knowledge distillation when modalities are missing

  kd run CONFIG [key=value ...]      train the graph, evaluate every subset, compress, report
  kd check CONFIG [key=value ...]    name every fault of a config at once; run nothing
  kd evaluate CONFIG [key=value ...] the same without compression; print every subset's score
  kd compress CONFIG [key=value ...] the same; print what each stage of compression costs and keeps
  kd report RUN                      write the report of a finished run again
  kd data list | describe NAME       data sets, or a config's: modalities, classes, gaps, licence;
                                     picture=FILE.png draws who has what
  kd mask show CONFIG [seed=0]       who sees what under the config's mask; `kd mask make CONFIG to=FILE`
                                     writes it as Parquet
  kd list KIND                       sources, mechanisms, encoders, fusions, objectives,
                                     optimizers, schedules, augmentations, loggers, baselines, passes
  kd show RUN [why=OTHER]            a run's record; with why=, which ingredient differs

  key=value sets any field of the config: seeds=20, edges.fou.weight=2; json=true prints JSON.
  Runs are kept in $KD_RUNS (default ./runs); shipped data are found beside the code or under $KD_HOME.
  Exit status: 0 done, 1 our fault, 2 your input.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        from kd import __version__

        print(f"kd {__version__}")
        return 0
    verb, *rest = words
    if {"-h", "--help"} & set(rest):
        print(HELP, end="")
        return 0
    try:
        if verb not in VERBS:
            raise ConfigError(f"kd {verb}: unknown verb; {suggest(verb, VERBS)}")
        return VERBS[verb](rest)
    except KDError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _arguments(words: Sequence[str], verb: str, what: str) -> tuple[str, list[str], bool]:
    parser = argparse.ArgumentParser(prog=f"kd {verb}", add_help=False, exit_on_error=False)
    parser.add_argument("name", nargs="?")
    parser.add_argument("overrides", nargs="*")
    try:
        parsed, unknown = parser.parse_known_args(list(words))
    except argparse.ArgumentError as error:
        raise ConfigError(f"kd {verb}: {error}") from None
    if unknown:
        raise ConfigError(f"kd {verb}: unknown option {unknown[0]!r}; settings are written key=value, e.g. seeds=20")
    if parsed.name is None or "=" in parsed.name:
        raise ConfigError(f"kd {verb}: expected {what}; see kd --help")
    as_json = "json=true" in parsed.overrides
    return parsed.name, [word for word in parsed.overrides if not word.startswith("json=")], as_json


def _refuse(word: str, verb: str, wrong: bool = True) -> None:
    if wrong:
        raise ConfigError(f"kd {verb}: {word!r} is not a setting here; remove it")


def _settings(words: Sequence[str], known: Mapping[str, str], verb: str) -> dict[str, str]:
    found = dict(known)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise ConfigError(f"kd {verb}: {word!r} is not a setting; {suggest(key, [f'{name}=' for name in known])}")
        found[key] = value
    return found


def _study(words: Sequence[str], verb: str) -> tuple[Study, str, bool]:
    from kd.config import load

    path, overrides, as_json = _arguments(words, verb, "a config")
    return load(path, overrides), path, as_json


def check(words: Sequence[str]) -> int:
    """Name every fault of a config."""
    study, path, as_json = _study(words, "check")
    from kd.study import faults

    found = faults(study)
    if as_json:
        print(json.dumps({"config": path, "faults": found}))
    for fault in found if not as_json else []:
        print(f"{path}: {fault}", file=sys.stderr)
    if not found and not as_json:
        counts = {"nodes": len(study.nodes), "seeds": study.seeds, "folds": study.split.folds or 1}
        shown = " x ".join(f"{count} {what}" for what, count in counts.items() if what != "folds" or count > 1)
        print(f"{path}: no fault found; {shown} = {math.prod(counts.values())} trainings")
    return 2 if found else 0


def run(words: Sequence[str]) -> int:
    """Run a study and name its report."""
    study, path, as_json = _study(words, "run")
    return _run_and_print(study, path, as_json, _print_summary)


def evaluate(words: Sequence[str]) -> int:
    """Run a study without its compression and print every subset's score."""
    from dataclasses import replace

    study, path, as_json = _study(words, "evaluate")
    return _run_and_print(replace(study, compress=None), path, as_json, _print_subsets)


def compress(words: Sequence[str]) -> int:
    """Run a study and print what each stage of compression costs and keeps."""
    study, path, as_json = _study(words, "compress")
    if study.compress is None:
        raise ConfigError(f"{path}: compress: required here, as in configs/demo.yaml: a student and its passes")
    return _run_and_print(study, path, as_json, _print_stages)


def _run_and_print(study: Study, path: str, as_json: bool, show: Callable[[Path], None]) -> int:
    from kd.progress import Screen
    from kd.study import run as run_study

    with Screen() as screen:
        folder = run_study(study, source_file=path, listener=screen)
    if as_json:
        print((folder / "record.json").read_text(), end="")
        return 0
    show(folder)
    print(f"report: {folder / 'report.html'}")
    return 0


def _print_subsets(folder: Path) -> None:
    from kd.report.evidence import load_evidence
    from kd.report.tables import markdown, subset_grid

    found = load_evidence(folder)
    print(markdown(subset_grid(found.subsets, found.metric)))


def _print_stages(folder: Path) -> None:
    from kd.report.evidence import load_evidence
    from kd.report.tables import markdown, stage_table

    print(markdown(stage_table(load_evidence(folder).stages)))
    _print_summary(folder)


def _print_summary(folder: Path) -> None:
    import pandas as pd

    summary = pd.read_parquet(folder / "summary.parquet")
    print(
        f"{'node':24} {'stage':8} {'on':9} {summary.metric.iloc[0]:>9}  95% interval over {summary.seeds.max()} seeds"
    )
    for row in summary.itertuples():
        print(f"{row.node:24} {row.stage:8} {row.what:9} {row.mean:9.4f}  [{row.low:.4f}, {row.high:.4f}]")


def report(words: Sequence[str]) -> int:
    """Write the report of a finished run again."""
    name, rest, _ = _arguments(words, "report", "a run")
    for word in rest:
        _refuse(word, "report")
    from kd.report.page import write_report

    print(f"report: {write_report(_find(name))}")
    return 0


def data(words: Sequence[str]) -> int:
    """List data sets, or describe one."""
    action, rest, as_json = _arguments(words, "data", "list or describe")
    from kd.data import SOURCES

    if action == "list":
        for word in rest:
            _refuse(word, "data list")
        return _print_registry(SOURCES, as_json)
    if action != "describe" or not rest:
        raise ConfigError("kd data: expected `kd data list` or `kd data describe NAME|CONFIG.yaml`")
    from kd.report.describe import describe, lines, load
    from kd.report.gaps import draw

    pictures = [word.removeprefix("picture=") for word in rest[1:] if word.startswith("picture=")]
    settings = [word for word in rest[1:] if not word.startswith("picture=")]
    for word in settings:
        _refuse(word, "data describe", "=" not in word)
    source, division = load(rest[0], settings)
    facts = describe(source, division)
    print(json.dumps(facts, default=str) if as_json else _printable("\n".join(lines(facts))))
    for path in pictures:
        draw(facts["gaps"], source.modalities, Path(path), title=f"{source.name}: {len(source):,} rows")
        print(path, file=sys.stderr if as_json else sys.stdout)
    return 0


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
    action, rest, as_json = _arguments(words, "mask", "show")
    if action not in ("show", "make") or not rest:
        raise ConfigError("kd mask: expected `kd mask show CONFIG [seed=0]` or `kd mask make CONFIG to=FILE [seed=0]`")
    from kd.config import load
    from kd.report.gaps import patterns
    from kd.study import load as load_data
    from kd.study import setting_for

    settings = [word for word in rest[1:] if word.startswith(("seed=", "to="))]
    chosen = _settings(settings, {"seed": "0", "to": ""}, "mask")
    if not chosen["seed"].isdigit():
        raise ConfigError(f"kd mask: seed: expected a whole number, got {chosen['seed']!r}")
    seed = int(chosen["seed"])
    if action == "make" and not chosen["to"]:
        raise ConfigError("kd mask make: to: required, as in to=mask.parquet")
    study = load(rest[0], [word for word in rest[1:] if word not in settings])
    source = load_data(study)
    setting = setting_for(study, source, seed)
    if action == "make":
        setting.mask.save(Path(chosen["to"]))
        print(chosen["to"])
        return 0
    available = setting.available[setting.split.train]
    found = patterns(available, source.modalities)
    counts = {"+".join(pattern["modalities"]) or "nothing": pattern["rows"] for pattern in found}
    if as_json:
        print(json.dumps({"fingerprint": setting.mask.fingerprint, "patterns": counts}))
        return 0
    for pattern, count in counts.items():
        print(f"{pattern:32} {count:6}  {'#' * round(50 * count / len(available))}")
    return 0


def _registries() -> dict[str, Registry]:
    from kd.baselines import BASELINES
    from kd.compress import PASSES
    from kd.data import MECHANISMS, SOURCES
    from kd.distill import AUGMENTATIONS, LOGGERS, OPTIMIZERS, SCHEDULES
    from kd.models import ENCODERS, FUSIONS
    from kd.objectives import OBJECTIVES

    return {
        "sources": SOURCES,
        "mechanisms": MECHANISMS,
        "encoders": ENCODERS,
        "fusions": FUSIONS,
        "objectives": OBJECTIVES,
        "optimizers": OPTIMIZERS,
        "schedules": SCHEDULES,
        "augmentations": AUGMENTATIONS,
        "loggers": LOGGERS,
        "baselines": BASELINES,
        "passes": PASSES,
    }


def list_parts(words: Sequence[str]) -> int:
    """Print a registry, a line each: name first, one sentence, source."""
    tables = _registries()
    kind, rest, as_json = _arguments(words, "list", "a kind: " + ", ".join(tables))
    for word in rest:
        _refuse(word, "list")
    if kind not in tables:
        raise ConfigError(f"kd list: unknown kind {kind!r}; {suggest(kind, tables)}")
    return _print_registry(tables[kind], as_json)


def _print_registry(table: Registry, as_json: bool) -> int:
    if as_json:
        print(json.dumps({name: {"sentence": e.sentence, "source": e.source} for name, e in table.items()}))
        return 0
    for name, entry in table.items():
        print(f"{name:16} {entry.sentence} ({entry.source})")
    return 0


def show(words: Sequence[str]) -> int:
    """Print a run's record, or which ingredient of its address differs from another's."""
    name, rest, as_json = _arguments(words, "show", "a run")
    from dataclasses import asdict

    from kd.record import load_record

    other = _settings(rest, {"why": ""}, "show")["why"]
    record = load_record(_find(name))
    if not other:
        print(json.dumps(asdict(record), indent=None if as_json else 1, sort_keys=True))
        return 0
    differences = differing(record.config, load_record(_find(other)).config)
    if as_json:
        print(json.dumps(differences))
        return 0
    for field, (one, two) in differences.items():
        print(f"{field}: {one!r} there: {two!r}")
    if not differences:
        print("the same ingredients")
    return 0


def differing(one: Any, two: Any, where: str = "") -> dict[str, tuple[Any, Any]]:
    """Return dotted field -> both values, for every leaf of two addresses that differs."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted({*one, *two}):
            found |= differing(one.get(key), two.get(key), f"{where}.{key}" if where else str(key))
        return found
    return {} if one == two else {where: (one, two)}


def _find(name: str) -> Path:
    """Return the folder of a run named by its path or by the start of its id."""
    from glob import escape

    from kd.errors import RecordError
    from kd.record import runs_root

    if name and (Path(name) / "record.json").exists():
        return Path(name)
    matches = sorted(path.parent for path in runs_root().glob(f"*/{escape(name)}*/record.json") if name)
    if len(matches) != 1:
        found = "no run" if not matches else f"{len(matches)} runs"
        raise RecordError(f"{name}: {found} of this name in {runs_root()}; give a folder or more of the id")
    return matches[0]


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": run,
    "check": check,
    "evaluate": evaluate,
    "compress": compress,
    "report": report,
    "data": data,
    "mask": mask,
    "list": list_parts,
    "show": show,
}
