"""Studies: from a config to a report, through the run store. `run(study)` is `kd run`."""

from kd.study.check import faults as faults
from kd.study.check import load as load
from kd.study.replicate import setting_for as setting_for
from kd.study.run import run as run
