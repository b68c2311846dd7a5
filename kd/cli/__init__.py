"""The `kd` command: verbs, what they print, and exit codes (0 done, 1 our fault, 2 the user's input).

Standard output is the result (`json=true` for machines); progress and errors go to standard error. Imports that
cost time stand inside the verbs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from kd.cli.advising import advise
from kd.cli.looking import data, list_parts, mask
from kd.cli.store import differing as differing
from kd.cli.store import show
from kd.cli.studies import ablate, check, compress, evaluate, report, run, tune
from kd.errors import ConfigError, KDError
from kd.registry import suggest

HELP = """\
kd: knowledge distillation when modalities are missing

  kd run CONFIG [key=value ...]      train the graph, evaluate every subset, compress, report
  kd check CONFIG [key=value ...]    name every fault of a config at once; run nothing
  kd ablate CONFIG [key=value ...]   train a grid of studies in stacks, into one table; --list prints the cells and
                                     what each would be stacked with, and runs nothing
  kd tune CONFIG to=FILE             train such a grid; write each method's best settings by validation, over=subsets or
                                     over=complete
  kd evaluate CONFIG [key=value ...] the same without compression; print every subset's score
  kd compress CONFIG [key=value ...] the same; print what each stage of compression costs and keeps
  kd compress FILE.onnx [to=FOLDER] [rows=FILE.npz] [key=value ...]
                                     quantise any float ONNX file into NAME-int8/, judged beside it: with rows (an array
                                     per input) scales are fixed from them, activations=auto | signed | unsigned and
                                     percentile=100; without, taken from each batch; embeddings=true
  kd report RUN [tables=FOLDER]      write the report of a finished run again; with tables=, every table of it as CSV
                                     (raw numbers), Markdown and LaTeX
  kd advise RUN                      say which method to use, with its evidence, or that nothing beats a simple one
  kd data list | describe NAME       data sets, or a config's: modalities, classes, gaps, licence;
                                     picture=FILE.png draws who has what
  kd data lock NAME to=FILE rows=N   set rows aside that no search meets; share=0.2 of the groups, seed=0
  kd mask show CONFIG [seed=0]       who sees what under the config's mask; html=FILE.html or picture=FILE.png draw it;
                                     `kd mask make CONFIG to=FILE` writes the mask as Parquet
  kd list KIND                       sources, mechanisms, encoders, fusions, stand-ins, handling, objectives,
                                     weightings, optimizers, schedules, augmentations, loggers, baselines,
                                     combinations, passes
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


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "run": run,
    "ablate": ablate,
    "tune": tune,
    "check": check,
    "evaluate": evaluate,
    "compress": compress,
    "report": report,
    "advise": advise,
    "data": data,
    "mask": mask,
    "list": list_parts,
    "show": show,
}
