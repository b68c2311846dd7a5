"""What stacks with what: told before anything is trained, by the config and by nothing else."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from kd.ablate.plan import LEFT_OVER, Plan, make_plan
from kd.ablate.table import listed
from kd.errors import ConfigError

WEIGHTS = {"edges.*.weight": [0.5, 1.0, 2.0]}


def sizes(plan: Plan) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for stack in plan.stacks:
        found.setdefault(stack.trainings[0].node, []).append(len(stack.trainings))
    return found


def test_what_variants_share_is_trained_once(small_grid) -> None:
    plan = make_plan(small_grid(WEIGHTS))
    assert len(plan.cells) == 3 * 2 * 3
    # The teachers of two seeds, and the students of two seeds at three weights.
    assert sizes(plan) == {"one": [2], "two": [2], "student": [6]}
    assert len({cell.run for cell in plan.cells if cell.node == "one"}) == 2


def test_stacks_are_cut_by_the_config_and_not_by_the_number_of_processes(small_grid) -> None:
    plan = make_plan(small_grid(WEIGHTS, replicas=4))
    assert sizes(plan)["student"] == [4, 2]
    odd = make_plan(small_grid(WEIGHTS, replicas=5))
    assert [(len(s.trainings), s.reason) for s in odd.stacks if s.trainings[0].node == "student"][-1] == (1, LEFT_OVER)
    other = make_plan(small_grid(WEIGHTS, replicas=4, jobs=7))
    assert [stack.id for stack in other.stacks] == [stack.id for stack in plan.stacks]


def test_more_seeds_leave_full_stacks_as_they_were(small_grid) -> None:
    few, many = (make_plan(small_grid(WEIGHTS, replicas=2, seeds=seeds)) for seeds in (2, 3))
    assert {len(stack.trainings) for stack in few.stacks} == {2}
    assert {stack.id for stack in few.stacks} < {stack.id for stack in many.stacks}


def test_forms_that_differ_do_not_stack(small_grid) -> None:
    axes = {"nodes.student.model.width": [8, 16], "nodes.student.optimizer.lr": [0.001, 0.01]}
    assert sizes(make_plan(small_grid(axes)))["student"] == [4, 4]
    kinds = {
        "edges.*.loss": [{"name": "kl", "temperature": 1}, {"name": "kl", "temperature": 4}, {"name": "regression"}]
    }
    assert sorted(sizes(make_plan(small_grid(kinds)))["student"]) == [2, 4]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"replicas": 1}, "replicas: 1"),
        (
            {"trainer": {"callbacks": {"stop": {"name": "EarlyStopping", "monitor": "train_loss"}}}},
            "trainer.callbacks acts on one training",
        ),
        ({"trainer": {"precision": "bf16-mixed"}}, "trainer.precision acts on one training"),
    ],
)
def test_what_trains_alone_says_why(small_grid, changes, reason) -> None:
    plan = make_plan(small_grid(**changes))
    assert {stack.reason for stack in plan.stacks} == {reason}
    assert {len(stack.trainings) for stack in plan.stacks} == {1}


def test_teachers_that_see_other_modalities_do_not_stack(small_grid) -> None:
    # Which rows have what a teacher sees is asked once for the whole stack.
    edges = {"one": {"teacher": "one", "student": "student"}}
    nodes = {name: asdict(node) for name, node in small_grid().first.nodes.items()}
    nodes["other"] = {**nodes["one"], "sees": ["m0", "m1"]}
    nodes["student"]["sees"] = ["m0"]
    plan = make_plan(small_grid({"edges.one.teacher": ["one", "other"]}, nodes=nodes, edges=edges))
    assert sizes(plan)["student"] == [2, 2]


def test_a_node_of_given_weights_trains_nothing(small_grid, small_study) -> None:
    nodes = {name: vars(node) for name, node in small_study().nodes.items()}
    nodes["student"] |= {"steps": 0, "init": {"m0": "one", "m1": "two"}}
    plan = make_plan(small_grid(nodes=nodes, edges={}))
    assert {s.reason for s in plan.stacks if s.trainings[0].node == "student"} == {"nothing is trained"}
    assert sizes(plan)["one"] == [2]


def test_a_training_alone_has_the_address_of_a_plain_run_and_one_in_a_stack_another(small_grid) -> None:
    alone, stacked = (make_plan(small_grid(replicas=replicas)) for replicas in (1, 128))
    by_place = {(cell.place, cell.node): cell.run for cell in alone.cells}
    assert all(cell.run != by_place[cell.place, cell.node] for cell in stacked.cells)
    first = next(stack for stack in stacked.stacks if stack.trainings[0].node == "one")
    assert first.members == [by_place[t.place, "one"] for t in first.trainings]


def test_a_cell_is_listed_with_what_it_is_and_with_what_it_stacks(small_grid) -> None:
    plan = make_plan(small_grid({"mask": [{"name": "mcar", "rate": 0.2}, {"name": "severe", "complete": 40}]}))
    cells = [listed(plan, cell) for cell in plan.cells]
    student = next(cell for cell in cells if cell["node"] == "student" and cell["seed"] == 1)
    assert student["mask"] == {"name": "mcar", "rate": 0.2}
    assert (student["handling"], student["mechanism"], student["rate"]) == ("complete-case", "mcar", 0.2)
    assert (student["objective"], student["teachers"], student["of"]) == ("kl", ["one", "two"], 4)
    severe = next(cell for cell in cells if cell["mechanism"] == "severe")
    assert 0 < severe["rate"] < 1


def test_a_variant_that_cannot_run_is_told_apart_and_all_of_them_are_refused(small_grid) -> None:
    plan = make_plan(small_grid({"mask": [{"name": "mcar", "rate": 0.2}, {"name": "mcar", "rate": 0.9}]}))
    assert {place[0] for place, _ in plan.failed} == {1}
    assert all("at most 0.5 is possible" in reason for reason in plan.failed.values())
    assert {cell.place[0] for cell in plan.cells} == {0}
    with pytest.raises(ConfigError, match=r"at most 0\.5 is possible"):
        make_plan(small_grid({"mask": [{"name": "mcar", "rate": 0.8}, {"name": "mcar", "rate": 0.9}]}))
