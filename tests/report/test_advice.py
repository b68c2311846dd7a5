"""What is advised, on tables whose right answer is planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.evaluate import BAYES
from kd.report.advice import BETTER, FEW_SEEDS, NO_PAIR, NO_SIMPLE, SIMPLE, UNBEATEN, Advice, advise
from kd.report.advice_words import ground, over_settings, paragraph
from kd.report.leading import COMPLETE, SUBSETS
from kd.report.setting import Setting

from .planted import SUBSETS as EVERY
from .planted import cost, pairs, validation

PLAIN = ["late", "masked"]
CHOSEN = {"late": 0.80, "masked": 0.79, "fancy": 0.85, "odd": 0.70}


def advice_on(test: dict[str, float], chosen: dict[str, float] = CHOSEN, seeds: int = 5) -> Advice:
    found = advise(validation(chosen, seeds), pairs(test, seeds=seeds), SUBSETS, PLAIN)
    assert found is not None
    return found


def words(advice: Advice) -> str:
    return paragraph(advice, cost({"late": 400.0, "masked": 400.0, "fancy": 1200.0, "odd": 400.0}))


def test_a_clear_winner_is_advised_with_its_gain_and_its_price() -> None:
    found = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.84, "odd": 0.70})
    assert (found.advised, found.reason, found.simple) == ("fancy", BETTER, "late")
    assert found.worse == ("late", "masked", "odd")
    text = words(found)
    assert "use `fancy`. Validation chose it (accuracy 85.0 against 80.0)" in text
    assert "beats the best simple method, `late`, by 4.0 points [3.5, 4.5]" in text
    assert "It takes 3.0 times the optimiser steps and 1.0 times the parameters." in text


def test_where_the_winner_ties_with_a_simple_method_that_one_is_advised() -> None:
    found = advice_on({"late": 0.800, "masked": 0.79, "fancy": 0.802, "odd": 0.70})
    assert (found.advised, found.reason) == ("late", UNBEATEN)
    assert "fancy" in found.alike
    text = words(found)
    assert "use `late`: nothing beats it here." in text
    assert "differs from it by +0.2 points [−0.3, 0.7], a tie" in text
    assert "arXiv 2512.22991" in text


def test_an_inconclusive_gain_is_no_reason_and_says_what_could_have_been_seen() -> None:
    tests = pairs({"late": 0.80, "masked": 0.79, "fancy": 0.82, "odd": 0.70}, half=0.03)
    found = advise(validation(CHOSEN), tests, SUBSETS, PLAIN)
    assert found is not None
    assert (found.advised, found.reason) == ("late", UNBEATEN)
    assert "inconclusive: a difference under 3.0 points could not have been seen" in words(found)


def test_a_winner_on_validation_that_loses_on_test_rows_is_not_advised() -> None:
    found = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.75, "odd": 0.70})
    assert (found.favourite, found.advised, found.reason) == ("fancy", "late", UNBEATEN)
    assert "is behind it by 5.0 points [4.5, 5.5]" in words(found)


def test_what_is_best_on_test_rows_alone_is_named_and_not_advised() -> None:
    found = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.80, "odd": 0.90})
    assert found.advised == "late"
    assert found.above == ("odd",)
    text = words(found)
    assert "`fancy` does not beat it here" in text
    assert "Above it on test rows, but not what validation chose, so not advised: `odd`." in text


def test_a_simple_favourite_is_advised_beside_the_best_of_the_others() -> None:
    chosen = {**CHOSEN, "fancy": 0.78}
    found = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.77, "odd": 0.70}, chosen)
    assert (found.advised, found.reason, found.rival) == ("late", SIMPLE, "fancy")
    assert "`fancy` (78.0), differs from it by −3.0 points [−3.5, −2.5] on test rows, worse." in words(found)


def test_of_two_that_validation_cannot_tell_the_simple_one_is_the_favourite() -> None:
    found = advice_on({"fancy": 0.9, "late": 0.8}, {"fancy": 0.8, "late": 0.8})
    assert (found.favourite, found.advised) == ("late", "late")


@pytest.mark.parametrize("seeds", [1, 4])
def test_few_seeds_describe_and_advise_nothing(seeds) -> None:
    found = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.84, "odd": 0.70}, seeds=seeds)
    assert (found.advised, found.reason, found.favourite) == (None, FEW_SEEDS, "fancy")
    assert f"no advice can be tested with {seeds} seed" in words(found)
    assert "A description only: `fancy` has the best mean accuracy on validation rows, 85.0" in words(found)


def test_without_a_simple_method_nothing_is_advised() -> None:
    found = advise(validation(CHOSEN), pairs(CHOSEN), SUBSETS, [])
    assert found is not None
    assert (found.advised, found.reason) == (None, NO_SIMPLE)
    assert "no advice without a simple method" in words(found)


def test_without_the_recorded_pair_nothing_is_advised() -> None:
    found = advise(validation(CHOSEN), pairs({"late": 0.8, "odd": 0.7}), SUBSETS, PLAIN)
    assert found is not None
    assert (found.advised, found.reason) == (None, NO_PAIR)
    assert "`fancy` was not compared with `late` on test rows" in words(found)


def test_the_order_in_which_a_pair_was_recorded_changes_nothing() -> None:
    test = {"late": 0.80, "masked": 0.79, "fancy": 0.84, "odd": 0.70}
    one, other = advice_on(test), advice_on(dict(reversed(test.items())))
    assert one.difference is not None
    assert other.difference is not None
    assert one.difference.estimate == pytest.approx(other.difference.estimate)
    assert (one.advised, one.worse, one.difference.verdict) == (other.advised, other.worse, other.difference.verdict)


def test_a_method_that_lacks_a_seed_is_left_out_and_said_to_be() -> None:
    scores = validation(CHOSEN)
    scores = scores[(scores["node"] != "fancy") | (scores["seed"] < 4)]
    found = advise(scores, pairs(CHOSEN), SUBSETS, PLAIN)
    assert found is not None
    assert found.advised == "late"
    assert found.left_out == ("fancy",)
    assert "Left out, for a seed of theirs failed: `fancy`." in words(found)


def test_what_answers_complete_rows_only_is_advised_for_these_alone() -> None:
    scores = pd.concat([validation({"late": 0.8, "masked": 0.7}), validation({"whole": 0.9}, subsets=EVERY[-1:])])
    tests = pairs({"late": 0.8, "masked": 0.7, "whole": 0.95})
    over_subsets, complete = (advise(scores, tests, over, PLAIN) for over in (SUBSETS, COMPLETE))
    assert over_subsets is not None
    assert complete is not None
    assert (over_subsets.advised, "whole" in over_subsets.means) == ("late", False)
    assert complete.advised == "whole"


def test_the_bayes_rule_is_no_method_to_use() -> None:
    found = advise(validation({**CHOSEN, BAYES: 0.99}), pairs(CHOSEN), SUBSETS, PLAIN)
    assert found is not None
    assert found.favourite == "fancy"
    assert BAYES not in found.means


def test_a_lower_error_is_the_better_one() -> None:
    scores = validation({"late": 0.5, "fancy": 0.4}).assign(metric="mse")
    tests = pairs({"late": -0.5, "fancy": -0.4}).assign(metric="negative squared error")
    found = advise(scores, tests, SUBSETS, ["late"])
    assert found is not None
    assert (found.favourite, found.advised) == ("fancy", "fancy")
    assert "mean squared error 0.400 against 0.500" in words(found)


def test_a_network_beside_a_baseline_without_steps_has_no_ratio() -> None:
    found = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.84, "odd": 0.70})
    text = paragraph(found, cost({"late": np.nan, "fancy": 1200.0}))
    assert "1,200 of the optimiser steps where the other has none" in text


CHOSEN_SCORES = validation(CHOSEN)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.5, 0.95), min_size=4, max_size=4))
def test_test_rows_never_choose_the_candidate(test) -> None:
    found = advise(CHOSEN_SCORES, pairs(dict(zip(CHOSEN, test, strict=True))), SUBSETS, PLAIN)
    assert found is not None
    assert (found.favourite, found.simple, found.rival) == ("fancy", "late", "fancy")
    assert found.advised == ("fancy" if test[2] - test[0] > 0.005 else "late")


def test_the_ground_names_seeds_rows_mechanism_and_that_mnar_does_not_carry_over() -> None:
    assert ground(Setting("mcar, rate 0.3", "MCAR", (600,)), 20).startswith("20 seeds, 600 test rows, training modal")
    assert "it holds for that mechanism only" in ground(Setting("sick", "MNAR", (600,)), 20)
    assert "no modality hidden in training" in ground(Setting("complete", "MCAR", (600,)), 20)


def test_over_settings_counts_what_is_advised_and_whether_anything_beat_the_simple() -> None:
    won = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.84, "odd": 0.70})
    tied = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.80, "odd": 0.70})
    assert over_settings([tied, tied, won]) == [
        "Any modality may be missing at test: `late` is advised in 2 of 3 settings, `fancy` in 1. The choice of "
        "validation beats the best simple method in 1 of 3 settings."
    ]
    assert over_settings([tied, tied])[0].endswith("Nothing beats `late` in any of them.")
    lucky = advice_on({"late": 0.80, "masked": 0.79, "fancy": 0.80, "odd": 0.90})
    assert "Nothing beats" not in over_settings([tied, lucky])[0]
    assert "nothing is advised in any of 1 setting." in over_settings([advice_on(CHOSEN, seeds=2)])[0]
