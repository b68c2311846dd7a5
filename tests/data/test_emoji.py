"""Emoji: what is in the shipped files, that the words do not hold the answer, and the rules the builder applies."""

import hashlib
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageDraw

from kd.data.emoji import class_names, emoji, naming_words, stem
from kd.data.shipped import data_home, read_checked
from kd.data.splits import split
from kd.errors import ConfigError, DataError

SCRIPT = Path(__file__).parents[2] / "scripts" / "build_data_emoji.py"


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("build_data_emoji", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source():
    return emoji(size=16)


@pytest.fixture(scope="module")
def texts():
    return read_checked("emoji", "words.parquet")["words"].to_pylist()


def row(name, *short_names, code="1F600", category="Objects"):
    return {"name": name, "short_names": list(short_names), "unified": code, "category": category}


def disc(colour, *, radius=28):
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse([32 - radius, 32 - radius, 32 + radius, 32 + radius], fill=colour)
    return image


def noise(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def test_files_hold_the_base_emoji_of_the_package(source):
    # emoji.json of emoji-datasource-twitter 16.0.0: 1911 entries, 5 of them component symbols, counted by category.
    counts = dict(zip(source.class_names, source.label.bincount().tolist(), strict=True))
    assert counts == {
        "Smileys & Emotion": 169,
        "People & Body": 386,
        "Animals & Nature": 159,
        "Food & Drink": 131,
        "Travel & Places": 218,
        "Activities": 85,
        "Objects": 264,
        "Symbols": 224,
        "Flags": 270,
    }
    assert len(set(source.ids)) == len(source) == 1906
    assert source.ids[0] == "1F600"
    source.validate()


def test_every_file_has_the_checksum_that_is_listed():
    listed = json.loads((data_home() / "emoji" / "checksums.json").read_text())
    files = sorted((data_home() / "emoji").glob("*.parquet"))
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == listed


def test_all_shipped_data_stay_below_twelve_megabytes():
    sizes = {path: path.stat().st_size for path in data_home().rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 12_000_000
    assert sum(size for path, size in sizes.items() if path.parent.name == "emoji") < 6_000_000


def test_pictures_are_opaque_and_64_pixels_wide(source):
    files = read_checked("emoji", "image.parquet")["png"].to_pylist()
    assert all(content.startswith(b"\x89PNG") for content in files)
    assert source.observed[:, 0].all()
    # IHDR: width, height, bit depth 8, colour type 2 (RGB without alpha).
    assert {content[16:26] for content in files} == {bytes([0, 0, 0, 64, 0, 0, 0, 64, 8, 2])}


def test_the_flag_of_japan_is_a_red_disc_on_a_light_field():
    picture = emoji(size=64, modalities=["image"])
    flag = picture.inputs["image"].take(torch.tensor([picture.ids.index("1F1EF-1F1F5")]))[0].int()
    assert flag[:, 0, 0].tolist() == [255, 255, 255]  # transparent in the package
    red, green, blue = flag[:, 32, 32].tolist()
    assert red > 200
    assert max(green, blue) < 90


@pytest.mark.parametrize("size", [8, 48])
def test_size_is_that_of_the_pictures(size):
    found = emoji(size=size)
    assert found.modality["image"].shape == (3, size, size)
    assert found.inputs["image"].take(torch.tensor([5, 2])).shape == (2, 3, size, size)


def test_rows_without_words_are_not_observed(source, texts):
    assert [not text for text in texts] == (~source.observed[:, 1]).tolist()
    assert 0 < sum(not text for text in texts) < 0.05 * len(texts)


def test_no_word_left_is_found_by_the_rule(texts):
    every = {word for text in texts for word in text.split()}
    assert naming_words(every, class_names("category") + class_names("subcategory")) == []


def test_no_word_contains_a_word_of_its_own_class(texts):
    # Independent of the rule: no stems but the plural's s, anywhere in the word, and of the row's own class only.
    table, classes = read_checked("emoji", "label.parquet"), read_checked("emoji", "classes.parquet").to_pydict()
    for text, k in zip(texts, table["subcategory"].to_pylist(), strict=True):
        name = f"{classes['category'][k]} {classes['subcategory'][k]}".lower()
        parts = {part.removesuffix("s") for part in re.findall(r"[a-z]{3,}", name)}
        assert not [(text, part) for part in parts for word in text.split() if part in word]


def test_words_hold_no_codes_and_no_markers(texts, builder):
    every = {word for text in texts for word in text.split()}
    assert all(re.fullmatch("[a-z]+", word) for word in every)
    assert not every & set(builder.MARKERS.split())
    france = read_checked("emoji", "label.parquet")["code"].to_pylist().index("1F1EB-1F1F7")
    assert texts[france] == "france"


def test_words_that_are_certain_of_a_category_are_those_of_the_card(texts, source, builder):
    certain = builder.certain_words(texts, source.label.numpy(), source.group.numpy())
    assert {word for word, _, _ in certain} == {
        "square", "islands", "boy", "girl", "circle", "triangle", "thirty", "worker", "cloud", "woman"
    }  # fmt: skip


def test_numbers_of_the_card_are_those_of_the_files(builder):
    folder = data_home() / "emoji"
    card = (folder / "CARD.md").read_text()
    assert builder.fill(card, builder.card_tables(folder)) == card


def test_families_are_whole_and_none_is_a_giant(source):
    sizes = source.group.unique(return_counts=True)[1]
    assert sizes.max() <= 30
    assert (source.group <= torch.arange(len(source))).all()
    for codes in (
        ["1F550", "1F55F", "1F567"],  # clock faces
        ["1F311", "1F317", "1F31D"],  # phases of the moon
        ["1F9D1-200D-1F680", "1F468-200D-1F680", "1F469-200D-1F680"],  # astronauts
        ["1F3C3", "1F3C3-200D-2640-FE0F", "1F3C3-200D-2642-FE0F-200D-27A1-FE0F"],  # runners
        ["1F46A", "1F468-200D-1F469-200D-1F466", "1F469-200D-1F467"],  # families
        ["0031-FE0F-20E3", "0039-FE0F-20E3"],  # keycaps
        ["1F1F9-1F1E9", "1F1F7-1F1F4"],  # Chad, Romania
    ):
        assert len({int(source.group[source.ids.index(code)]) for code in codes}) == 1
    flags = source.group[source.label == source.class_names.index("Flags")]
    assert len(flags.unique()) > 0.85 * len(flags)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("target", ["category", "subcategory"])
def test_splits_keep_groups_whole_and_have_every_class_in_every_part(target, seed):
    found = emoji(target=target, modalities=["words"])
    parts = split(found, seed=seed).validate(found)
    for ids in (parts.train, parts.validation, parts.test):
        assert len(found.label[ids].unique()) == found.classes


def test_subcategories_of_few_groups_are_left_out_with_their_rows():
    found = emoji(target="subcategory", modalities=["words"])
    groups = [found.group[found.label == k].unique().numel() for k in range(found.classes)]
    assert min(groups) >= 8
    assert (len(found), found.classes, len(found.class_names)) == (1610, 62, 62)
    whole = emoji(target="subcategory", modalities=["words"], smallest=1)
    assert (len(whole), whole.classes) == (1906, 98)
    assert found.class_names[int(found.label[found.ids.index("1F600")])] == "face-smiling"
    assert set(found.ids) < set(whole.ids)


def test_words_become_ids_that_no_training_row_overflows():
    source = emoji()
    rows = split(source, seed=0).train
    ready = source.prepare({"image": rows, "words": rows[source.observed[rows, 1]]})
    longer = emoji(length=2 * ready.modality["words"].shape[0])
    longer = longer.prepare({"image": rows, "words": rows[source.observed[rows, 1]]})
    ids, more = (each.inputs["words"].take(rows) for each in (ready, longer))
    assert torch.equal(ids, more[:, : ids.shape[1]])
    assert (more[:, ids.shape[1] :] == ready.modality["words"].pad).all()
    assert (ids[:, -1] != ready.modality["words"].pad).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "subcategories"}, "target: .*did you mean 'subcategory'"),
        ({"size": 0}, "size: expected at least 2"),
        ({"length": 0}, "length: expected at least 1"),
        ({"smallest": 500}, "smallest: 500 leaves 0 classes"),
    ],
)
def test_argument_out_of_range_is_refused_in_one_line(arguments, message):
    with pytest.raises(ConfigError, match=message) as caught:
        emoji(**arguments)
    assert "\n" not in str(caught.value)


