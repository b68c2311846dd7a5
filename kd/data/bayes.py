"""The Bayes rule on what a row shows *and* on what its mask hides, for synthetic data whose mask process is known.

    P(y | x_S, a)  proportional to  P(y) p(x_S | y) P(a | y, x_S),     a_m = 1 where the mask hides modality m

- complete, mcar, pattern, severe: a is drawn without a look at the row, so the last factor is constant in y.
- mar: it is sigmoid(law(x_driver)), the driver is always in S, so it is constant in y (Rubin 1976,
  doi:10.1093/biomet/63.3.581: ignorable).
- mnar given the label: P(a | y) = prod_m h_m(y)^{a_m} (1 - h_m(y))^{1 - a_m}, h_m the law of modality m.
- mnar given the value: a shown modality's factor, 1 - h_m(x_m), is constant in y. A hidden one's is the mean of h_m
  over what it hides. With x_m = Q_m [u; v_m] the logit is linear, c_m + g_m u + k_m v_m, and v_m ~ N(nu_{m,y}, I):

      P(a_m = 1 | y, u) = E_z sigmoid(c_m + g_m u + k_m nu_{m,y} + |k_m| z),   z ~ N(0, 1),

  by the trapezoid rule, which converges geometrically here (Trefethen & Weideman 2014, doi:10.1137/130932132). Given
  y and u hidden modalities are independent. Where one is shown, u is known; where none is, the product is averaged over
  u ~ N(mu_y, I) as well, by scrambled Sobol points.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kd.data.mask import Mask
from kd.data.mechanisms.dependent import laws
from kd.data.mechanisms.laws import LABEL, Law, PerClass, Principal
from kd.data.source import Source
from kd.data.splits import Split
from kd.data.synthetic import world_of
from kd.data.world import World
from kd.errors import MaskError
from kd.types import conceal

IGNORABLE = ("complete", "mcar", "pattern", "severe", "mar")
"""Mechanisms whose mask says nothing of the label beyond what the row shows."""
GRID = torch.linspace(-8, 8, 97, dtype=torch.float64)
"""Of the integral over a hidden modality's own noise; 1e-6 is reached for |strength k| up to 8, Gauss-Hermite needs
more than twice as many nodes for it."""
POINTS = 2**12
"""Over the shared block where no modality is shown."""


def bayes_rule(source: Source, split: Split, mask: Mask, rows: Tensor) -> Tensor:
    """Return log P(y | x_S, a), float64 [B, C], of rows under a mask whose process is known.

    Args:
        source: synthetic.
        split: whose training rows the process was fitted to.
        mask: over its training or its test rows.
        rows: int64 [B], ids.

    Raises:
        DataError: the source is not a synthetic one.
        MaskError: the mask is of another source or split, or its process is unknown (`file`).
    """
    mask.check(source, split, hides=mask.hides)
    process = MaskProcess.of(source, split, mask)
    batch = source.batch(rows, mask.available(source)[rows])
    shown = batch.present
    inputs = {name: conceal(batch.inputs[name], ~shown[:, m]) for m, name in enumerate(source.modalities)}
    return process.log_posterior(inputs, shown, source.observed[rows] & ~shown)


def rule_without_mask(source: Source, mask: Mask, rows: Tensor) -> Tensor:
    """Return log P(y | x_S), float64 [B, C]: the Bayes rule of somebody who takes what hides for ignorable.

    Raises:
        DataError: the source is not a synthetic one.
        MaskError: the mask is of another source.
    """
    shown = mask.available(source)[rows]
    inputs = source.batch(rows, shown).inputs
    return MaskProcess(world_of(source), {}).log_posterior(inputs, shown, torch.zeros_like(shown))


@dataclass(frozen=True, eq=False)
class MaskProcess:
    """A world and what hides its modalities.

    Attributes:
        world: the law of the rows.
        laws: modality -> law of what may hide it, none for an ignorable process.
    """

    world: World
    laws: dict[str, Law]

    @classmethod
    def of(cls, source: Source, split: Split, mask: Mask) -> MaskProcess:
        """Return the process that drew a mask.

        Raises:
            MaskError: it is unknown.
        """
        world = world_of(source)
        if mask.mechanism in IGNORABLE:
            return cls(world, {})
        if mask.mechanism != "mnar":
            raise MaskError(
                f"mask {mask.mechanism}: its process is unknown, so is the Bayes rule; use mcar, mar or mnar"
            )
        return cls(world, laws(source, split, mask.seed, {**mask.parameters, "name": mask.mechanism}))

    def log_posterior(self, inputs: Mapping[str, Tensor], shown: Tensor, hidden: Tensor) -> Tensor:
        """Return log P(y | x_S, a), float64 [B, C].

        Args:
            inputs: modality -> [B, w]; a row that does not show it may hold anything.
            shown: bool [B, M], columns in the order of `inputs`.
            hidden: bool [B, M], what the mask hides; what is neither shown nor hidden nature left out.
        """
        found = torch.empty(len(shown), len(self.world.shared), dtype=torch.float64)
        kinds, place = torch.cat([shown, hidden], dim=1).unique(dim=0, return_inverse=True)
        for number, kind in enumerate(kinds.tolist()):
            rows = place == number
            there = [name for name, yes in zip(inputs, kind[: len(inputs)], strict=True) if yes]
            gone = [name for name, yes in zip(inputs, kind[len(inputs) :], strict=True) if yes]
            found[rows] = self._log_joint({name: inputs[name][rows] for name in there}, gone).log_softmax(dim=1)
        return found

    def _log_joint(self, inputs: Mapping[str, Tensor], hidden: list[str]) -> Tensor:
        """Return log P(y, x_S, a) up to a constant of the row, [B, C], or [1, C] where nothing is shown."""
        given_label = self._log_given_label(list(inputs), hidden)
        by_value = [name for name in hidden if name in self.laws and self.laws[name].reads != LABEL]
        if not inputs:
            return given_label + self._log_all_hidden(by_value)
        shared, private = self.world.latent(inputs)
        joint = self.world.log_joint(shared, private) + given_label
        for name in by_value:
            joint = joint + self._log_hidden(name, shared.unsqueeze(1))
        return joint

    def _log_given_label(self, shown: list[str], hidden: list[str]) -> Tensor:
        """Return log P(a | y) of the laws that read the label, [C]."""
        found = torch.zeros(len(self.world.shared), dtype=torch.float64)
        for name, law in self.laws.items():
            if isinstance(law.score, PerClass) and name in (*shown, *hidden):
                sign = 1.0 if name in hidden else -1.0
                found += torch.nn.functional.logsigmoid(sign * (law.intercept + law.strength * law.score.values))
        return found

    def _log_hidden(self, name: str, shared: Tensor) -> Tensor:
        """Return log P(a_m = 1 | y, u) of a law that reads the hidden value, [..., C], for u [..., 1 or C, s]."""
        law = self.laws[name]
        assert isinstance(law.score, Principal)
        weights, offset = law.score.linear
        turned = law.strength * (weights @ self.world.rotation[name])
        common, own = turned.split([shared.shape[-1], len(turned) - shared.shape[-1]])
        mean = law.intercept + law.strength * offset + shared @ common + self.world.private[name] @ own
        logit = mean.unsqueeze(-1) + own.norm() * GRID
        return (torch.nn.functional.logsigmoid(logit) + (-GRID.square() / 2).log_softmax(dim=0)).logsumexp(dim=-1)

    def _log_all_hidden(self, names: list[str]) -> Tensor:
        """Return log E_{u | y} prod_m P(a_m = 1 | y, u), [1, C]."""
        noise = _normal_points(self.world.shared.shape[1], self.world.seed)
        shared = noise.unsqueeze(1) + self.world.shared  # [points, C, s]
        total = torch.zeros(len(noise), len(self.world.shared), dtype=torch.float64)
        for name in names:
            total = total + self._log_hidden(name, shared)
        return total.logsumexp(dim=0, keepdim=True) - math.log(len(noise))


def _normal_points(width: int, seed: int) -> Tensor:
    """Return points that fill a standard normal evenly, float64 [n, width]; one where there is nothing to fill."""
    if width == 0:
        return torch.zeros(1, 0, dtype=torch.float64)
    points = torch.quasirandom.SobolEngine(width, scramble=True, seed=seed).draw(POINTS, dtype=torch.float64)
    return torch.special.ndtri(points.clamp(1e-12, 1 - 1e-12))
