"""Small files of the layout that `avmnist` reads: idx pictures of random pixels, and tones for voices."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from scipy.io import wavfile

SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write unsigned bytes as an idx file, in gzip where the name ends so."""
    shape = b"".join(size.to_bytes(4, "big") for size in values.shape)
    content = bytes([0, 0, 8, values.ndim]) + shape + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_images(folder: Path, *, each: int = 6) -> None:
    """Write so many pictures of every digit as training part, and two of every digit, in gzip, as test part.

    A digit is a bright row of its own in noise.
    """
    folder.mkdir(parents=True)
    drawn = np.random.default_rng(0)
    for part, count, ending in (("train", each, ""), ("t10k", 2, ".gz")):
        label = drawn.permutation(np.repeat(np.arange(10), count))
        pictures = drawn.integers(0, 100, (len(label), 28, 28))
        pictures[np.arange(len(label)), 2 * label + 4] = 255
        write_idx(folder / f"{part}-images-idx3-ubyte{ending}", pictures)
        write_idx(folder / f"{part}-labels-idx1-ubyte{ending}", label)


def tone(frequency: float, *, seconds: float = 0.3, loudness: float = 0.5, noise: int = 0) -> np.ndarray:
    """Return a tone at 8 kHz with a little noise, int16 [S]."""
    time = np.arange(round(8000 * seconds)) / 8000
    wave = loudness * np.sin(2 * np.pi * frequency * time) + np.random.default_rng(noise).normal(0, 0.01, len(time))
    return (wave * 32767).round().astype(np.int16)


def write_recordings(folder: Path, *, each: int = 2) -> None:
    """Write so many recordings of each digit by each of six speakers: a digit is a pitch, which a speaker shifts."""
    folder.mkdir(parents=True)
    for voice, speaker in enumerate(SPEAKERS):
        for digit in range(10):
            for number in range(each):
                noise = 100 * voice + 10 * digit + number
                wave = tone(400 + 300 * digit + 10 * voice, seconds=0.2 + 0.05 * number, noise=noise)
                wavfile.write(folder / f"{digit}_{speaker}_{number}.wav", 8000, wave)


def write_avmnist(folder: Path, *, each: int = 2) -> None:
    """Write `avmnist/images` and `avmnist/recordings` below a folder."""
    write_images(folder / "avmnist" / "images", each=6 * each)
    write_recordings(folder / "avmnist" / "recordings", each=each)
