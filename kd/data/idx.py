"""MNIST's four idx files: pictures and labels of training and test part, as they are or in gzip.

The format is described by LeCun, Cortes and Burges, The MNIST database of handwritten digits: four bytes that tell the
kind and the number of dimensions, each dimension as a big-endian int32, then the values. torchvision's reader takes no
gzip, and what is wrong with a file it tells as a failed assertion.
"""

from __future__ import annotations

import gzip
import math
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd.data.assemble import Faults
from kd.errors import DataError

PARTS = ("train", "t10k")
PICTURES, LABELS = 0x0803, 0x0801
"""First four bytes: unsigned bytes in three dimensions, or in one."""
SIDE = 28


def read_mnist(folder: Path) -> tuple[Tensor, Tensor]:
    """Return pictures uint8 [N, 28, 28], those of the training part first, and their digits int64 [N].

    Raises:
        DataError: every fault, a line each: a file is missing or damaged, or counts differ.
    """
    faults = Faults()
    parts = [faults.attempt(partial(_part, folder, part)) for part in PARTS]
    faults.refuse()
    pictures, labels = zip(*(part for part in parts if part is not None), strict=True)
    return torch.cat(pictures), torch.cat(labels)


def _part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    faults = Faults()
    first, second = (_there(folder / f"{part}-{what}-ubyte") for what in ("images-idx3", "labels-idx1"))
    pictures = faults.attempt(partial(read_idx, first, PICTURES))
    labels = faults.attempt(partial(read_idx, second, LABELS))
    if pictures is not None and pictures.shape[1:] != (SIDE, SIDE):
        height, width = pictures.shape[1:]
        faults.found.append(f"{first.as_posix()}: pictures of {height} x {width}; expected {SIDE} x {SIDE}, as MNIST's")
    if labels is not None and labels.max(initial=0) > 9:
        row = int((labels > 9).argmax())
        faults.found.append(
            f"{second.as_posix()}: label {labels[row]} in row {row}; expected digits, 0 to 9, as MNIST's"
        )
    if pictures is not None and labels is not None and len(pictures) != len(labels):
        counts = f"{len(pictures)} pictures but {len(labels)} labels in {second.name}"
        faults.found.append(f"{first.as_posix()}: {counts}; take both files from one copy of MNIST")
    faults.refuse()
    assert pictures is not None
    assert labels is not None
    return torch.from_numpy(pictures), torch.from_numpy(labels.astype(np.int64))


def _there(path: Path) -> Path:
    """Return the file, or the one with `.gz` where only that is there."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


def read_idx(path: Path, magic: int) -> np.ndarray:
    """Return the array of an idx file of unsigned bytes.

    Args:
        path: ends in `.gz` where it is packed.
        magic: its first four bytes as a number.

    Raises:
        DataError: it is missing, another kind of file, or not as long as its header says.
    """
    content = _content(path)
    found = int.from_bytes(content[:4], "big")
    if found != magic:
        expected = f"expected 0x{magic:08x}, an idx file of this kind"
        raise DataError(f"{path.as_posix()}: begins with 0x{found:08x}; {expected}; put MNIST's own file there")
    begin = 4 + 4 * (magic & 0xFF)
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, begin, 4))
    size = begin + math.prod(shape)
    if len(content) != size:
        raise DataError(f"{path.as_posix()}: {len(content)} bytes, its header says {size}; copy the file again")
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(shape).copy()


def _content(path: Path) -> bytes:
    name = path.as_posix()
    if not path.is_file():
        raise DataError(f"{name}: no such file, nor one with .gz; put MNIST's file of this name there")
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: not readable ({error}); copy the file again") from None
