from kd.report.opening import opening

from .conftest import NODES, contrast_frame, stage_frame, subset_frame, summary_frame

KINDS = {name: facts["kind"] for name, facts in NODES.items()}


def sentences(**instead) -> list[str]:
    subsets = subset_frame()
    frames = {
        "subsets": subsets,
        "summary": summary_frame(subsets),
        "contrasts": contrast_frame(),
        "stages": stage_frame(),
        "kinds": KINDS,
    }
    return opening(**(frames | instead), metric="accuracy")


def test_the_best_gain_the_worst_loss_and_the_tally_are_said():
    found = sentences()
    assert "Best gain: `student` beats `complete-case` by 1.2 points [0.3, 2.1] on all three." in found
    assert "Worst loss: `student` is behind `late fusion` by 1.1 points [0.4, 1.8] on all three." in found
    assert "Of 4 declared comparisons in accuracy: 1 better, 1 worse, 1 tie, 1 inconclusive." in found


def test_without_comparisons_nothing_is_called_better():
    found = sentences(contrasts=contrast_frame().head(0))
    assert any(line.startswith("No comparison was declared") for line in found)
    assert not any("Best gain" in line for line in found)


def test_few_seeds_are_called_a_demonstration():
    assert "Only 2 seeds" in sentences(summary=summary_frame(subset_frame()).assign(seeds=2))[-1]


def test_only_nodes_that_answer_everything_compete_for_the_mean():
    summary = summary_frame(subset_frame())
    summary.loc[summary["node"] == "fou", "mean"] = 0.999
    assert not any("`fou`" in line for line in sentences(summary=summary))


def test_it_says_so_when_nothing_distilled_is_best():
    summary = summary_frame(subset_frame())
    assert sentences(summary=summary)[0].startswith("The student `student`")
    summary.loc[summary["node"] == "late fusion", "mean"] = 0.999
    assert sentences(summary=summary)[0].startswith("Nothing distilled here scores above the ensemble `late fusion`")


def test_compression_says_size_mean_and_worst_subset():
    line = sentences()[-1]
    assert line.startswith("Compressing `student` to int8 divides its size by 5.8, at ")
    assert "points in the mean over all subsets and" in line
    assert line.endswith("points on the worst subset.")


def test_without_compression_nothing_is_said_of_it():
    assert not any("Compressing" in line for line in sentences(stages=stage_frame().head(0)))
