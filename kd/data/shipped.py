"""Where the files that come with the project are, and whether they are the ones we shipped."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kd.errors import DataError


def data_home() -> Path:
    """Return the folder that holds the shipped data sets: `$KD_HOME/data`, else the one beside the checkout.

    Raises:
        DataError: neither exists, as in an installation without the checkout.
    """
    home = os.environ.get("KD_HOME")
    root = Path(home) if home else Path(__file__).resolve().parents[2]
    if not (root / "data").is_dir():
        raise DataError(f"{root / 'data'}: no shipped data here; set KD_HOME to a checkout that has data/")
    return root / "data"


def read_checked(name: str, file: str) -> pa.Table:
    """Read one Parquet file of the data set `name` after comparing it with `checksums.json`.

    Raises:
        DataError: the file or the list is missing, or the file is not the one that was shipped.
    """
    folder = data_home() / name
    path, listing = folder / file, folder / "checksums.json"
    fix = f"restore it or run scripts/build_data_{name}.py"
    try:
        expected = json.loads(listing.read_text())[file]
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: missing; {fix}") from None
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{listing}: expected a JSON object with the sha256 of {file}; {fix}") from None
    if hashlib.sha256(content).hexdigest() != expected:
        raise DataError(f"{path}: damaged, its sha256 is not the one in checksums.json; {fix}")
    return pq.read_table(io.BytesIO(content))
