"""Two-way tables of seeds x rows, both random and crossed: mean squares, components, variance of the grand mean.

All seeds of a study are tested on the same rows, so a difference is `d_sr = mu + a_s + b_r + e_sr`: an effect of the
training, one of the row, and a residual. New seeds and new rows are both drawn anew (estimand ii, "new rows").
Sources: Satterthwaite 1946, doi:10.2307/3002019; Searle, Casella & McCulloch 1992, "Variance Components", chapter 4;
Hillis 2007, doi:10.1002/sim.2532, for the same design in radiology (readers x cases) and its cut at 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Crossed:
    """Mean squares of one two-way table, or of many at once.

    Attributes:
        seeds: S.
        rows: R, or the number of groups.
        mean: grand mean; like the mean squares a number, or [...] for tables [..., S, R].
        by_seed: mean square of seeds, S - 1 degrees of freedom; its expectation is `var_e + R var_a`.
        by_row: mean square of rows, R - 1; its expectation is `var_e + S var_b`.
        residual: (S - 1)(R - 1); its expectation is `var_e`.
    """

    seeds: int
    rows: int
    mean: Any
    by_seed: Any
    by_row: Any
    residual: Any

    @classmethod
    def of(cls, difference: Array) -> Crossed:
        """Return the mean squares of differences [..., S, R].

        >>> table = Crossed.of(np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]))
        >>> float(table.by_seed), float(table.by_row), float(table.residual)
        (1.5, 2.0, 0.0)
        """
        seeds, rows = difference.shape[-2:]
        mean = difference.mean(axis=(-2, -1))
        of_seed = difference.mean(axis=-1, keepdims=True) - mean[..., None, None]
        of_row = difference.mean(axis=-2, keepdims=True) - mean[..., None, None]
        left = difference - mean[..., None, None] - of_seed - of_row
        by_seed = rows * (of_seed**2).sum(axis=(-2, -1)) / (seeds - 1)
        by_row = seeds * (of_row**2).sum(axis=(-2, -1)) / (rows - 1)
        residual = (left**2).sum(axis=(-2, -1)) / ((seeds - 1) * (rows - 1))
        return cls(seeds, rows, mean, by_seed, by_row, residual)

    @property
    def variance(self) -> Any:
        """Variance of the grand mean, `(MS_seed + MS_row - MS_residual) / (S R)`.

        It counts the residual once. A component whose estimate is negative counts as 0, that is `max(MS, MS_residual)`
        stands for either mean square, so the variance is never below what one component alone demands.
        """
        seed, row = np.maximum(self.by_seed, self.residual), np.maximum(self.by_row, self.residual)
        return (seed + row - self.residual) / (self.seeds * self.rows)

    @property
    def degrees(self) -> Any:
        """Degrees of freedom of the variance after Satterthwaite, `(sum c MS)^2 / sum((c MS)^2 / df)`.

        At least those of the smaller factor, below which the approximation may fall because one term is negative.
        """
        total = self.variance * self.seeds * self.rows
        least = min(self.seeds, self.rows) - 1
        uncertain = (
            self.by_seed**2 / (self.seeds - 1)
            + self.by_row**2 / (self.rows - 1)
            + self.residual**2 / ((self.seeds - 1) * (self.rows - 1))
        )
        return np.maximum(total**2 / np.where(uncertain > 0, uncertain, 1.0), least)

    def with_seeds(self, seeds: int) -> Crossed:
        """Return the mean squares to expect of so many seeds on the same rows, the components being those found."""
        var_seed = max(self.by_seed - self.residual, 0.0) / self.rows
        var_row = max(self.by_row - self.residual, 0.0) / self.seeds
        by_seed, by_row = self.residual + self.rows * var_seed, self.residual + seeds * var_row
        return Crossed(seeds, self.rows, self.mean, by_seed, by_row, self.residual)


def by_group(difference: Array, group: NDArray[Any] | None) -> Array:
    """Return differences per seed and group whose means over groups are those over rows, [..., S, G].

    Rows of one group (a patient, a writer) are no independent witnesses, so the group is the unit. The mean over rows
    is a ratio of sums over groups, whose sizes differ; its linearisation (Cochran 1977, "Sampling Techniques", 2.11) is

        u_sg = d_s + (G / R) sum_{r in g} (d_sr - d_s),        d_s the seed's mean over rows.

    Args:
        difference: [..., S, R].
        group: [R]; None, or every row its own group, changes nothing.

    >>> by_group(np.array([[1.0, 1.0, 4.0]]), np.array([7, 7, 9]))
    array([[0.66666667, 3.33333333]])
    """
    if group is None:
        return difference
    _, member = np.unique(group, return_inverse=True)
    groups, rows = int(member.max()) + 1, difference.shape[-1]
    mean = difference.mean(axis=-1, keepdims=True)
    order = np.argsort(member, kind="stable")
    starts = np.searchsorted(member[order], np.arange(groups))
    sums = np.add.reduceat((difference - mean)[..., order], starts, axis=-1)
    found: Array = mean + groups / rows * sums
    return found
