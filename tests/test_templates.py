"""`*` in a config: what it writes out, on any data, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd.ablate.grid import load_grid
from kd.errors import ConfigError
from kd.parsing import load, parse
from kd.study.check import faults
from kd.templates import spread, uses_star, written_out

FRAGMENT = """
nodes:
  "*": {sees: ["*"], steps: 20}
  student: {sees: ["*"], drop: 0.5, steps: 20, init: {"*": "*"}, learning_rates: {"*": 0.001}}
edges:
  "*": {teacher: "*", student: student}
baselines:
  linear_*: {sees: ["*"]}
ensembles:
  late: {members: ["*"]}
  linear: {members: ["linear_*"]}
contrasts:
  student_vs_late: {method: student, baseline: late}
"""
NAMES = st.lists(st.text("abcxyz", min_size=1, max_size=3), min_size=1, max_size=4, unique=True)
TREES = st.recursive(
    st.sampled_from(["*", "wide_*", "x", 1, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["*", "w_*", "u", "v"]), inner),
    max_leaves=8,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "all.yaml").write_text(FRAGMENT)
    data = {"synthetic": "{name: synthetic, modalities: 2}", "mfeat": "{name: mfeat, modalities: [fou, zer, mor]}"}
    for name, part in data.items():
        (tmp_path / f"{name}.yaml").write_text(f"use: all.yaml\ndata: {part}\nseeds: 1\n")
    return tmp_path


def tree(**changes: Any) -> dict[str, Any]:
    return {"data": {"name": "synthetic", "modalities": 2}, "nodes": {"*": {"sees": ["*"]}}, **changes}


def test_one_fragment_fits_any_data(folder: Path) -> None:
    for name, modalities in {"synthetic": ["m0", "m1"], "mfeat": ["fou", "zer", "mor"]}.items():
        study = load(folder / f"{name}.yaml")
        assert list(study.nodes) == [*modalities, "student"]
        assert [study.nodes[m].sees for m in modalities] == [[m] for m in modalities]
        assert study.nodes["student"].sees == modalities
        assert study.nodes["student"].init == {m: m for m in modalities}
        assert study.nodes["student"].learning_rates == dict.fromkeys(modalities, 0.001)
        assert [(edge.teacher, edge.student) for edge in study.edges.values()] == [(m, "student") for m in modalities]
        assert study.ensembles["linear"].members == [f"linear_{m}" for m in modalities]
        assert faults(study) == []


def test_what_is_written_for_a_name_changes_the_template_there(folder: Path) -> None:
    study = load(folder / "mfeat.yaml", ["nodes.zer.steps=40", "nodes.zer.drop=0.1", "edges.fou.weight=2"])
    assert [study.nodes[m].steps for m in ("fou", "zer", "mor")] == [20, 40, 20]
    assert (study.nodes["zer"].sees, study.nodes["zer"].drop) == (["zer"], 0.1)
    assert [study.edges[m].weight for m in ("fou", "zer", "mor")] == [2, 1, 1]
    assert list(study.nodes) == ["fou", "zer", "mor", "student"]


def test_defaults_lie_below_templates_and_name_modalities_too(folder: Path) -> None:
    study = load(folder / "synthetic.yaml", ["defaults.steps=60", "defaults.batch_size=8"])
    assert {(node.steps, node.batch_size) for node in study.nodes.values()} == {(20, 8)}
    rates = parse(tree(defaults={"learning_rates": {"*": 0.1}, "sees": ["*"]}, nodes={"both": {}}))
    assert rates.nodes["both"].learning_rates == {"m0": 0.1, "m1": 0.1}
    assert rates.nodes["both"].sees == ["m0", "m1"]


def test_grid_values_reach_what_templates_make(folder: Path) -> None:
    axes = ["grid.edges.*.weight=[1,2]", "grid.nodes.zer.steps=[20,40]", "grid.data.modalities=[[fou,zer],[zer,mor]]"]
    variants = [variant.study for variant in load_grid(folder / "mfeat.yaml", axes).variants]
    assert [set(study.nodes) for study in variants[:2]] == [{"fou", "zer", "student"}, {"zer", "mor", "student"}]
    assert [study.nodes["zer"].steps for study in variants[:4]] == [20, 20, 40, 40]
    assert [{edge.weight for edge in study.edges.values()} for study in variants[::4]] == [{1}, {2}]


@pytest.mark.parametrize("data", [{"name": "mfeat"}, {"name": "synthetic"}, {"name": "own", "modalities": 3}, "mfeat"])
def test_a_star_without_named_modalities_is_a_fault(data: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(tree(data=data), "x.yaml")
    assert str(refused.value) == "x.yaml: '*' stands for the modalities named under data.modalities; name them there"


def test_an_entry_of_its_own_with_a_modalitys_name_is_a_fault() -> None:
    with pytest.raises(ConfigError, match=r"nodes\.\*: makes 'm0', which is another entry's name; rename one"):
        parse(tree(nodes={"*": {"sees": ["*"]}, "m0": {"sees": ["m0", "m1"]}}))
    with pytest.raises(ConfigError, match=r"nodes\.m\*: makes 'mm0', and so does nodes\.\*m0; rename one"):
        parse(tree(data={"modalities": ["m0", "m"]}, nodes={"*m0": {"sees": ["*"]}, "m*": {"sees": ["*"]}}))


def test_faults_of_what_a_template_makes_name_what_was_made() -> None:
    with pytest.raises(ConfigError, match=r"nodes\.m1\.stepz: unknown key; did you mean 'steps'"):
        parse(tree(nodes={"*": {"sees": ["*"], "stepz": 3}}))


@settings(deadline=None)
@given(TREES, NAMES)
def test_nothing_is_left_of_a_star_but_in_plain_values(written: Any, names: list[str]) -> None:
    found = spread(written, names)
    assert not uses_star(found)
    assert spread(found, names) == found


@settings(deadline=None)
@given(TREES, NAMES)
def test_other_parts_of_a_config_keep_their_stars(written: Any, names: list[str]) -> None:
    data = {"name": "own", "modalities": names, "pattern": written}
    config = {"data": data, "mask": written, "title": "*", "nodes": {"both": {"sees": ["*"]}}}
    found = written_out(config)
    assert {key: found[key] for key in ("data", "mask", "title")} == {k: config[k] for k in ("data", "mask", "title")}
    assert found["nodes"] == {"both": {"sees": names}}