def test_unknown_modality_is_refused_with_a_suggestion():
    with pytest.raises(DataError, match="did you mean 'words'"):
        emoji(modalities=["word"])


def test_damaged_file_is_refused_in_one_line(tmp_path, monkeypatch):
    shutil.copytree(data_home() / "emoji", tmp_path / "data" / "emoji")
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    damaged = tmp_path / "data" / "emoji" / "words.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"words\.parquet: damaged") as caught:
        emoji()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pair", [("flag", "flags"), ("sleepy", "sleeping"), ("activity", "activities")])
def test_forms_of_a_word_have_one_stem(pair):
    assert stem(pair[0]) == stem(pair[1])


def test_rule_finds_forms_and_compounds_and_leaves_the_rest():
    classes = ["Flags", "plant-flower", "musical-instrument", "av-symbol", "sky & weather"]
    found = naming_words(["flag", "sunflower", "music", "sky", "avocado", "rose", "tulips", "sea"], classes)
    assert found == ["flag", "sunflower", "sky"]


def test_words_are_removed_whatever_the_class_of_the_row(builder):
    words = builder.raw_words(row("CLOCK FACE ONE-THIRTY", "clock130", category="Travel & Places"))
    assert words == ["clock", "face", "one", "thirty"]
    assert builder.kept_words(words, ["face-smiling"]) == ["clock", "one", "thirty"]
    assert builder.kept_words(["squared", "man", "cook"], ["Flags"]) == ["man", "cook"]


