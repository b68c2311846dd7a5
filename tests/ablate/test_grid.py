"""A grid over a config's fields: what it reaches, and what it refuses."""

from __future__ import annotations

import json

import pytest

from kd.ablate.grid import load_grid
from kd.errors import ConfigError
from kd.parsing import load

FILE = """
data: {name: synthetic, modalities: 2, rows: 300}
nodes:
  one: {sees: [m0], steps: 20}
  student: {sees: [m0, m1], steps: 20}
edges:
  one: {teacher: one, student: student}
seeds: 2
grid:
  mask: [{name: complete}, {name: mcar, rate: 0.2}]
  nodes.*.drop: [0.0, 0.3]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text(FILE)
    return path


def test_every_combination_is_a_variant_and_a_star_reaches_all_names(file) -> None:
    grid = load_grid(file)
    assert [variant.name for variant in grid.variants] == [
        'mask={"name": "complete"} nodes.*.drop=0.0',
        'mask={"name": "complete"} nodes.*.drop=0.3',
        'mask={"name": "mcar", "rate": 0.2} nodes.*.drop=0.0',
        'mask={"name": "mcar", "rate": 0.2} nodes.*.drop=0.3',
    ]
    assert [node.drop for node in grid.variants[3].study.nodes.values()] == [0.3, 0.3]
    assert grid.variants[3].study.mask == {"name": "mcar", "rate": 0.2}
    assert grid.replicas == 128


def test_the_command_line_adds_axes_and_changes_them(file) -> None:
    grid = load_grid(file, ["grid.edges.one.weight=[1,2]", "grid.mask=[{name: complete}]", "replicas=4", "seeds=3"])
    assert list(grid.axes) == ["mask", "nodes.*.drop", "edges.one.weight"]
    assert len(grid.variants) == 4
    assert grid.replicas == 4
    assert {variant.study.edges["one"].weight for variant in grid.variants} == {1, 2}
    assert grid.first.seeds == 3


def test_without_a_grid_there_is_one_variant(file) -> None:
    file.write_text(FILE[: FILE.index("grid:")])
    assert [variant.values for variant in load_grid(file).variants] == [{}]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("grid.masks.rate=[0.1]", r"grid\.masks\.rate: unknown key; did you mean 'mask'"),
        ("grid.seeds=[1,2]", r"grid\.seeds: one for all variants; set seeds itself"),
        ("grid.jobs=[1,2]", r"grid\.jobs: one for all variants"),
        ("grid.nodes.one.drop=0.3", r"grid\.nodes\.one\.drop: expected a list of values, got 0\.3"),
        ("grid.nodes.one.drop=[]", "expected a list of values"),
        ("grid.nodes.one.drop=[0.1,0.1]", "names a value twice"),
        ("grid.nodes.one.dorp=[0.1]", r"nodes\.one\.dorp: unknown key; did you mean 'drop'"),
        ("grid.ensembles.*.combine=[mean]", r"there is nothing for '\*' to stand for"),
        ("replicas=0", "replicas: expected a whole number of at least 1, got 0"),
    ],
)
def test_faults_of_a_grid_name_the_field_and_the_fix(file, override, message) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        load_grid(file, [override])
    assert str(file) in str(refused.value)


def fragments(folder, **texts: str) -> None:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)


def test_an_axis_of_fragments_sets_several_fields_at_once_before_the_other_axes(file, tmp_path) -> None:
    fragments(
        tmp_path,
        much="use: below.yaml\nmask: {name: mcar, rate: 0.5}",
        below="nodes: {one: {steps: 30, drop: 0.1}}",
        none="mask: {name: complete}",
    )
    file.write_text(FILE[: FILE.index("grid:")] + "grid: {use: [much.yaml, none.yaml], nodes.one.drop: [0.2]}")
    grid = load_grid(file)
    assert grid.axes == {"use": ["much", "none"], "nodes.one.drop": [0.2]}
    assert [variant.name for variant in grid.variants] == ["use=much nodes.one.drop=0.2", "use=none nodes.one.drop=0.2"]
    much, none = (variant.study for variant in grid.variants)
    assert (much.mask, much.nodes["one"].steps, much.nodes["one"].drop) == ({"name": "mcar", "rate": 0.5}, 30, 0.2)
    assert (none.mask, none.nodes["one"].steps) == ({"name": "complete"}, 20)


@pytest.mark.parametrize(
    ("files", "texts", "message"),
    [
        (["a.yaml"], {"a": "seeds: 3"}, r"grid\.use: a sets seeds, which all variants have alike; set seeds in"),
        (["a.yaml"], {"a": "grid: {mask.rate: [0.1]}"}, "a sets grid, which all variants have alike"),
        (["a.yaml", "./a.yaml"], {"a": "split: {seed: 1}"}, "two files of one name; tables tell settings by it"),
        ([{"name": "a"}], {}, "expected names of files"),
        (["b.yaml"], {}, r"b\.yaml: no such config"),
        (["a.yaml"], {"a": "use: grid.yaml"}, "uses itself in the end"),
    ],
)
def test_fragments_that_no_variant_can_use_are_refused(file, tmp_path, files, texts, message) -> None:
    fragments(tmp_path, **texts)
    file.write_text(FILE[: FILE.index("grid:")] + f"grid: {{use: {json.dumps(files)}}}")
    with pytest.raises(ConfigError, match=message):
        load_grid(file)


def test_a_grid_is_not_a_study(file) -> None:
    with pytest.raises(ConfigError, match="grid: many studies at once; run them with `kd ablate`"):
        load(file)
