"""Columns of raw values: what they learn, from which rows, and what they hand out."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kd.data.columns import Frame, Images, Texts
from kd.errors import DataError


def png(colour: tuple[int, int, int], width: int = 10) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, 10), colour).save(buffer, "png")
    return buffer.getvalue()


def test_pictures_of_rows_without_one_are_black() -> None:
    column = Images([png((9, 8, 7)), None], size=4)
    taken = column.take(torch.tensor([1, 0]))
    assert taken.dtype == torch.uint8
    assert taken[0].eq(0).all()
    assert taken[1].flatten(1).unique(dim=1)[:, 0].tolist() == [9, 8, 7]


def test_loaded_pictures_are_those_that_would_be_decoded() -> None:
    pictures = [png((30 * n, 5, 250 - 20 * n), width=8 + n) for n in range(6)]
    column, rows = Images([*pictures, None], size=6), torch.tensor([6, 2, 2, 5])
    loaded = column.load()
    assert torch.equal(loaded.take(rows), column.take(rows))
    assert loaded.digest == column.digest
    assert column.decoded is None


def test_digest_of_pictures_follows_content_and_size_and_not_the_file_name(tmp_path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png((1, 2, 3)))
    (tmp_path / "c.png").write_bytes(png((1, 2, 4)))
    one, two, other = (Images([tmp_path / f"{name}.png"], size=4).digest for name in "abc")
    assert one == two != other
    assert one != Images([tmp_path / "a.png"], size=5).digest


@pytest.mark.parametrize("read", [Images.load, Images.check])
def test_every_damaged_picture_is_named_at_once(tmp_path, read) -> None:
    whole = png((1, 2, 3), width=200)
    values = []
    for name, content in (("good", whole), ("cut", whole[:-40]), ("text", b"hello"), ("empty", b"")):
        (tmp_path / f"{name}.png").write_bytes(content)
        values.append(tmp_path / f"{name}.png")
    with pytest.raises(DataError) as caught:
        read(Images([*values, None, tmp_path / "gone.png"], size=4))
    named = ["cut.png", "text.png", "empty.png", "gone.png"]
    assert [fault.partition(": ")[0] for fault in caught.value.faults] == [str(tmp_path / name) for name in named]


def test_a_checked_picture_that_was_damaged_since_is_read_again(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png((1, 2, 3)))
    Images([path], size=4).check()
    path.write_bytes(b"damaged")
    with pytest.raises(DataError):
        Images([path], size=4).check()


def test_a_vocabulary_holds_no_word_of_other_rows() -> None:
    column = Texts(["red fox", "red dog", "zebra"])
    fitted = column.fit(torch.tensor([0, 1]))
    pieces = set(fitted.processor.tokenizer.get_vocab())
    assert {"fox", "dog"} <= pieces
    assert not any("z" in piece for piece in pieces)
    assert column.modality is None, "fit returns another column"


def test_texts_are_as_long_as_the_longest_fitted_row() -> None:
    column = Texts(["one two three", "one", None, "one two three four five six"])
    fitted = column.fit(torch.tensor([0, 1]))
    assert fitted.modality.shape == (4,), "three words and the first token"
    assert fitted.take(torch.arange(4)).shape == (4, 4)


def test_equal_texts_give_equal_vocabularies() -> None:
    # The trainer's own hash tables are seeded anew each time, inside one process as well.
    column = Texts([f"the {word} tissue looks {other}" for word in ("benign", "malign") for other in ("odd", "fine")])
    digests = {column.fit(torch.arange(4)).processor.digest for _ in range(5)}
    assert len(digests) == 1


def test_categories_come_from_fitted_rows_only_and_others_are_zeros() -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0, np.nan], "ward": ["north", "south", "west"]})
    fitted = Frame(frame).fit(torch.tensor([0, 1]))
    assert fitted.processor.names == ["age", "ward=north", "ward=south"]
    assert fitted.take(torch.tensor([2]))[0].nan_to_num(-1).tolist() == [-1, 0, 0]


def test_a_table_of_which_training_saw_nothing_is_refused() -> None:
    frame = pd.DataFrame({"ward": [None, "south"]}, dtype="str")
    with pytest.raises(DataError, match="no training row has a value in ward"):
        Frame(frame).fit(torch.tensor([0]))


def test_digest_of_a_table_follows_its_cells_and_names() -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0]})
    assert Frame(frame).digest == Frame(frame.set_axis([5, 6])).digest
    assert Frame(frame).digest != Frame(frame + 1).digest
    assert Frame(frame).digest != Frame(frame.rename(columns={"age": "dose"})).digest
