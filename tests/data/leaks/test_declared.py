"""Masks that are what they declare, files that are not, and what a card says of encoders."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kd.data import MECHANISMS, load_source, split
from kd.data.leaks.declared import label_dependence, refuse_undeclared
from kd.data.leaks.pretraining import declared, refuse_pretrained_on
from kd.data.mask import Mask
from kd.data.masks import draw
from kd.data.mechanisms.kinds import KINDS
from kd.errors import DataError, LeakError

SOURCE = load_source("synthetic", rows=1200, modalities=3)
ROWS = split(SOURCE)
PARTS = [
    {"name": "complete"},
    {"name": "mcar", "rate": 0.4},
    {"name": "pattern", "chances": {"m0": 1, "m0+m1": 2}},
    {"name": "mar", "driver": "m0"},
    {"name": "mnar"},
    {"name": "mnar", "given": "label"},
    {"name": "severe", "complete": 50},
    {"name": "block", "sites": 9},
    {"name": "cells"},
    {"name": "span", "rate": 0.2},
    {"name": "unlabelled", "rate": 0.5},
    {"name": "unlabelled", "labels": 60},
    {"name": "joint", "parts": {"a": {"name": "mcar"}, "b": {"name": "unlabelled", "labels": 60}}},
]


def test_every_mechanism_declares_its_kind():
    assert set(KINDS) == set(MECHANISMS)
    assert set(KINDS.values()) == {"MCAR", "MAR", "MNAR", "stratified", "joint", "declared"}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: "-".join(map(str, part.values())))
def test_our_mechanisms_are_what_they_declare(part):
    mask = draw(SOURCE, ROWS, part, 3)
    assert refuse_undeclared(mask, SOURCE, ROWS)[0] == "drawn again"


def test_masks_of_pictures_words_and_gaps_are_what_they_declare():
    emoji = load_source("emoji", size=8)
    rows = split(emoji)
    refuse_undeclared(draw(emoji, rows, {"name": "mcar", "rate": 0.2}, 0), emoji, rows)


def test_a_mask_whose_bits_were_changed_is_named_with_its_rows():
    mask = draw(SOURCE, ROWS, {"name": "mcar"}, 3)
    row = int(ROWS.train[5])
    keep = mask.keep.clone()
    keep[row, 0] = ~keep[row, 0]
    with pytest.raises(
        LeakError, match=rf"mask mcar \(seed 3\): drawn again .* 1 rows see something else, .*\[{row}\]"
    ):
        refuse_undeclared(replace(mask, keep=keep), SOURCE, ROWS)


def from_file(mask: Mask, path, declaration: str) -> Mask:
    """Return a mask as a file of somebody else's, with their word for why values are missing."""
    pq.write_table(pa.table({name: mask.keep[:, i].numpy() for i, name in enumerate(mask.modalities)}), path)
    part = {"name": "file", "path": str(path), "allow_empty": True, "declared": declaration}
    return draw(SOURCE, ROWS, part, 0)


@pytest.mark.parametrize(
    ("part", "refused"),
    [
        ({"name": "mcar"}, []),
        ({"name": "mar", "driver": "m0", "strength": 3.0}, ["mcar"]),
        ({"name": "mnar", "given": "label"}, ["mcar", "mar"]),
    ],
    ids=lambda part: part["name"] if isinstance(part, dict) else "",
)
def test_a_file_is_held_to_what_it_declares(part, refused, tmp_path):
    mask, found = draw(SOURCE, ROWS, part, 0), []
    for declaration in ("mcar", "mar", "mnar", ""):
        read = from_file(mask, tmp_path / "mask.parquet", declaration)
        assert read.kind == (declaration.upper() or "unknown")
        try:
            refuse_undeclared(read, SOURCE, ROWS)
        except LeakError:
            found.append(declaration)
    assert found == refused


def test_the_test_of_dependence_holds_its_level(tmp_path):
    path, chances = tmp_path / "mask.parquet", []
    for seed in range(100):
        mask = from_file(draw(SOURCE, ROWS, {"name": "mcar", "allow_empty": True}, seed), path, "mcar")
        chances += [label_dependence(mask, SOURCE, ROWS, column) for column in range(3)]
    # 300 draws of a uniform p: Binomial(300, 0.05) is within 4..27 with probability 0.999.
    assert 4 <= sum(chance < 0.05 for chance in chances) <= 27


def test_a_card_says_which_rows_an_encoder_has_seen():
    card = {"pretraining": {"all of it": "all", "nothing": "none", "some": [3, 4]}}
    source = replace(SOURCE, card=card)
    assert declared(source, ["nothing"])[0] == "none"
    assert declared(source, ["other"])[0] == "unknown (not declared)"
    assert declared(source, ["exact", "some"])[1].tolist() == [3, 4]
    test = torch.tensor([4, 5])
    for name, rows in (("all of it", 2), ("some", 1)):
        with pytest.raises(LeakError, match=f"nodes.a: {name} was trained on {rows} test rows of synthetic"):
            refuse_pretrained_on(source, "nodes.a", [name], test)
    assert refuse_pretrained_on(source, "nodes.a", ["nothing"], test) == "none"


@pytest.mark.parametrize(("said", "fault"), [("maybe", "expected all, none"), (["row 9999"], "is no row")])
def test_a_declaration_that_says_nothing_is_refused(said, fault):
    with pytest.raises(DataError, match=fault):
        declared(replace(SOURCE, card={"pretraining": {"x": said}}), ["x"])
