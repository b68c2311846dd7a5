"""Processors: raw values become tensors, and the state takes everything along."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kd.errors import ConfigError, DataError, RecordError
from kd.processors import load_processor
from kd.processors.features import Features
from kd.processors.pictures import Pixels, picture
from kd.processors.words import NGrams, Tokenizer

TEXTS = ["the red fox", "a red dog, asleep", "two foxes"]


def encoded(image: Image.Image, form: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_paths_bytes_images_and_tensors_of_a_picture_are_the_same(tmp_path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8))
    path = tmp_path / "a.png"
    path.write_bytes(encoded(image))
    tensor = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    pixels = Pixels(5)([path, str(path), encoded(image), image, tensor, tensor.numpy()])
    assert pixels.shape == (6, 3, 5, 5)
    assert all(torch.equal(pixels[0], other) for other in pixels)


def test_transparent_pixels_are_white() -> None:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert picture(encoded(image)).unique().tolist() == [255]


def test_a_grey_picture_has_three_equal_channels() -> None:
    assert picture(encoded(Image.new("L", (3, 3), 77))).unique().tolist() == [77]


def test_a_picture_is_turned_as_its_camera_noted() -> None:
    image = Image.new("RGB", (6, 4), "white")
    image.paste((0, 0, 0), (0, 0, 3, 4))
    exif = Image.Exif()
    exif[274] = 6  # EXIF tag Orientation: turn clockwise by a quarter to see it upright
    turned = picture(encoded(image, exif=exif))
    assert turned.shape == (3, 6, 4)
    assert turned[0, :3].unique().tolist() == [0], "what was on the left is above now"
    assert turned[0, 3:].unique().tolist() == [255]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"no picture", "not a picture"),
        (encoded(Image.new("I;16", (3, 3))), "more than 8 bits"),
        (torch.zeros(3, 4, 4), "expected uint8"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), r"expected uint8 \[3, H, W\]"),
        ("nowhere.png", "nowhere.png: no such picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(value, words) -> None:
    with pytest.raises(DataError, match=words) as caught:
        Pixels(4)([value])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda: Pixels(1), lambda: Tokenizer.trained(TEXTS, length=0)])
def test_sizes_out_of_range_are_refused(make) -> None:
    with pytest.raises(ConfigError, match="expected at least"):
        make()


def test_words_are_cut_and_padded_to_one_length() -> None:
    tokenizer = Tokenizer.trained(TEXTS, length=4)
    ids = tokenizer([*TEXTS, "", None])
    assert ids.shape == (5, 4)
    assert ids.dtype == torch.int64
    assert ids[3].tolist() == ids[4].tolist()
    assert (ids[3, 1:] == tokenizer.modality.pad).all()
    assert int(ids.max()) < tokenizer.modality.vocabulary


def test_equal_texts_give_equal_vocabularies_also_where_the_number_of_pieces_is_limited() -> None:
    assert len({Tokenizer.trained(TEXTS, length=4, vocabulary=30).digest for _ in range(5)}) == 1


def test_pieces_of_words_are_no_special_tokens() -> None:
    tokenizer = Tokenizer.trained(TEXTS, length=8)
    spelled = tokenizer.tokenizer.tokenize("##x red")
    assert "##x" not in spelled, "a text that spells a piece is not that piece"
    assert len(tokenizer.tokenizer.all_special_tokens) == 3


@pytest.mark.parametrize(
    ("processor", "values"),
    [
        (Pixels(4), [Image.new("RGB", (5, 6), "red")]),
        (Tokenizer.trained(TEXTS, length=6), ["a fox asleep", "unseen word"]),
        (Features(["age"], {"ward": ["north", "south"]}), [{"age": None, "ward": "south"}, {"age": 3, "ward": "else"}]),
    ],
)
def test_state_is_json_and_gives_the_same_processor_back(processor, values) -> None:
    again = load_processor(json.loads(json.dumps(processor.state())))
    assert again.digest == processor.digest
    assert again.modality == processor.modality
    torch.testing.assert_close(again(values), processor(values), equal_nan=True)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"name": "waves"}, "newer version"),
        ({"name": "pixels"}, "damaged"),
        ({}, "damaged"),
        ({"name": "tokenizer", "length": 4, "special": {}, "tokenizer": {"model": 3}}, "damaged"),
    ],
)
def test_a_state_that_is_damaged_or_of_a_newer_version_is_refused(state, words) -> None:
    with pytest.raises(RecordError, match=words) as caught:
        load_processor(state)
    assert "\n" not in str(caught.value)


def test_rows_as_mappings_and_as_a_frame_are_the_same() -> None:
    features = Features(["age", "dose"], {"ward": ["north", "south"]})
    rows = [{"age": 3, "dose": None, "ward": "south"}, {"age": 4.5, "dose": 1, "ward": None}]
    expected = torch.tensor([[3, float("nan"), 0, 1], [4.5, 1, 0, 0]])
    torch.testing.assert_close(features(rows), expected, equal_nan=True)
    torch.testing.assert_close(features(pd.DataFrame(rows)), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"age": 3}], "column 'ward' is missing; expected age, ward"),
        ([{"age": "old", "ward": "north"}], "column 'age': expected a number, or None where empty, got 'old'"),
    ],
)
def test_a_row_of_another_table_is_refused_in_one_line(rows, words) -> None:
    with pytest.raises(DataError, match=words):
        Features(["age"], {"ward": ["north"]})(rows)


def test_ngrams_are_those_of_scikit_learn_and_unseen_ones_are_left_out() -> None:
    # Origin of the expected n-grams: scikit-learn's CountVectorizer(analyzer="char_wb"), written out by hand.
    made = NGrams.trained(["cat", "cat", "car"], length=8, vocabulary=100, letters=(2, 2))
    assert made.known == [" c", "ca", "at", "t ", "ar", "r "]
    assert made(["car", "dog", None]).tolist() == [[1, 2, 5, 6, 0, 0, 0, 0], [0] * 8, [0] * 8]
    assert made.modality.vocabulary == 7


def test_a_text_is_cut_into_ngrams_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = NGrams.trained(["cat", "car"], length=8)
    first = made(["cat", None, "bat"])
    assert torch.equal(made(["cat", "cat"]), first[[0, 0]])
    monkeypatch.setattr(made, "_cut", None)
    assert torch.equal(made(["bat", "cat", None]), first[[2, 0, 1]])
    with pytest.raises(TypeError):
        made(["rat"])


def test_ngrams_keep_the_frequent_ones_and_come_back_from_their_state() -> None:
    made = NGrams.trained(["cat", "cat", "car"], length=3, vocabulary=4, letters=(2, 2))
    assert made(["cart"]).tolist() == [[1, 2, 4]]
    again = load_processor(json.loads(json.dumps(made.state())))
    assert torch.equal(again(["cart"]), made(["cart"]))
    assert again.digest == made.digest
