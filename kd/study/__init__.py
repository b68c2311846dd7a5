"""Studies: from a config to a report, through the run store. `run(study)` is `kd run`."""

from kd.study.run import faults as faults
from kd.study.run import load as load
from kd.study.run import run as run
