"""Copies and near copies of rows: found where equality is surprising, and nowhere else."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from kd.data import load_source
from kd.data.columns import Frame, Images, Texts
from kd.data.leaks.duplicates import copies, refuse_copies
from kd.data.source import Source
from kd.data.splits import Split
from kd.errors import LeakError


def source(inputs, **fields) -> Source:
    rows = len(next(iter(inputs.values())))
    return Source("rows", inputs, torch.zeros(rows, dtype=torch.int64), 1, **fields)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(found: Source) -> list[list[int]]:
    return copies(found).pairs.tolist()


def test_copies_across_parts_are_refused_and_within_a_part_are_not():
    x = torch.randn(300, 8, generator=draws())
    x[1], x[250] = x[0], x[2]
    found = source({"a": x}, ids=[f"p{row}" for row in range(300)])
    assert pairs(found) == [[0, 1], [2, 250]]
    rows = torch.arange(300)
    with pytest.raises(LeakError, match=r"p2 \(train\) and p250 \(test\) are copies .* the first of 1 such pairs"):
        refuse_copies(found, Split(rows[:200], rows[200:240], rows[240:]))
    refuse_copies(found, Split(rows[:200], rows[200:240], rows[251:]))


def test_rows_of_one_group_are_no_pair():
    x = torch.randn(300, 8, generator=draws())
    x[250] = x[2]
    group = torch.arange(300).index_fill(0, torch.tensor([250]), 2)
    assert pairs(source({"a": x}, group=group)) == []


@pytest.mark.parametrize(("moved", "near"), [(0.002, True), (0.2, False)])
def test_numbers_are_alike_within_a_hundredth_of_their_spread(moved, near):
    x = 1000 * torch.randn(500, 20, generator=draws())
    x[400] = x[7] + 1000 * moved * torch.randn(20, generator=draws(1))
    assert pairs(source({"a": x})) == ([[7, 400]] if near else [])


def test_only_what_both_rows_have_is_compared():
    a, b = torch.randn(400, 8, generator=draws()), torch.randn(400, 8, generator=draws(1))
    a[9], b[20] = a[3], b[12]
    observed = torch.ones(400, 2, dtype=torch.bool)
    assert pairs(source({"a": a, "b": b}, observed=observed)) == []  # alike in one, not in the other
    observed[9, 1] = observed[20, 0] = False
    assert pairs(source({"a": a, "b": b}, observed=observed)) == [[3, 9], [12, 20]]
    observed[3] = torch.tensor([False, True])  # nothing is shared any more
    assert pairs(source({"a": a, "b": b}, observed=observed)) == [[12, 20]]


def test_tables_are_compared_by_numbers_and_categories():
    rows = np.random.default_rng(0)
    frame = pd.DataFrame({name: rows.normal(size=400) for name in "abcdef"} | {"g": rows.choice(list("xyz"), 400)})
    frame.loc[9], frame.loc[11] = frame.loc[2], frame.loc[4]
    frame.loc[9, "a"] += 0.001
    frame.loc[11, "g"] = next(letter for letter in "xyz" if letter != frame.loc[4, "g"])
    assert pairs(source({"t": Frame(frame)})) == [[2, 9]]


def test_pictures_are_compared_when_scaled_down():
    pixels = torch.randint(0, 256, (60, 3, 16, 16), generator=draws(), dtype=torch.uint8)
    pictures = torch.nn.functional.interpolate(pixels.float(), 32, mode="bilinear").round().to(torch.uint8)
    noise = torch.randint(-3, 4, pictures[0].shape, generator=draws(1))
    pictures[50] = (pictures[4].int() + noise).clamp(0, 255).to(torch.uint8)
    assert pairs(source({"p": pictures})) == [[4, 50]]


def test_texts_are_compared_by_their_words():
    drawn, words = random.Random(0), [f"w{i}" for i in range(2000)]
    texts = [" ".join(drawn.choices(words, [1 / (i + 1) for i in range(2000)], k=25)) for _ in range(800)]
    texts[7] = texts[3].upper() + "!"
    texts[11] = ", ".join(reversed(texts[10].split()))
    texts[30] = texts[20] + " moreover"
    assert pairs(source({"t": Texts(texts)})) == [[3, 7], [10, 11], [20, 30]]


HONEST = {
    "normal": lambda n, g: torch.randn(n, 6, generator=g),
    "answers": lambda n, g: torch.randint(0, 5, (n, 12), generator=g).float(),
    "rare flags": lambda n, g: (torch.rand(n, 40, generator=g) < 0.05).float(),
    "three factors": lambda n, g: torch.randn(n, 3, generator=g) @ torch.randn(3, 40, generator=g),
    "a lattice": lambda n, g: torch.randn(n, 2, generator=g).round(decimals=1) @ torch.randn(2, 20, generator=g),
    "counts": lambda n, g: torch.poisson(torch.rand(n, 30, generator=g) * 0.3, generator=g),
    "repeated columns": lambda n, g: torch.randint(0, 3, (n, 6), generator=g).float().repeat(1, 6),
    "heavy tails": lambda n, g: torch.randn(n, 5, generator=g).exp().exp(),
}


@pytest.mark.parametrize("name", HONEST)
def test_coarse_or_dependent_data_raise_no_false_alarm(name):
    for seed, rows in enumerate((200, 1000, 3000)):
        assert pairs(source({"a": HONEST[name](rows, draws(seed))})) == []


def test_shipped_data_hold_no_copies_but_those_that_are_grouped():
    for name in ("mfeat", "emoji", "synthetic"):
        assert pairs(load_source(name)) == [], name
    alone = replace(load_source("mfeat"), group=torch.arange(2000))
    assert len(pairs(alone)) == 6  # data/mfeat/CARD.md: six rows are exact copies of others


def test_a_hundred_thousand_rows_are_looked_at_in_seconds():
    x = torch.randn(100_000, 30, generator=draws())
    x[99_999], x[50_000] = x[1], x[5] + 0.001
    started = time.perf_counter()
    assert pairs(source({"a": x})) == [[1, 99_999], [5, 50_000]]
    assert time.perf_counter() - started < 30


def test_pictures_on_disk_are_decoded_to_be_compared(tmp_path):
    from PIL import Image

    paths = []
    for row in range(40):
        pixels = torch.randint(0, 256, (16, 16, 3), generator=draws(row % 39), dtype=torch.uint8).numpy()
        paths.append(tmp_path / f"{row}.png")
        Image.fromarray(pixels).save(paths[-1])
    assert pairs(source({"p": Images(paths, size=16)})) == [[0, 39]]
