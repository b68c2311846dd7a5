"""Ablations: a grid over a config's fields -> a plan of what stacks with what -> runs and one table.

`ablate(grid)` is `kd ablate`, `tune(grid, path)` is `kd tune`.
"""

from kd.ablate.grid import Grid as Grid
from kd.ablate.grid import load_grid as load_grid
from kd.ablate.plan import make_plan as make_plan
from kd.ablate.sweep import ablate as ablate
from kd.ablate.tuning import tune as tune
