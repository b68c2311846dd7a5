import pytest

from kd.errors import RecordError
from kd.report import words

from .conftest import contrast_frame


def sentence(verdict: str) -> str:
    frame = contrast_frame()
    return words.contrast_sentence(frame[frame["verdict"] == verdict].iloc[0].to_dict())


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("better", "student vs complete-case on all three: +1.2 points [0.3, 2.1] over 5 seeds (new rows): better."),
        ("worse", "student vs late fusion on all three: −1.1 points [−1.8, −0.4] over 5 seeds (new rows): worse."),
        (
            "tie",
            "student vs late fusion on mean over subsets: +0.1 points [−0.3, 0.5] over 5 seeds (new rows): a tie, the "
            "whole interval is inside the stated margin.",
        ),
        (
            "inconclusive",
            "student vs complete-case on mean over subsets: no clear gain: +0.4 points [−0.5, 1.3] over 5 seeds "
            "(new rows); a difference under 0.9 points could not have been seen.",
        ),
    ],
)
def test_each_verdict_has_its_sentence(verdict, expected):
    assert sentence(verdict) == expected


def test_an_inconclusive_loss_is_not_called_a_gain():
    row = contrast_frame().iloc[1].to_dict() | {"estimate": -0.004}
    assert "no clear difference" in words.contrast_sentence(row)


def test_an_unknown_verdict_is_refused():
    with pytest.raises(RecordError, match="expected a verdict among"):
        words.contrast_sentence(contrast_frame().iloc[0].to_dict() | {"verdict": "promising"})


def test_rich_text_keeps_code_and_shows_the_rest_literally():
    assert words.rich("Gain: `a_b` beats c_d <b>.") == "Gain: `a_b` beats c\\_d &lt;b>."
    assert "<img" not in words.rich("`<img>` wins")


def told(**changes: object) -> str:
    facts = {"test": "", "p": float("nan"), "p_holm": float("nan"), "untested": "5 seeds, 20 are needed"}
    facts |= {"margin": 0.01, "seen": 0.019, "seeds_needed": 34.0}
    return words.contrast_sentence(contrast_frame().iloc[1].to_dict() | facts | changes)


def test_what_was_not_tested_is_said_with_what_could_have_been_seen() -> None:
    assert told().endswith(
        "could not have been seen. Not tested: 5 seeds, 20 are needed. With these seeds and rows a true difference of "
        "1.9 points is seen with 80% power; the margin, 1.0 points, takes 34 seeds."
    )
    assert "no number of seeds suffices for the margin" in told(seeds_needed=float("nan"))
    assert told(seen=float("nan")).endswith("Not tested: 5 seeds, 20 are needed.")


def test_a_test_says_of_what_its_p_speaks() -> None:
    facts = {"untested": "", "p": 0.01, "p_holm": 0.02, "verdict": "better"}
    assert told(test="crossed", **facts).endswith(
        ": better. T test over seeds and rows: p = 0.020 after Holm over the declared comparisons."
    )
    assert "on these test rows only: p < 0.001" in told(test="wilcoxon", **facts | {"p_holm": 1e-9})
