"""Every exception `kd` raises for a reason a user can act on. The lowest layer: it imports nothing.

One sentence each: what was expected, what came, where, and what to do about it.
"""


class KDError(Exception):
    """A fault in what the user gave us; the command shows its text on one line and exits with 2."""


class _Several(KDError):
    """Faults that are told at once, a line each.

    Args:
        faults: one sentence per fault, each naming the place and the fix.
        source: the file that all of them are in, put before each.
    """

    def __init__(self, faults: list[str] | str, source: str = "") -> None:
        self.faults = [_line(fault) for fault in ([faults] if isinstance(faults, str) else faults)]
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(prefix + fault for fault in self.faults))


def _line(fault: str) -> str:
    """Return a fault as one line, whatever names and values it quotes."""
    # A process that reads ahead hands its error on as text, traceback and all; the fault is the last line.
    if fault.startswith("Caught ") and "Traceback" in fault:
        fault = fault.rstrip().rpartition("\n")[2].partition(": ")[2]
    return " ".join(fault.splitlines())


class ConfigError(_Several):
    """One or more faults in a configuration: the field, what was expected, the fix."""


class DataError(_Several):
    """Data that is missing, damaged or outside its declared range: the file, the row, the fix."""


class MaskError(KDError):
    """An availability mask that is impossible, empty, or drawn for other data."""


class GraphError(ConfigError):
    """A distillation graph that cannot be trained: a cycle, an unknown node, a modality nobody teaches."""


OF_WHAT_WAS_ASKED = (ConfigError, DataError, MaskError)
"""What one training of many may fail by while the others go on: its own settings and data; no store, no leak."""


class LeakError(KDError):
    """Something fitted saw rows that it must never see."""


class RecordError(KDError):
    """A run record, checkpoint or package that is missing, damaged or of other origin."""


class StorageError(KDError):
    """The disk refused a write; nothing half-written was left behind."""
