"""`kd data describe`: what a source is, in a terminal, for machines and as a figure."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

from kd.cli import main
from kd.data import load_source
from kd.data.columns import Frame, Texts
from kd.data.source import Source
from kd.report.describe import describe, lines
from kd.report.gaps import draw, drawn, patterns

MODALITIES = ["lab", "scan"]


def gappy() -> Source:
    """40 rows: a table with two holes in the first 30, text in the last 20."""
    frame = pd.DataFrame({"age": [float(n) for n in range(40)], "ward": ["north", "south"] * 20})
    frame.loc[:1, "age"] = None
    observed = torch.tensor([[row < 30, row >= 20] for row in range(40)])
    words = [f"note {['odd', 'fine'][row % 2]}" if row >= 20 else None for row in range(40)]
    return Source(
        name="gappy",
        inputs={"lab": Frame(frame), "note": Texts(words)},
        label=torch.arange(40) % 4 // 2,
        classes=2,
        class_names=["ill", "well"],
        observed=observed,
        group=torch.arange(40) // 2,
        card={"licence": "CC0"},
    )


def test_facts_are_those_of_the_source() -> None:
    facts = describe(gappy())
    assert (facts["rows"], facts["groups"], facts["task"]) == (40, 20, "multiclass")
    assert facts["classes"] == {"ill": 20, "well": 20}
    assert facts["modalities"]["lab"] == {
        "kind": "vector",
        "rows": 30,
        "shape": [3],
        "numbers": ["age"],
        "categories": {"ward": 2},
        "empty_cells": 2,
    }
    assert facts["modalities"]["note"]["vocabulary"] > 3
    assert facts["gaps"] == [
        {"modalities": ["lab"], "rows": 20},
        {"modalities": ["lab", "note"], "rows": 10},
        {"modalities": ["note"], "rows": 10},
    ]
    assert json.loads(json.dumps(facts)) == facts


def test_the_terminal_shows_patterns_with_dots_and_counts() -> None:
    shown = "\n".join(lines(describe(gappy())))
    for words in ("40 rows in 20 groups", "ward (2)", "empty cells: 2", "30 rows (75%)", "CC0"):
        assert words in shown, words
    assert [line.split()[:3] for line in shown.splitlines() if "●" in line] == [
        ["●", "○", "20"],
        ["●", "●", "10"],
        ["○", "●", "10"],
    ]


def test_rows_too_few_to_be_split_are_described_without_what_is_learnt() -> None:
    source = Source(name="few", inputs={"note": Texts(["a", "b"])}, label=torch.tensor([0, 1]), classes=2)
    assert describe(source)["modalities"]["note"]["shape"] is None
    assert "up to ? tokens" in "\n".join(lines(describe(source)))


@pytest.mark.parametrize(
    ("task", "label", "words"),
    [
        ("regression", torch.tensor([[1.0], [2.0], [6.0]]), "1 to 6, mean 3"),
        ("multilabel", torch.tensor([[1.0], [0.0], [1.0]]), "66.7%"),
    ],
)
def test_numbers_as_labels_are_summed_up(task: str, label: torch.Tensor, words: str) -> None:
    source = Source(name="n", inputs={"x": torch.ones(3, 2)}, label=label, classes=1, task=task, class_names=["y"])
    assert words in "\n".join(lines(describe(source)))


def test_patterns_count_every_row_once() -> None:
    observed = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)) < 0.7
    found = patterns(observed, list("abcd"))
    assert sum(pattern["rows"] for pattern in found) == 200
    for pattern in found:
        same = (observed == torch.tensor([name in pattern["modalities"] for name in "abcd"])).all(dim=1)
        assert int(same.sum()) == pattern["rows"]
    assert [pattern["rows"] for pattern in found] == sorted((p["rows"] for p in found), reverse=True)


def test_rare_patterns_are_summed_up_in_one_line() -> None:
    observed = torch.tensor([[bool(n >> k & 1) for k in range(5)] for n in range(32)])
    shown = drawn(patterns(observed, list("abcde")), list("abcde"))
    assert shown[-1] == "12 more patterns, 12 rows"
    assert len(shown) == 22


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_figure_is_written(tmp_path: Path, form: str) -> None:
    found = patterns(torch.tensor([[True, True], [True, False], [False, False]]), MODALITIES)
    path = draw(found, MODALITIES, tmp_path / f"gaps.{form}", "three rows")
    assert path.stat().st_size > 1000
    if form == "svg":
        assert "scan" in path.read_text()


def test_a_source_by_name_takes_its_arguments(capsys) -> None:
    assert main(["data", "describe", "synthetic", "rows=120", "modalities=2", "json=true"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 120
    assert list(facts["modalities"]) == ["m0", "m1"]


def test_a_config_describes_its_data_and_a_figure_is_named(tmp_path: Path, capsys) -> None:
    path = tmp_path / "study.yaml"
    OmegaConf.save(OmegaConf.create({"data": {"name": "synthetic", "rows": 100}}), path)
    picture = tmp_path / "gaps.png"
    assert main(["data", "describe", str(path), "data.modalities=2", f"picture={picture}"]) == 0
    printed = capsys.readouterr().out
    assert "every row has every modality" in printed
    assert printed.splitlines()[-1] == str(picture)
    assert picture.exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["synthetic", "picture=gaps.bmp"], "expected a name that ends in .png, .svg, .pdf"),
        (["synthetic", "picture=no/such/folder/gaps.png"], "cannot write"),
        (["nowhere.yaml"], "no such config"),
        (["study.yaml", "split.test=much"], "split.test: expected float"),
        (["study.yaml", "data=5"], "data: expected a source"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(words, expected, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    OmegaConf.save(OmegaConf.create({"data": {"name": "synthetic", "rows": 100}}), "study.yaml")
    assert main(["data", "describe", *words]) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert errors.count("\n") == 1


def test_a_terminal_without_these_signs_gets_plain_ones(capsys, monkeypatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["data", "describe", "synthetic", "rows=100"]) == 0
    stream.flush()
    assert "#" * 40 in stream.buffer.getvalue().decode("ascii")


def test_synthetic_data_say_what_no_method_can_pass_and_others_do_not() -> None:
    source = load_source("synthetic", rows=40, classes=2)
    facts = describe(source)
    assert list(facts["bayes_rule"]) == ["m0", "m1", "m2", "m0+m1+m2"]
    told = facts["bayes_rule"]["m0"]["information_nats"]
    assert told == pytest.approx(source.ceiling.two_class_information(["m0"]), abs=0.02)
    assert any("accuracy" in line and "nats" in line for line in lines(facts))
    assert "bayes_rule" not in describe(gappy())
