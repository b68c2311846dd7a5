"""Log-mel spectrograms, beside their formula written out without arrays."""

import math

import numpy as np
import pytest

from kd.data.spectrogram import FLOOR, centred, log_mel, mel, mel_filters

MELS = 12


def naive(wave, frames):
    """Return the spectrogram by the definition, one number after the other, as a list of lists."""

    def to_mel(hertz):
        return 1127.01048 * math.log(1 + hertz / 700)  # the scale with the natural logarithm: 2595 / ln 10

    def from_mel(value):
        return 700 * (math.exp(value / 1127.01048) - 1)

    needed = 200 + 80 * (frames - 1)
    before = math.trunc((needed - len(wave)) / 2)
    heard = [wave[at - before] if 0 <= at - before < len(wave) else 0.0 for at in range(needed)]
    corners = [from_mel(to_mel(4000) * corner / (MELS + 1)) for corner in range(MELS + 2)]
    found = []
    for frame in range(frames):
        cut = [heard[80 * frame + n] * (0.5 - 0.5 * math.cos(2 * math.pi * n / 200)) for n in range(200)]
        power = []
        for k in range(129):
            real = sum(value * math.cos(2 * math.pi * k * n / 256) for n, value in enumerate(cut))
            imaginary = sum(value * math.sin(2 * math.pi * k * n / 256) for n, value in enumerate(cut))
            power.append(real**2 + imaginary**2)
        bands = []
        for band in range(MELS):
            left, centre, right = corners[band : band + 3]
            total = 0.0
            for k in range(129):
                hertz = 8000 * k / 256
                if left < hertz <= centre:
                    total += power[k] * (hertz - left) / (centre - left)
                elif centre < hertz < right:
                    total += power[k] * (right - hertz) / (right - centre)
            bands.append(math.log(max(total, 1e-6)))
        found.append(bands)
    return found


@pytest.mark.parametrize("samples", [520, 361, 200])
def test_spectrogram_is_its_definition(samples):
    wave = np.random.default_rng(samples).uniform(-1, 1, samples)
    found = log_mel(wave, mels=MELS, frames=3)
    assert found.shape == (3, MELS)
    assert found.dtype == np.float32
    assert np.abs(found - np.array(naive(wave.tolist(), 3))).max() < 1e-5


@pytest.mark.parametrize("frequency", [150, 440, 1000, 2500, 3700])
def test_a_pure_tone_is_loudest_in_the_band_around_its_frequency(frequency):
    wave = 0.5 * np.sin(2 * np.pi * frequency * np.arange(4000) / 8000)
    loudest = log_mel(wave, mels=40, frames=40).argmax(axis=1)
    # Band b has its centre at (b + 1) / 41 of mel(4000 Hz) = 2146.06; the nearest centre, or its neighbour on a border.
    exact = 2595 * math.log10(1 + frequency / 700) / 2146.06 * 41 - 1
    assert set(loudest.tolist()) <= {math.floor(exact), math.ceil(exact)}


def test_bands_reach_from_0_to_4000_hertz_without_a_gap():
    filters = mel_filters(40)
    assert filters.shape == (40, 129)
    assert filters.max() <= 1
    # Corners of one band are the centres of its neighbours: between the outer centres, weights of a frequency sum to 1.
    inner = (np.arange(129) * 31.25 > 40) & (np.arange(129) * 31.25 < 3700)
    assert np.allclose(filters.sum(axis=0)[inner], 1)
    assert filters[:, [0, 128]].max() < 1e-12
    assert mel(4000).round(2) == 2146.06


def test_silence_around_a_short_recording_is_the_floor():
    found = log_mel(np.random.default_rng(0).uniform(-1, 1, 800), mels=20, frames=64)
    silent = (found == np.float32(math.log(FLOOR))).all(axis=1)
    # 5240 samples are needed, 2220 zeros stand on each side: the frames that end before, and begin after them.
    assert silent.nonzero()[0].tolist() == [*range(26), *range(38, 64)]


def test_a_long_recording_is_heard_in_its_middle():
    wave = np.random.default_rng(0).uniform(-1, 1, 9000)
    assert np.array_equal(log_mel(wave, mels=20, frames=64), log_mel(wave[1880:7120], mels=20, frames=64))
    assert centred(np.arange(5.0), 2).tolist() == [1.0, 2.0]
