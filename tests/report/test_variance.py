"""Where the variance of an ablation's scores comes from."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from kd.report.variance import drawn_anew, shares, variance_sentences, variance_table


@pytest.fixture
def values() -> pd.DataFrame:
    """Return scores of three masks x four seeds at two rates: the mask decides at one, the seed at the other."""
    rows = []
    for variant, (rate, mask) in enumerate(product((0.1, 0.5), range(3))):
        for seed in range(4):
            score = 0.8 + (0.02 * mask if rate == 0.1 else 0.01 * seed)
            row = {"variant": variant, "mask.rate": rate, "mask_seed": mask, "seed": seed, "node": "student"}
            rows += [{**row, "what": "mean", "value": score}]
    return pd.DataFrame(rows)


AXES = ["mask.rate", "mask_seed"]


def test_a_grid_without_seeds_of_mask_or_split_tells_nothing(values: pd.DataFrame) -> None:
    assert drawn_anew(values, ["mask.rate"], {}) == {}
    assert drawn_anew(values[values.seed == 0], AXES, {}) == {}
    assert drawn_anew(values, AXES, {}) == {"mask_seed": "mask", "seed": "training"}


def test_a_seed_that_draws_masks_too_is_called_so(values: pd.DataFrame) -> None:
    split = values.rename(columns={"mask_seed": "split.seed"})
    assert drawn_anew(split, ["split.seed"], {"mask_seed": None})["seed"] == "mask and training"
    assert drawn_anew(split, ["split.seed"], {"mask_seed": 3})["seed"] == "training"


def test_each_value_of_another_axis_has_its_own_shares(values: pd.DataFrame) -> None:
    found = shares(values, AXES, drawn_anew(values, AXES, {}))
    table = variance_table(found, "accuracy")
    assert list(table["mask.rate"]) == ["0.1", "0.5"]
    # The scores of the masks are 0, 2 and 4 points apart, those of the seeds 0 to 3: standard deviations 2 and 1.29.
    assert list(table["mask, SD"]) == ["2.0 (100%)", "0.0 (0%)"]
    assert table["training, SD"].iloc[1] == f"{100 * np.std([0, 0.01, 0.02, 0.03], ddof=1):.1f} (100%)"
    words = variance_sentences(found)
    assert words[0].startswith("`student`, mean, mask.rate = 0.1: 100% mask,")
    assert words[1].startswith("`student`, mean, mask.rate = 0.5: 100% training,")


def test_a_node_that_failed_somewhere_is_named_and_not_split(values: pd.DataFrame) -> None:
    found = shares(values.iloc[1:], AXES, {"mask_seed": "mask", "seed": "training"})
    assert "11 of 12 combinations" in variance_sentences(found)[0]
    assert variance_table(found, "accuracy")["mask, SD"].iloc[0] == "–"
