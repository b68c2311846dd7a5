"""Audio-visual MNIST: what is paired with what, who is in which part, every fault of the files, and a whole study."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from scipy.io import wavfile
from torchvision.datasets.mnist import read_image_file, read_label_file

from kd.cli import main
from kd.data import SOURCES, load_source
from kd.data.avmnist import avmnist, pair
from kd.data.idx import read_mnist
from kd.data.source import Source
from kd.data.spectrogram import log_mel
from kd.data.splits import split
from kd.errors import ConfigError, DataError
from kd.record import run_folder
from tests.data.avmnist_files import SPEAKERS, tone, write_avmnist, write_idx, write_images

Load = Callable[..., Source]
IMAGES, RECORDINGS = "avmnist/images", "avmnist/recordings"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("digits")
    write_avmnist(folder)
    return avmnist(images=str(folder / IMAGES), recordings=str(folder / RECORDINGS))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with files that a test may break."""
    write_avmnist(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(**settings: Any) -> Source:
    return avmnist(**{"images": IMAGES, "recordings": RECORDINGS, **settings})


def told() -> list[str]:
    """Return the faults of the files in the working directory."""
    with pytest.raises(DataError) as refused:
        load()
    return str(refused.value).splitlines()


def test_rows_are_recordings_with_their_digit_and_speaker(source: Source) -> None:
    source.validate()
    assert len(source) == len(set(source.ids)) == 120
    for row, name in enumerate(source.ids):
        digit, speaker, _ = name.split("_")
        assert (int(source.label[row]), SPEAKERS[source.group[row]]) == (int(digit), speaker)
    assert source.modality["image"].kind == "image"
    assert (source.modality["audio"].kind, source.modality["audio"].shape) == ("sequence", (64, 40))
    assert {"licence", "origin", "traps"} <= set(source.card)


def test_files_are_read_as_torchvision_reads_them(files: Path) -> None:
    for path in Path(IMAGES).glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    names = [f"{IMAGES}/{part}-{{}}-ubyte" for part in ("train", "t10k")]
    pictures, labels = read_mnist(Path(IMAGES))
    assert torch.equal(pictures, torch.cat([read_image_file(name.format("images-idx3")) for name in names]))
    assert torch.equal(labels, torch.cat([read_label_file(name.format("labels-idx1")) for name in names]))


def test_a_row_shows_a_picture_of_its_digit_grey_in_three_channels(source: Source) -> None:
    image = source.inputs["image"]
    assert (image[:, 0] == image[:, 1]).all()
    assert (image[:, 0] == image[:, 2]).all()
    # In these files a digit's row of pixels is white.
    white = (image[:, 0] == 255).all(dim=2)
    assert torch.equal(white.nonzero()[:, 1], 2 * source.label + 4)


def test_a_row_sounds_like_its_recording(files: Path) -> None:
    found = load(mels=20, frames=30)
    row = found.ids.index("7_lucas_1")
    wave = wavfile.read(Path(RECORDINGS) / "7_lucas_1.wav")[1] / 32768
    expected = torch.from_numpy(log_mel(wave, mels=20, frames=30))
    assert torch.equal(found.inputs["audio"][row], expected)


def test_pairs_are_functions_of_the_seed(files: Path) -> None:
    assert load().fingerprint == load(seed=0).fingerprint != load(seed=1).fingerprint
    first, second = load(), load(seed=1)
    assert torch.equal(first.inputs["audio"], second.inputs["audio"])
    assert not torch.equal(first.inputs["image"], second.inputs["image"])


def test_no_picture_is_used_twice_while_there_are_others() -> None:
    label = torch.arange(60) % 3
    pictured = torch.arange(90) % 3
    chosen = pair(label, pictured, seed=4)
    assert torch.equal(pictured[chosen], label)
    assert len(chosen.unique()) == 60
    short = pair(label, pictured[:30], seed=4)
    assert torch.equal(pictured[short], label)
    assert short.bincount(minlength=30).tolist() == [2] * 30


def test_pictures_that_are_used_again_are_told(tmp_path: Path, source: Source) -> None:
    assert "used_again" not in source.card
    write_avmnist(tmp_path)
    write_images(tmp_path / "few", each=8)
    found = avmnist(images=str(tmp_path / "few"), recordings=str(tmp_path / RECORDINGS))
    assert found.card["used_again"].startswith("20 rows show a picture that another row shows")


def test_every_fold_tests_one_speaker_that_no_network_has_heard(source: Source) -> None:
    tested = []
    for fold in range(6):
        parts = split(source, folds=6, fold=fold).validate(source)
        train, chosen, test = (
            source.group[ids].unique().tolist() for ids in (parts.train, parts.validation, parts.test)
        )
        assert (len(train), len(chosen), len(test)) == (4, 1, 1)
        tested += test
    assert sorted(tested) == list(range(6))


def test_selection_changes_no_row(files: Path) -> None:
    whole, audio = load(), load(modalities=["audio"])
    assert audio.modalities == ["audio"]
    assert audio.ids == whole.ids
    with pytest.raises(DataError, match="did you mean 'audio'"):
        load(modalities=["adio"])


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"mels": 0}, "data.mels: expected at least 1, got 0"),
        ({"frames": -1}, "data.frames: expected at least 1, got -1"),
        (
            {"mels": 128},
            "data.mels: 6 of 128 bands lie between two frequencies of the transform of 256 points; choose fewer",
        ),
    ],
)
def test_argument_out_of_range_is_refused_in_one_line(settings: dict[str, int], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(**settings)
    assert str(refused.value) == line


def test_unknown_folders_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told() == [
        "data.images: avmnist/images: no such folder; it is relative to the working directory",
        "data.recordings: avmnist/recordings: no such folder; it is relative to the working directory",
    ]


def test_faults_of_all_files_are_told_together(files: Path) -> None:
    (files / IMAGES / "train-labels-idx1-ubyte").unlink()
    (files / IMAGES / "t10k-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    write_idx(files / IMAGES / "t10k-labels-idx1-ubyte.gz", np.array([3, 12]))
    wavfile.write(files / RECORDINGS / "3_theo_0.wav", 16000, tone(440))
    wavfile.write(files / RECORDINGS / "3_theo_1.wav", 8000, np.zeros(800, np.int16))
    assert told() == [
        f"{IMAGES}/train-labels-idx1-ubyte: no such file, nor one with .gz; put MNIST's file of this name there",
        f"{IMAGES}/t10k-images-idx3-ubyte.gz: not readable (Not a gzipped file (b'no')); copy the file again",
        f"{IMAGES}/t10k-labels-idx1-ubyte.gz: label 12 in row 1; expected digits, 0 to 9, as MNIST's",
        f"{RECORDINGS}/3_theo_0.wav: 1 channel, 16000 Hz, int16; expected 1 channel, 8000 Hz, int16; convert it",
        f"{RECORDINGS}/3_theo_1.wav: silent, all samples are 0; record it again or remove it",
    ]


def swapped(path: Path) -> None:
    path.write_bytes((path.parent / "train-labels-idx1-ubyte").read_bytes())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def small(path: Path) -> None:
    write_idx(path, np.zeros((120, 8, 8)))


def fewer(path: Path) -> None:
    write_idx(path, np.zeros((119, 28, 28)))


@pytest.mark.parametrize(
    ("breaks", "line"),
    [
        (
            swapped,
            "begins with 0x00000801; expected 0x00000803, an idx file of this kind; put MNIST's own file there",
        ),
        (empty, "begins with 0x00000000; expected 0x00000803, an idx file of this kind; put MNIST's own file there"),
        (cut, "94095 bytes, its header says 94096; copy the file again"),
        (longer, "94097 bytes, its header says 94096; copy the file again"),
        (small, "pictures of 8 x 8; expected 28 x 28, as MNIST's"),
        (fewer, "119 pictures but 120 labels in train-labels-idx1-ubyte; take both files from one copy of MNIST"),
    ],
)
def test_damaged_pictures_are_refused_in_one_line(breaks: Callable[[Path], None], line: str, files: Path) -> None:
    path = Path(IMAGES) / "train-images-idx3-ubyte"
    breaks(path)
    assert told() == [f"{path}: {line}"]


def test_a_gzip_that_breaks_off_is_refused_in_one_line(files: Path) -> None:
    path = Path(IMAGES) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    assert len(told()) == 1
    assert re.fullmatch(rf"{path}: not readable \(.*\); copy the file again", told()[0])


def test_a_digit_without_a_picture_is_told_by_how_many_say_it(files: Path) -> None:
    for part, ending in (("train", ""), ("t10k", ".gz")):
        write_idx(Path(IMAGES) / f"{part}-images-idx3-ubyte{ending}", np.zeros((8, 28, 28)))
        write_idx(Path(IMAGES) / f"{part}-labels-idx1-ubyte{ending}", np.arange(8))
    assert told() == [
        f"{IMAGES}: no picture of the digit 8, which 12 recordings say; take MNIST's whole files",
        f"{IMAGES}: no picture of the digit 9, which 12 recordings say; take MNIST's whole files",
    ]


@pytest.mark.parametrize("name", ["7-lucas-1.wav", "77_lucas_1.wav", "7_lucas.wav", "7_lucas_1.WAV", "notes.txt"])
def test_a_file_of_another_name_is_refused_in_one_line(name: str, files: Path) -> None:
    (files / RECORDINGS / name).write_bytes(b"")
    fix = "expected digit_speaker_number.wav, as 7_jackson_32.wav; rename it or move it out of the folder"
    assert told() == [f"{RECORDINGS}/{name}: {fix}"]


def test_hidden_files_are_passed_over(files: Path) -> None:
    (files / RECORDINGS / ".DS_Store").write_bytes(b"")
    assert len(load()) == 120


def test_the_folder_above_the_recordings_is_named_with_the_right_one(files: Path) -> None:
    with pytest.raises(DataError) as refused:
        load(recordings="avmnist")
    assert str(refused.value) == "avmnist: no file named as 7_jackson_32.wav; name avmnist/recordings"


@pytest.mark.parametrize(
    ("rate", "samples", "line"),
    [
        (
            8000,
            np.zeros((800, 2), np.int16),
            "2 channels, 8000 Hz, int16; expected 1 channel, 8000 Hz, int16; convert it",
        ),
        (8000, np.ones(800, np.float32), "1 channel, 8000 Hz, float32; expected 1 channel, 8000 Hz, int16; convert it"),
        (8000, tone(440)[:199], "199 samples; expected at least 200, 25 ms; record it again or remove it"),
        (8000, tone(440)[:0], "0 samples; expected at least 200, 25 ms; record it again or remove it"),
        (8000, np.full(800, 5, np.int16), "silent, all samples are 5; record it again or remove it"),
    ],
)
def test_a_recording_of_another_form_is_refused_in_one_line(
    rate: int, samples: np.ndarray, line: str, files: Path
) -> None:
    wavfile.write(files / RECORDINGS / "7_lucas_1.wav", rate, samples)
    assert told() == [f"{RECORDINGS}/7_lucas_1.wav: {line}"]


@pytest.mark.parametrize("left", [0, 4, 30, 44, 45, 1001])
def test_a_recording_that_breaks_off_is_refused_in_one_line(left: int, files: Path) -> None:
    path = Path(RECORDINGS) / "7_lucas_1.wav"
    path.write_bytes(path.read_bytes()[:left])
    assert len(told()) == 1
    assert re.fullmatch(rf"{path}: not readable as wav \(.+\); copy the file again", told()[0])


def test_of_many_bad_recordings_the_first_are_told_and_the_rest_counted(files: Path) -> None:
    for path in sorted(Path(RECORDINGS).glob("*_theo_*.wav")):
        path.write_bytes(b"")
    lines = told()
    assert len(lines) == 10
    assert lines[-1] == f"{RECORDINGS}: 11 more faults of this kind"


def test_loading_by_name_checks_the_settings(files: Path) -> None:
    assert len(load_source("avmnist", images=IMAGES, recordings=RECORDINGS)) == 120
    with pytest.raises(ConfigError, match="recordings: required argument is missing"):
        load_source("avmnist", images=IMAGES)


def test_settings_on_the_page_are_known_and_its_defaults_true(files: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "avmnist.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert block is not None
    tree: Any = OmegaConf.to_container(OmegaConf.create(block[1]))
    assert SOURCES.build(tree["data"]).fingerprint == load().fingerprint


def test_a_study_runs_from_one_yaml_to_its_report(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = {"steps": 10, "validate_every": 5, "batch_size": 16}
    model = {"width": 8, "encoders": {"image": {"name": "cnn", "channels": [8]}, "audio": {"name": "gru", "hidden": 8}}}
    study = {
        "data": {"name": "avmnist", "images": IMAGES, "recordings": RECORDINGS, "frames": 12, "mels": 8},
        "seeds": 1,
        "split": {"folds": 2},
        "mask": {"name": "severe", "complete": 20},
        "defaults": {**node, "model": model},
        "nodes": {
            "image": {"sees": ["image"]},
            "audio": {"sees": ["audio"]},
            "kdd2020": {"sees": ["image", "audio"], "rows": "complete"},
        },
        "edges": {name: {"teacher": name, "student": "kdd2020"} for name in ("image", "audio")},
        "ensembles": {"product": {"members": ["image", "audio"]}},
        "contrasts": {"gain": {"method": "kdd2020", "baseline": "product"}},
    }
    OmegaConf.save(OmegaConf.create(study), "study.yaml")
    assert main(["check", "study.yaml"]) == 0
    capsys.readouterr()
    assert main(["run", "study.yaml", "json=true"]) == 0
    record = json.loads(capsys.readouterr().out)
    summary = pd.read_parquet(run_folder("run", record["id"]) / "summary.parquet")
    assert {"image", "audio", "kdd2020", "product"} <= set(summary["node"])
