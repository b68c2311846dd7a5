"""Who learns from which rows, and how much what is taught counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kd
from kd.ablate.grid import make_grid
from kd.ablate.plan import make_plan
from kd.ablate.work import train_stack
from kd.config import Study
from kd.distill.address import node_address, parents_of
from kd.distill.fit import Setting, build, stream, train_graph, training_rows
from kd.distill.form import form
from kd.distill.graph import part_faults
from kd.distill.trained import package_folder, rows_seen
from kd.models.package import load_package
from kd.parsing import parse
from kd.record import load_record, run_folder
from kd.study.check import faults
from kd.study.replicate import Silent

LABELS = {"name": "unlabelled", "labels": 60}


def test_labelled_rows_are_those_that_show_a_label(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting]
) -> None:
    study = small_study(mask=LABELS)
    setting = setting_of(study)
    setting = Setting.of(setting.source, setting.split, setting.mask, 0)
    node = study.nodes["student"]
    every, shown = (training_rows(replace(node, rows=rows), setting, study.edges) for rows in ("any", "labelled"))
    assert len(shown) == 60
    assert len(every) == len(setting.split.train)
    assert setting.source.labelled[shown].all()


def test_a_student_of_labelled_rows_is_not_taught_on_others() -> None:
    data = kd.DataModule(kd.load_source("synthetic", rows=200), mask=kd.masks.unlabelled(labels=40))
    teacher = kd.classifier(data)
    batch = next(iter(data.train_dataloader()))
    for rows in ("any", "labelled"):
        student = kd.Distiller(kd.classifier(data, seed=1), edges=[kd.Edge(teacher, kd.KL())], rows=rows)
        counted = student._counted(batch)
        assert torch.equal(counted, batch.labelled if rows == "labelled" else torch.ones_like(batch.labelled))
    assert len(data.rows_for(data.modalities, "labelled")) == 40


def test_batches_have_their_share_of_labels_where_there_are_rows_without_one(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting], store: object
) -> None:
    study = small_study(mask=LABELS)
    setting = Setting.of(*(getattr(setting_of(study), key) for key in ("source", "split", "mask")), 0)
    packages = {name: package_folder(record) for name, record in train_graph(study, setting).items()}
    module, _ = build(study, "student", setting, packages)

    def labels(share: float | None, rows: str = "any") -> set[int]:
        node = replace(study.nodes["student"], labelled_share=share, rows=rows)
        return {int(setting.source.labelled[batch].sum()) for batch in stream(module, node, setting)}

    assert labels(0.75) == {24}
    assert len(labels(None)) > 1  # as they come
    assert labels(0.75, "labelled") == {32}


def test_students_that_differ_in_their_share_of_labels_are_of_one_form(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting]
) -> None:
    study, other = small_study(mask=LABELS), small_study(mask=LABELS)
    for node in other.nodes.values():
        node.labelled_share = 0.5
    fingerprints = setting_of(study).fingerprints
    runs = dict.fromkeys(study.nodes, "run")
    found = {}
    for name in study.nodes:
        own = [node_address(each, name, fingerprints, parents_of(each, name, runs)) for each in (study, other)]
        shapes = [form(each, name, address, runs) for each, address in zip((study, other), own, strict=True)]
        assert shapes[0] == shapes[1]
        found[name] = own[0] == own[1]
    assert found == {name: name != "student" for name in study.nodes}  # teachers have no row without a label


@pytest.mark.parametrize(("share", "size"), [(0.0, 32), (1.0, 32), (1.5, 32), (0.5, 1)])
def test_a_share_of_labels_that_leaves_one_kind_out_is_a_fault(
    small_study: Callable[..., Study], share: float, size: int
) -> None:
    study = small_study()
    study.nodes["student"].labelled_share, study.nodes["student"].batch_size = share, size
    assert any(
        fault.startswith("nodes.student.labelled_share: expected a share in (0, 1), or null") for fault in faults(study)
    )


def test_taught_multiplies_the_weight_of_every_edge(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting], store: object
) -> None:
    study = small_study()
    study.edges["two"].weight = 0.5
    study.nodes["student"].taught = 3.0
    setting = setting_of(study)
    packages = {name: package_folder(record) for name, record in train_graph(study, setting).items()}
    module, _ = build(study, "student", setting, packages)
    assert {name: edge.weight for name, edge in module.edges.items()} == {"one": 3.0, "two": 1.5}


def test_taught_changes_nothing_where_nobody_teaches(
    small_study: Callable[..., Study], setting_of: Callable[..., Setting]
) -> None:
    study, other = small_study(), small_study()
    for node in other.nodes.values():
        node.taught = 0.1
    fingerprints = setting_of(study).fingerprints

    def addresses(own: Study) -> dict[str, dict[str, object]]:
        runs = dict.fromkeys(own.nodes, "run")
        return {name: node_address(own, name, fingerprints, parents_of(own, name, runs)) for name in own.nodes}

    one, two = addresses(study), addresses(other)
    assert one["one"] == two["one"]
    assert one["student"] != two["student"]


def test_students_that_differ_in_what_teaching_weighs_train_as_one() -> None:
    node = {"steps": 20, "model": {"width": 8}}
    tree = {
        "data": {"name": "synthetic", "modalities": 2, "rows": 200},
        "seeds": 1,
        "nodes": {"full": {"sees": ["m0", "m1"], **node}, "student": {"sees": ["m0", "m1"], "drop": 0.5, **node}},
        "edges": {"full": {"teacher": "full", "student": "student"}},
        "grid": {"nodes.student.taught": [0.1, 1.0, 10.0]},
    }
    plan = make_plan(make_grid(tree))
    # The teacher is one and the same: nobody teaches it.
    assert {stack.trainings[0].node: len(stack.trainings) for stack in plan.stacks} == {"full": 1, "student": 3}


@pytest.mark.parametrize("value", [-1.0, float("inf")])
def test_taught_out_of_range_is_a_fault(value: float) -> None:
    tree = {"data": {"name": "synthetic"}, "nodes": {"a": {"sees": ["m0"], "taught": value}}}
    assert part_faults(parse(tree)) == [f"nodes.a.taught: expected a finite number of at least 0, got {value}"]


@pytest.mark.parametrize("shares", [[None], [None, 0.75]])
def test_replicas_whose_labels_differ_train_as_one_and_as_each_would_alone(
    store: Path, shares: list[float | None]
) -> None:
    node = {"steps": 20, "model": {"width": 8, "encoder": {"name": "mlp", "hidden": [8], "dropout": 0.0}}}
    tree = {
        "data": {"name": "synthetic", "modalities": 2, "rows": 200},
        "mask": LABELS,
        "seeds": 2,
        "nodes": {"full": {"sees": ["m0", "m1"], **node}, "student": {"sees": ["m0", "m1"], **node}},
        "edges": {"full": {"teacher": "full", "student": "student"}},
        "grid": {"nodes.student.labelled_share": shares},
    }
    plans = {replicas: make_plan(make_grid({**tree, "replicas": replicas})) for replicas in (128, 1)}
    assert [len(stack.trainings) for stack in plans[128].stacks] == [2, 2 * len(shares)]
    listener = Silent()
    for plan in plans.values():
        for stack in plan.stacks:
            studies = [plan.grid.variants[training.place[0]].study for training in stack.trainings]
            assert train_stack(stack, studies, listener) == {}
    runs = {n: {(cell.node, cell.place): cell.run for cell in plan.cells} for n, plan in plans.items()}
    for key, run in runs[128].items():
        one, other = (load_package(run_folder("train", each) / "package") for each in (run, runs[1][key]))
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], atol=1e-4, rtol=1e-4)
    full = [run for (node, _), run in runs[128].items() if node == "full"]
    shown = [set(rows_seen(load_record(run_folder("train", run)))["rows"]) for run in full]
    assert shown[0] != shown[1]
