"""Every exception `kd` raises for a reason a user can act on. The lowest layer: it imports nothing.

One sentence each: what was expected, what came, where, and what to do about it.
"""


class KDError(Exception):
    """A fault in what the user gave us; the command shows its text on one line and exits with 2."""


class ConfigError(KDError):
    """One or more faults in a configuration, all reported at once.

    Args:
        faults: one sentence per fault, each naming the field and the fix.
        source: the file the configuration came from.
    """

    def __init__(self, faults: list[str] | str, source: str = "") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        prefix = f"{source}: " if source else ""
        super().__init__("\n".join(prefix + fault for fault in self.faults))


class DataError(KDError):
    """Data that is missing, damaged or outside its declared range."""


class MaskError(KDError):
    """An availability mask that is impossible, empty, or drawn for other data."""


class GraphError(ConfigError):
    """A distillation graph that cannot be trained: a cycle, an unknown node, a modality nobody teaches."""


class LeakError(KDError):
    """Something fitted saw rows that it must never see."""


class RecordError(KDError):
    """A run record, checkpoint or package that is missing, damaged or of other origin."""


class StorageError(KDError):
    """The disk refused a write; nothing half-written was left behind."""