def test_words_of_a_country_are_its_name_only(builder):
    assert builder.raw_words(row("Côte d’Ivoire Flag", "flag-ci", code="1F1E8-1F1EE")) == ["cote", "divoire", "flag"]


def test_names_that_differ_in_person_number_or_colour_only_are_one_family(builder):
    def tied(first, second):
        return bool(builder.word_keys(first) & builder.word_keys(second))

    assert tied(row("ORANGE BOOK", "orange_book"), row("GREEN BOOK", "green_book"))
    assert tied(row("CLOCK FACE TWO OCLOCK", "clock2"), row("CLOCK FACE ONE-THIRTY", "clock130"))
    assert tied(row("RUNNER", "runner", "running"), row("MAN RUNNING", "man-running"))
    assert not tied(row("OPEN BOOK", "book"), row("CLOSED LOCK WITH KEY", "closed_lock_with_key"))
    assert not tied(row("WHEEL", "wheel"), row("WHEEL", "wheel", category="Symbols"))
    assert builder.word_keys(row("MAN", "man")) == set()


def test_codes_that_differ_in_person_or_gender_only_are_one_family(builder):
    def key(code):
        return builder.code_keys(row("X", code=code))

    assert key("1F468-200D-1F680") == key("1F9D1-200D-1F680") != key("1F680")
    assert key("1F3C3") == key("1F3C3-200D-2640-FE0F")
    assert key("1F468-200D-1F469-200D-1F466") == key("1F469-200D-1F467") != key("1F469")


def test_near_copies_are_tied_transitively_and_others_are_not(builder):
    rows = [row(name, code=code) for name, code in (("APE", "41"), ("BEE", "42"), ("CROW", "43"), ("DEER", "44"))]
    images = [disc("gold"), noise(0), disc("gold", radius=27), disc("gold", radius=26)]
    assert builder.families(rows, images).tolist() == [0, 1, 0, 0]


def test_difference_is_measured_against_the_ink(builder):
    # Two small marks on white differ little in absolute terms, but in nothing do they look alike.
    left, right = Image.new("RGB", (64, 64), "white"), Image.new("RGB", (64, 64), "white")
    left.paste((0, 0, 0), (4, 4, 12, 12))
    right.paste((0, 0, 0), (50, 50, 58, 58))
    assert builder.near_pairs([left, right]).shape == (2, 0)


def test_building_twice_gives_the_same_bytes(builder, tmp_path):
    rows = [row("APE", "ape") | {"subcategory": "a"}, row("BEE", "bee", code="1F41D") | {"subcategory": "b"}]
    pngs = [builder.encode(noise(1)), builder.encode(disc("red"))]
    for folder in ("one", "two"):
        builder.write(builder.tables(rows, pngs), tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert pq.read_table(tmp_path / "one" / "words.parquet")["words"].to_pylist() == ["ape", "bee"]


def test_transparent_pixels_become_white(builder):
    clear = Image.new("RGBA", (64, 64), (200, 0, 0, 0))
    assert builder.flatten(builder.encode(clear)).getpixel((0, 0)) == (255, 255, 255)


def test_builder_without_npm_or_with_another_archive_says_so_in_one_line(builder, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.tgz"
    other.write_bytes(b"no package")
    assert builder.main([str(other)]) == 2
    assert builder.main([str(tmp_path / "absent.tgz")]) == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    assert builder.main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "other.tgz: its sha256 is not" in lines[0]
    assert "absent.tgz: No such file" in lines[1]
    assert "npm: not found; install Node.js" in lines[2]
