"""What a study says of robustness, patterns and cost, from the networks it trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kd.data import load_source
from kd.data.source import Source
from kd.data.splits import split
from kd.evaluate.predictions import all_subsets, predict, seen_subsets
from kd.evaluate.rates import one_stays
from kd.models.package import load_package
from kd.study import run
from kd.study.answers import Answers
from kd.study.cost import needed
from kd.study.evidence import REPRODUCED, pool_folds, results_digest
from kd.study.replicate import Replicate
from kd.study.robustness import robustness_tables
from kd.study.scored import Ground, Scored
from kd.tasks import make_task

NODE = {"steps": 40, "validate_every": 10, "model": {"width": 8, "encoder": {"name": "mlp", "hidden": [8]}}}


@pytest.fixture
def frames(small_study) -> dict[str, pd.DataFrame]:
    study = small_study(baselines={"logistic": {"sees": ["m0", "m1"]}})
    study.nodes["dropping"] = type(study.nodes["one"])(**{**vars(study.nodes["student"]), "drop": 0.5})
    folder = run(study)
    return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}


def values(frame: pd.DataFrame, **wanted: Any) -> pd.Series:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame.set_index("seed")["value"].sort_index()


def test_a_study_records_curves_contributions_patterns_and_cost(frames) -> None:
    robust, subsets, games = frames["robustness"], frames["subsets"], frames["shapley"]
    of = {"node": "student", "stage": "float", "metric": "accuracy"}
    whole = values(subsets, subset="m0+m1", **of)
    np.testing.assert_allclose(values(robust, quantity="rate", rate=0.0, **of), whole, atol=1e-6)
    singles = (values(subsets, subset="m0", **of) + values(subsets, subset="m1", **of)) / 2
    np.testing.assert_allclose(values(robust, quantity="rate", rate=0.5, **of), singles, atol=1e-6)
    chance = values(robust, quantity="chance", **of)
    kept = ((singles - chance) / (whole - chance)).where(whole > chance)
    np.testing.assert_allclose(values(robust, quantity="retained", rate=0.5, **of), kept, atol=1e-5)
    together = games[(games["node"] == "student") & (games["metric"] == "accuracy")]["value"].sum()
    assert together == pytest.approx((whole - chance).mean(), abs=1e-6)
    # A teacher answers with the prior where its modality is gone, and the other one is worth nothing to it.
    assert list(games[(games["node"] == "one") & (games["metric"] == "nll")]["modality"]) == ["m0"]

    patterns = frames["patterns"].query("seed == 0").pivot(index="node", columns="subset", values="shown")
    assert patterns.loc["student", ["m0", "m1", "m0+m1"]].tolist() == [False, False, True]
    assert patterns.loc["dropping"].all()
    assert patterns.loc["logistic"].all()
    assert patterns.loc["one", ["m0", "m0+m1"]].all()
    assert patterns.loc["product", ["m0", "m1", "m0+m1"]].all()

    cost = frames["cost"].set_index("node")
    assert cost.loc[["one", "student", "dropping", "product"], "steps"].tolist() == [40, 120, 40, 80]
    assert np.isnan(cost.loc["logistic"]).all()
    assert cost.loc["product", "parameters"] == cost.loc[["one", "two"], "parameters"].sum()


@pytest.mark.parametrize("name", ["robustness", "shapley", "patterns"])
def test_every_number_of_robustness_is_in_the_hash_of_the_results(name: str) -> None:
    frames = {table: pd.DataFrame({"node": ["a", "b"], "value": [0.1, 0.2]}) for table in REPRODUCED}
    changed = {**frames, name: frames[name].assign(value=[0.1, np.nextafter(0.2, 1)])}
    assert results_digest(changed) != results_digest(frames)
    assert results_digest({**frames, name: frames[name].iloc[::-1]}) == results_digest(frames)


def test_what_a_node_needs_is_counted_once(small_study) -> None:
    study = small_study()
    study.nodes["start"] = type(study.nodes["one"])(**{**vars(study.nodes["one"]), "init": "one"})
    study.nodes["student"].init = {"m0": "start", "m1": "two"}
    assert needed(study, "student") == {"student", "start", "one", "two"}
    assert needed(study, "product") == {"one", "two"}


def test_parameters_are_those_of_the_package(small_study, setting_of) -> None:
    from kd.distill.fit import train_graph
    from kd.distill.trained import package_folder
    from kd.study.cost import cost_table

    study, seed = small_study(), 0
    trained = train_graph(study, setting_of(study))
    found = cost_table(study, [Replicate(seed, 0, setting_of(study).split, "", trained=trained)])
    model = load_package(package_folder(trained["student"]))
    expected = sum(value.numel() for value in model.parameters())
    assert found.set_index("node").loc["student", "parameters"] == expected


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_other_tasks_have_curves_and_contributions_of_their_primary_metric(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    label = torch.rand(80, 3, generator=random)
    label = (label > 0.5).float() if name == "multilabel" else label
    source = Source("own", {m: torch.zeros(80, 1) for m in "ab"}, label, 3, task=name)
    rows, task = split(source, test=0.5, validation=0.2, seed=0), make_task(name, 3)
    ground = Ground.of(source, task, [Replicate(0, 0, rows, "")], one_stays)
    signs = label[rows.test] - (0.5 if name == "multilabel" else 0.0)
    good = Scored.of({"a": 0.1 * signs, "b": signs * 0.5, "a+b": signs}, ground)
    found = pd.DataFrame(good.curve_rows())
    primary = found[found["metric"] == task.primary]
    clean = primary[(primary["quantity"] == "rate") & (primary["rate"] == 0)]["value"].item()
    assert clean == pytest.approx(task.score(signs, label[rows.test]), abs=1e-5)
    chance = primary[primary["quantity"] == "chance"]["value"].item()
    assert good.game(task.primary).values.sum() == pytest.approx(clean - chance, abs=1e-5)


def accuracies(label: torch.Tensor, share: float, seed: int) -> torch.Tensor:
    """Return logits that are right on about a share of the rows."""
    random = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(label), generator=random) > share
    return torch.nn.functional.one_hot(torch.where(wrong, (label + 1) % 3, label), 3).float()


@pytest.mark.parametrize("baselines", [7, 8])
def test_effective_robustness_needs_eight_baselines(small_study, baselines: int) -> None:
    study = small_study(
        nodes={
            "student": {"sees": ["m0", "m1"], **NODE},
            **{f"b{i}": {"sees": ["m0", "m1"]} for i in range(baselines)},
        },
        edges={"e": {"teacher": "b0", "student": "student"}},
        ensembles={},
        contrasts={},
    )
    source = load_source(**study.data)
    rows = split(source, test=0.5, validation=0.2, seed=0)
    replicate, label = Replicate(0, 0, rows, ""), source.label[rows.test]
    for place, node in enumerate(study.nodes):
        share = 0.5 + 0.04 * place
        logits = {s: accuracies(label, share - 0.1 * (s != "m0+m1"), place) for s in all_subsets(["m0", "m1"])}
        replicate.answers[node, "float"] = Answers(logits, logits)
    answers, kept = pool_folds([replicate])
    found = robustness_tables(study, source, make_task("multiclass", 3), [replicate], answers, kept)["robustness"]
    named = found[found["quantity"] == "effective_robustness"]
    assert list(named["node"]) == (["student"] if baselines == 8 else [])


def test_a_network_of_two_modalities_answers_what_a_sample_over_nine_leaves_of_it() -> None:
    source = load_source("synthetic", modalities=9, rows=60, classes=3)
    two = ["m3", "m7"]
    found = predict(lambda inputs, present: np.zeros((len(present), 3)), source, two, torch.arange(4))
    assert list(found) == seen_subsets(source.modalities, two) == ["m3", "m7", "m3+m7"]
    assert set(seen_subsets(source.modalities, source.modalities)) == set(all_subsets(source.modalities))
