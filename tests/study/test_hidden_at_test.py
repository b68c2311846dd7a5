"""Scores on test rows that a mechanism hides modalities of: which answer each row gets, and what is refused."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import pytest
import torch

from kd.ablate import ablate
from kd.ablate.grid import make_grid
from kd.config import Study
from kd.data import load_source
from kd.data.masks import draw
from kd.data.source import Source
from kd.study import faults, run
from kd.study.answers import FLOAT, Answers
from kd.study.hidden_at_test import drawn_masks, hidden_at_test
from kd.study.replicate import Replicate, split_for
from kd.tasks import make_task

HALF = {"name": "mcar", "rate": 0.5, "allow_empty": True}
MNAR = {"name": "mnar", "rate": 0.4}
EVERY = ["m0", "m1", "m0+m1"]


@pytest.fixture
def source() -> Source:
    loaded: Source = load_source("synthetic", modalities=2, rows=400, classes=3, width=4)
    return loaded


def replicates(study: Study, source: Source) -> list[Replicate]:
    folds = range(study.split.folds or 1)
    return [Replicate(seed, fold, split_for(study, source, fold), "") for seed in range(2) for fold in folds]


def accuracies(study: Study, source: Source, answers: dict) -> pd.DataFrame:
    found = hidden_at_test(study, source, make_task("multiclass", 3), replicates(study, source), answers)
    return found[found.metric == "accuracy"].set_index(["node", "seed", "test_mask"])


def always(said: dict[str, int], rows: int) -> Answers:
    """Return answers that name one class per subset, whatever the row."""
    logits = {subset: torch.eye(3)[c].expand(rows, -1).clone() for subset, c in said.items()}
    return Answers(logits, logits)


@pytest.mark.parametrize("split", [{}, {"folds": 3}])
def test_each_row_is_answered_for_the_subset_that_its_mask_leaves(small_study, source, split) -> None:
    study = small_study(test_masks={"half": HALF}, split=split)
    own = [r for r in replicates(study, source) if r.seed == 1]
    test = torch.cat([r.split.test for r in own])
    answers = {("student", FLOAT, seed): always({"m0": 0, "m1": 1, "m0+m1": 2}, len(test)) for seed in range(2)}
    found = accuracies(study, source, answers).loc["student", 1, "half"]
    # Told from the masks themselves, row by row.
    said = []
    for r in own:
        shown = draw(source, r.split, HALF, 1, hides="test").keep[r.split.test].tolist()
        prior = int(source.label[r.split.train].bincount(minlength=3).argmax())
        said += [{(True, False): 0, (False, True): 1, (True, True): 2, (False, False): prior}[tuple(s)] for s in shown]
    assert found.value == pytest.approx(float((torch.tensor(said) == source.label[test]).double().mean()))
    assert (found.kind, found.n) == ("MCAR", len(test))
    assert found.hidden == pytest.approx(0.5, abs=0.1)


def test_clean_rows_hide_nothing_and_score_as_the_complete_subset(small_study) -> None:
    folder = run(small_study(test_masks={"mnar": MNAR}))
    found = pd.read_parquet(folder / "test_masks.parquet")
    assert list(dict.fromkeys(found.test_mask)) == ["clean", "mnar"]
    assert set(found.node) == {"one", "two", "student", "product"}
    assert set(found[found.test_mask == "mnar"].kind) == {"MNAR"}
    clean = found[found.test_mask == "clean"]
    assert set(clean.hidden) == {0}
    subsets = pd.read_parquet(folder / "subsets.parquet").query("subset == 'm0+m1' and node != 'Bayes rule'")
    both = clean.merge(subsets, on=["node", "stage", "seed", "metric"], suffixes=("", "_complete"))
    assert len(both) == len(clean) > 0
    assert both.value.to_list() == pytest.approx(both.value_complete.to_list(), abs=1e-6)


def test_a_method_that_sees_nothing_of_a_row_says_the_prior(small_study, source) -> None:
    # An ensemble of one view is answered on every subset that holds it, and on no other.
    study = small_study(test_masks={"other": {"name": "pattern", "chances": {"m1": 1.0}}})
    answers = {("product", FLOAT, 0): always({"m0": 0, "m0+m1": 0}, len(split_for(study, source).test))}
    label = source.label[split_for(study, source).test]
    prior = int(source.label[split_for(study, source).train].bincount(minlength=3).argmax())
    found = accuracies(study, source, answers)
    assert found.loc["product", 0, "clean"].value == pytest.approx(float((label == 0).double().mean()))
    assert found.loc["product", 0, "other"].value == pytest.approx(float((label == prior).double().mean()))


def test_masks_are_drawn_anew_for_each_seed_unless_one_is_named(small_study, source) -> None:
    def fingerprints(**changes: int) -> list[str]:
        study = small_study(test_masks={"half": HALF}, **changes)
        return [drawn_masks(study, source, [r])["half"].fingerprint for r in replicates(study, source)]

    own, shared = fingerprints(), fingerprints(mask_seed=0)
    assert own[0] != own[1]
    assert shared == [own[0]] * 2


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"name": "severe", "complete": 9}, "test_masks.bad.name: severe cannot hide modalities of single test rows"),
        ({"name": "span"}, "test_masks.bad.name: span hides single values, not modalities of single test rows"),
        ({"name": "mar", "driver": "m7"}, "test_masks.bad: synthetic"),
        ({"name": "mcar", "rate": 0.9}, "test_masks.bad: synthetic"),
        ({"name": "mcar", "rat": 0.9}, "test_masks.bad.rat: unknown argument; did you mean 'rate'"),
    ],
)
def test_a_mask_that_cannot_be_drawn_is_a_fault_before_training(small_study, part, expected) -> None:
    found = faults(small_study(test_masks={"bad": part}))
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_a_grid_over_training_masks_gives_train_by_test_mechanisms(small_study) -> None:
    masks = {"half": HALF, "mnar": MNAR}
    node = {"sees": ["m0", "m1"], "steps": 20, "model": {"width": 4}}
    alone = {"nodes": {"both": node}, "edges": {}, "ensembles": {}, "contrasts": {}}
    tree = asdict(small_study(test_masks=masks, seeds=1, **alone)) | {"grid": {"mask": [{"name": "complete"}, MNAR]}}
    found = pd.read_parquet(ablate(make_grid(tree)) / "test_masks.parquet")
    assert len(found.groupby(["mask", "test_mask"])) == 2 * 3
    # Both variants meet the same test masks.
    assert found.groupby("test_mask").fingerprint.nunique().to_dict() == {"clean": 1, "half": 1, "mnar": 1}
