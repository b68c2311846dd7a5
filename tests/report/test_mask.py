"""What `kd mask show` says: the same patterns in a terminal, as JSON and as a page."""

from __future__ import annotations

import json
import re

import pytest

from kd.cli import main

CONFIG = "configs/kdd2020/mfeat.yaml"


def test_terminal_and_json_say_the_same(capsys) -> None:
    assert main(["mask", "show", CONFIG, "seed=3"]) == 0
    shown = capsys.readouterr().out
    assert main(["mask", "show", CONFIG, "seed=3", "json=true"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fingerprint"] in shown
    counts = {"+".join(p["modalities"]): p["rows"] for p in facts["patterns"]}
    assert counts["fou+zer+mor"] == 50
    assert sum(counts.values()) == facts["rows"]
    for rows in counts.values():
        assert re.search(rf"[●○]\s+{rows}\s+█", shown)


def test_page_holds_the_picture_and_fetches_nothing(tmp_path, capsys) -> None:
    path = tmp_path / "mask.html"
    assert main(["mask", "show", CONFIG, f"html={path}", f"picture={tmp_path / 'mask.svg'}"]) == 0
    page = path.read_text()
    assert "<svg" in page
    assert "50 keep all 3 modalities" in page
    assert "go unused" in page
    assert not re.search(r"(src|href)=.https?:", page)
    assert (tmp_path / "mask.svg").read_text().startswith("<?xml")
    assert str(path) in capsys.readouterr().out


def test_what_is_hidden_inside_is_told_beside_modalities(capsys) -> None:
    part = "mask={name: joint, parts: {a: {name: span, rate: 0.2}, b: {name: unlabelled, labels: 60}}}"
    assert main(["mask", "show", CONFIG, part]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"labels\s+95\.4%", shown)
    assert re.search(r"values in fou\s+(19|20)\.\d%", shown)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", CONFIG, "to=x.parquet"], "kd mask show: 'to=x.parquet' is not a setting"),
        (["make", CONFIG, "html=x.html"], "kd mask make: 'html=x.html' is not a setting"),
        (["show", CONFIG, "picture=x.bmp"], "picture=x.bmp: expected a name that ends in"),
        (["show", CONFIG, f"html={CONFIG}/x.html"], f"{CONFIG}"),
    ],
)
def test_wrong_settings_get_one_line(words, message, capsys) -> None:
    assert main(["mask", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
