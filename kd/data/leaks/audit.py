"""The ledger of the leak audit: which rows each fitted object saw.

What in the data themselves gives the answer away is looked for in `duplicates` and `telling` beside this file, masks in
`declared`, pre-trained encoders in `pretraining`, rows that are set aside in `kd.data.locked`.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from kd.errors import LeakError
from kd.record import digest


class Audit:
    """A ledger of the row ids behind every fitted object: scaler, teacher, student, choice of a checkpoint.

    >>> audit = Audit()
    >>> audit.saw("scaler", [0, 1])
    >>> audit.check(test_ids=[2, 3])
    """

    def __init__(self) -> None:
        self._seen: dict[str, set[int]] = {}

    def saw(self, name: str, ids: Tensor | Iterable[int]) -> None:
        """Record that the object `name` was fitted on, or chosen by, these rows; repeated calls add up."""
        self._seen.setdefault(name, set()).update(_ints(ids))

    def check(self, test_ids: Tensor | Iterable[int], locked_ids: Tensor | Iterable[int] = ()) -> None:
        """Do nothing when no recorded object saw a test or locked row.

        Raises:
            LeakError: naming the object, how many such rows it saw, and the first ids.
        """
        for kind, forbidden in (("test", _ints(test_ids)), ("locked", _ints(locked_ids))):
            for name, seen in self._seen.items():
                leaked = sorted(seen & forbidden)
                if leaked:
                    raise LeakError(
                        f"{name}: saw {len(leaked)} {kind} rows, the first {leaked[:5]}; fit it on other rows, "
                        "the result is refused"
                    )

    def evidence(self) -> dict[str, str]:
        """Return object -> sha256 of the sorted ids it saw."""
        return {name: digest(sorted(ids)) for name, ids in self._seen.items()}

    def told(self) -> dict[str, str]:
        """Return object -> how many rows it saw, and the beginning of their hash, for people."""
        return {name: f"{len(self._seen[name])} rows, {found[:12]}" for name, found in self.evidence().items()}


def _ints(ids: Tensor | Iterable[int]) -> set[int]:
    return set(ids.tolist()) if isinstance(ids, Tensor) else {int(i) for i in ids}
