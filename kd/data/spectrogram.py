"""Log-mel spectrograms of short recordings at 8 kHz.

Frames of 25 ms every 10 ms under a Hann window; the power of each frequency; triangular filters whose corners are
equally spaced on the mel scale; the natural logarithm with a floor:

    mel(f)  = 2595 log10(1 + f / 700)
    H_b(f)  = max(0, min((f - l_b) / (c_b - l_b), (r_b - f) / (r_b - c_b)))
    S_{t,b} = ln max(floor, sum_k H_b(f_k) |DFT(frame_t)_k|^2)

Sources: the mel scale in the form of O'Shaughnessy 1987, Speech Communication, as HTK has it; filters of height 1 after
Davis and Mermelstein 1980, doi:10.1109/TASSP.1980.1163420.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.signal import windows

Array = npt.NDArray[np.float64]

RATE = 8000
"""Samples per second."""
WINDOW, HOP = 200, 80
"""Samples of a frame, 25 ms, and between the beginnings of two, 10 ms."""
POINTS = 256
"""Of the discrete Fourier transform: the next power of two above a frame, so frequencies 31.25 Hz apart."""
FLOOR = 1e-6
"""Power below which nothing is told apart. A full-scale tone has 2500; rounding to 16 bits leaves 4e-8 in a band."""


def log_mel(wave: Array, *, mels: int, frames: int) -> npt.NDArray[np.float32]:
    """Return the log-mel spectrogram, float32 [frames, mels], of the middle of a recording.

    Args:
        wave: samples from -1 to 1 at 8 kHz, [S]; what lies outside the middle `frames` is cut off, and a shorter
            recording stands between zeros, whose value is ln 1e-6.
        mels: bands between 0 and 4 kHz.
        frames: of 25 ms, every 10 ms.
    """
    middle = centred(wave, WINDOW + HOP * (frames - 1))
    framed = np.lib.stride_tricks.sliding_window_view(middle, WINDOW)[::HOP]  # [frames, WINDOW]
    spectrum = fft.rfft(framed * windows.hann(WINDOW, sym=False), POINTS)  # [frames, POINTS / 2 + 1]
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(np.maximum(power @ mel_filters(mels).T, FLOOR)).astype(np.float32)


def centred(wave: Array, samples: int) -> Array:
    """Return so many samples from the middle, between zeros where there are fewer.

    >>> centred(np.array([1.0, 2.0, 3.0]), 6), centred(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    (array([0., 1., 2., 3., 0., 0.]), array([2., 3.]))
    """
    lacking = samples - len(wave)
    if lacking >= 0:
        return np.pad(wave, (lacking // 2, lacking - lacking // 2))
    begin = (len(wave) - samples) // 2
    return wave[begin : begin + samples]


def mel(frequency: npt.ArrayLike) -> Array:
    """Return frequencies in Hz on the mel scale.

    >>> float(mel(1000).round())
    1000.0
    """
    return np.asarray(2595 * np.log10(1 + np.asarray(frequency) / 700))


def mel_filters(mels: int) -> Array:
    """Return the weights of each band at each frequency of the transform, [mels, POINTS / 2 + 1]."""
    corners = 700 * (10 ** (np.linspace(0, float(mel(RATE / 2)), mels + 2) / 2595) - 1)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    frequency = fft.rfftfreq(POINTS, 1 / RATE)
    return np.maximum(0, np.minimum((frequency - left) / (centre - left), (right - frequency) / (right - centre)))
