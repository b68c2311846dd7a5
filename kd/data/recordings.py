"""Recordings of spoken digits in a folder, named as the Free Spoken Digit Dataset names them: `7_jackson_32.wav`."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import wavfile

from kd.data.readers import CLUTTER
from kd.data.sheets import shortened
from kd.data.spectrogram import RATE, WINDOW, Array
from kd.errors import DataError

NAME = re.compile(r"([0-9])_([^_]+)_([0-9]+)\.wav")


@dataclass(frozen=True, order=True)
class Recording:
    """What a file's name says; recordings are in order by speaker, digit and number.

    Attributes:
        speaker: who speaks.
        digit: what is said, 0 to 9.
        number: which of the speaker's recordings of this digit.
        path: the file.
    """

    speaker: str
    digit: int
    number: int
    path: Path


def listed(folder: Path) -> list[Recording]:
    """Return the recordings of a folder in order; none is opened.

    Raises:
        DataError: every fault, a line each: a file of another name, or none at all.
    """
    files = sorted(file for file in folder.iterdir() if not file.name.startswith(".") and file.name not in CLUTTER)
    found = {file: NAME.fullmatch(file.name) for file in files}
    if not any(found.values()):
        inside = folder / "recordings"
        hint = f"name {inside.as_posix()}" if inside.is_dir() else "put the recordings there"
        raise DataError(f"{folder.as_posix()}: no file named as 7_jackson_32.wav; {hint}")
    fix = "expected digit_speaker_number.wav, as 7_jackson_32.wav; rename it or move it out of the folder"
    faults = [f"{file.as_posix()}: {fix}" for file, match in found.items() if match is None]
    if faults:
        raise DataError(shortened(faults, folder.as_posix()))
    return sorted(Recording(match[2], int(match[1]), int(match[3]), file) for file, match in found.items() if match)


def read_waves(recordings: Sequence[Recording], folder: Path) -> list[Array]:
    """Return the samples of each recording, from -1 to 1.

    Raises:
        DataError: a line for each recording that cannot be used.
    """
    waves, faults = [], []
    for recording in recordings:
        try:
            waves.append(read_wave(recording.path))
        except DataError as error:
            faults += error.faults
    if faults:
        raise DataError(shortened(faults, folder.as_posix()))
    return waves


def read_wave(path: Path) -> Array:
    """Return the samples of a recording, from -1 to 1: one channel, 8 kHz, 16-bit whole numbers.

    Raises:
        DataError: it is damaged, of another form, shorter than a frame of 25 ms, or silent throughout.
    """
    name = path.as_posix()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", wavfile.WavFileWarning
            )  # chunks beside the samples, as names of a programme
            warnings.filterwarnings("error", "Reached EOF prematurely", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (OSError, ValueError, EOFError, struct.error, wavfile.WavFileWarning) as error:
        raise DataError(f"{name}: not readable as wav ({error}); copy the file again") from None
    if samples.ndim != 1 or rate != RATE or samples.dtype != np.int16:
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        found = f"{channels} channel{'s' if channels > 1 else ''}, {rate} Hz, {samples.dtype}"
        raise DataError(f"{name}: {found}; expected 1 channel, {RATE} Hz, int16; convert it")
    if len(samples) < WINDOW:
        raise DataError(
            f"{name}: {len(samples)} samples; expected at least {WINDOW}, 25 ms; record it again or remove it"
        )
    if samples.min() == samples.max():
        raise DataError(f"{name}: silent, all samples are {samples[0]}; record it again or remove it")
    return np.asarray(samples / 32768)
