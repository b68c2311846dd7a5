"""Audio-visual MNIST of our own: recordings of spoken digits, each with a picture of the same digit drawn by a seed.

Pictures are MNIST's (LeCun et al. 1998, doi:10.1109/5.726791), recordings those of the Free Spoken Digit Dataset
(Jackson et al. 2018, doi:10.5281/zenodo.1342401) or named alike. Both are the user's files; see `docs/avmnist.md`.

This pairing, and testing on speakers whose voice no network has heard, are our own variant: nothing computed from it
compares with published AV-MNIST tables.

- CentralNet (Vielzeuf et al. 2018, 1808.07275) takes three quarters of the energy out of the pictures by PCA, mixes
  noise of ESC-50 into the recordings, takes spectrograms of 112 x 112, and pairs as many as MNIST has pictures.
- MultiBench (Liang et al. 2021, 2107.07502) reads such arrays ready-made, and divides them into 55,000 pairs to train,
  5,000 to validate and 10,000 to test.
- SMIL (Ma et al. 2021, 2103.05677) pairs 1,500 recordings of three speakers with as many pictures, takes 20 x 20
  cepstral coefficients, and tests on other recordings of the same speakers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kd.data.assemble import Faults
from kd.data.idx import read_mnist
from kd.data.recordings import Recording, listed, read_waves
from kd.data.source import Source
from kd.data.spectrogram import POINTS, Array, log_mel, mel_filters
from kd.errors import ConfigError, DataError
from kd.seeding import generator
from kd.types import Modality

CARD = {
    "licence": "recordings CC BY-SA 4.0 (Free Spoken Digit Dataset), pictures CC BY-SA 3.0 as Keras states it (MNIST)",
    "origin": "pictures of MNIST (LeCun et al. 1998) and recordings of the Free Spoken Digit Dataset (Jackson et al. "
    "2018), paired by us; nothing computed from them compares with published AV-MNIST tables",
    "traps": "rows are sorted by speaker and digit; speakers (grouped) differ in loudness, microphone and accent; "
    "writers are not known, so that only voices are new at test; of long recordings only the middle is heard",
}


def avmnist(
    *,
    images: str,
    recordings: str,
    modalities: Sequence[str] | None = None,
    seed: int = 0,
    mels: int = 40,
    frames: int = 64,
) -> Source:
    """Load the user's files. A row is a recording with a picture of the same digit; its group is the speaker.

    `split: {folds: 6}` over six speakers tests on one speaker in each fold and chooses on another.

    Args:
        images: folder of MNIST's four idx files, as they are or with `.gz`.
        recordings: folder of wav files, `digit_speaker_number.wav`, one channel, 8 kHz, 16 bits.
        modalities: image, uint8 [3, 28, 28]; audio, a sequence float32 [frames, mels] (`kd.data.spectrogram`); or both,
            which is the default.
        seed: of the pairing. A picture is used once, again only where a digit has more recordings than pictures.
        mels: bands of the spectrogram.
        frames: of 25 ms every 10 ms; 64 are 0.66 s, which hold 95% of that data set's recordings whole.

    Raises:
        ConfigError: an argument is out of its range.
        DataError: every fault of the files that can be told at once, each with its file and what to do.
    """
    _refuse(mels=mels, frames=frames)
    pictures, pictured, spoken, waves = _read(images, recordings)
    label = torch.tensor([recording.digit for recording in spoken])
    chosen = pair(label, pictured, seed)
    speakers = sorted({recording.speaker for recording in spoken})
    source = Source(
        name="avmnist",
        inputs={
            "image": pictures[chosen].unsqueeze(1).repeat(1, 3, 1, 1),
            "audio": torch.from_numpy(np.stack([log_mel(wave, mels=mels, frames=frames) for wave in waves])),
        },
        label=label,
        classes=10,
        group=torch.tensor([speakers.index(recording.speaker) for recording in spoken]),
        card={**CARD, "speakers": ", ".join(speakers)} | _shared(chosen),
        ids=[recording.path.stem for recording in spoken],
        modality={"audio": Modality((frames, mels), "sequence")},
    )
    return source if modalities is None else source.select(modalities)


def pair(label: Tensor, pictured: Tensor, seed: int) -> Tensor:
    """Return for each row a picture of its digit, int64 [N]; one is used again only when all of its digit are used.

    Args:
        label: digits of the rows, int64 [N].
        pictured: digits of the pictures, int64 [P]; every digit of `label` is among them.
        seed: of the draw.

    >>> pair(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 1]), seed=0)[1]
    tensor(0)
    """
    chosen = torch.empty_like(label)
    for digit in label.unique().tolist():
        rows, candidates = (label == digit).nonzero()[:, 0], (pictured == digit).nonzero()[:, 0]
        shuffled = candidates[torch.randperm(len(candidates), generator=generator(seed, "avmnist", digit))]
        chosen[rows] = shuffled[torch.arange(len(rows)) % len(shuffled)]
    return chosen


def _read(images: str, recordings: str) -> tuple[Tensor, Tensor, list[Recording], list[Array]]:
    """Return pictures and their digits, recordings and their samples.

    Raises:
        DataError: every fault of both folders.
    """
    faults = Faults()
    mnist = faults.attempt(lambda: read_mnist(_folder(images, "images")))
    spoken = faults.attempt(lambda: listed(_folder(recordings, "recordings")))
    waves = None if spoken is None else faults.attempt(partial(read_waves, spoken, Path(recordings)))
    if mnist is not None and spoken is not None:
        faults.found += _unseen(mnist[1], spoken, images)
    faults.refuse()
    assert mnist is not None
    assert spoken is not None
    assert waves is not None
    return *mnist, spoken, waves


def _refuse(**counts: int) -> None:
    faults = [f"data.{key}: expected at least 1, got {value}" for key, value in counts.items() if value < 1]
    if counts["mels"] >= 1:
        filters = mel_filters(counts["mels"])
        empty = int((filters.max(axis=1) == 0).sum())
        if empty:
            fewer = f"{empty} of {counts['mels']} bands lie between two frequencies of the transform"
            faults.append(f"data.mels: {fewer} of {POINTS} points; choose fewer")
    if faults:
        raise ConfigError(faults)


def _folder(written: str, setting: str) -> Path:
    path = Path(written)
    if not path.is_dir():
        raise DataError(f"data.{setting}: {written}: no such folder; it is relative to the working directory")
    if not os.access(path, os.R_OK | os.X_OK):
        raise DataError(f"data.{setting}: {written}: you may not read it; change its permissions")
    return path


def _unseen(pictured: Tensor, spoken: Sequence[Recording], images: str) -> list[str]:
    """Return a fault for each digit that is said and has no picture."""
    said = torch.bincount(torch.tensor([recording.digit for recording in spoken]), minlength=10)
    seen = torch.bincount(pictured, minlength=10)
    lacking = ((said > 0) & (seen == 0)).nonzero()[:, 0].tolist()
    fix = "take MNIST's whole files"
    return [f"{images}: no picture of the digit {k}, which {int(said[k])} recordings say; {fix}" for k in lacking]


def _shared(chosen: Tensor) -> dict[str, str]:
    """Return what the card says about pictures that had to be used again."""
    again = len(chosen) - len(chosen.unique())
    return {"used_again": f"{again} rows show a picture that another row shows, maybe across a split"} if again else {}
