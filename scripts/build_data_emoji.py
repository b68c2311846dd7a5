"""Build data/emoji/ from the npm package emoji-datasource-twitter 16.0.0. Run: python scripts/build_data_emoji.py [TGZ]

Without the path of the package's .tgz, npm fetches it. Traps: names of emoji hold names of classes, and many emoji are
near copies of others; `kept_words` and `families` deal with them. The tables in CARD.md, each between
`<!-- emoji:NAME -->` and `<!-- /emoji:NAME -->`, are counted in the files.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import pdist, squareform

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # the script runs from a checkout, installed or not
    sys.path.insert(0, str(ROOT))

from kd.data.emoji import naming_words, stem  # noqa: E402
from kd.errors import DataError, KDError  # noqa: E402
from kd.processors.pictures import picture  # noqa: E402

TARGET = ROOT / "data" / "emoji"
PACKAGE = "emoji-datasource-twitter@16.0.0"
SHA256 = "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877"

MARKERS = """
squared circled cjk unified ideograph latin capital letter letters input
"""
"""Words for the notation of a sign, not for what it shows; Unicode adds them to whole classes of names."""

VARIATIONS = """
man men mans mens woman women womans womens male female person people
boy girl adult child baby father mother mr mrs mx couple
one two three four five six seven eight nine ten eleven twelve thirty first second third last
left right up down upper lower upwards downwards leftwards rightwards facing pointing clockwise anticlockwise
red orange yellow green blue purple brown black white grey pink small medium large
new full quarter crescent gibbous waxing waning
a and at for in of on the to with symbol sign face
"""
"""Words in which names of one family may differ: persons, numbers, directions, looks, phases of the moon, fillers."""

PERSON_CODES = {0x1F466, 0x1F467, 0x1F468, 0x1F469, 0x1F9D1, 0x1F9D2}  # boy, girl, man, woman, adult, child
JOINING_CODES = {0x200D, 0xFE0F, 0x2640, 0x2642, 0x27A1}  # joiner, variation selector, female, male, facing right
REGIONAL = range(0x1F1E6, 0x1F1FF + 1)  # two of them are a country's flag

NEAR = 0.18
"""Two pictures whose difference has less than this share of the ink of the fuller one are near copies."""

Row = dict[str, Any]
"""One entry of the package's emoji.json."""


def fetch(folder: Path) -> Path:
    """Fetch the package with npm and return its .tgz.

    Raises:
        DataError: npm is missing or cannot fetch.
    """
    if shutil.which("npm") is None:
        raise DataError(f"npm: not found; install Node.js, or give the path of the .tgz of {PACKAGE}")
    done = subprocess.run(["npm", "pack", PACKAGE], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[:200]
        raise DataError(f"npm pack {PACKAGE}: failed ({reason}); give the path of its .tgz instead")
    return next(folder.glob("*.tgz"))


def unpack(archive: Path) -> tuple[list[Row], list[bytes]]:
    """Return the rows in Unicode's order, without component symbols and rows that lack a picture, and their PNGs.

    Raises:
        DataError: the archive is not the package.
    """
    try:
        content = archive.read_bytes()
    except OSError as error:
        raise DataError(f"{archive}: {error.strerror}; give the path of the .tgz of {PACKAGE}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise DataError(f"{archive}: its sha256 is not that of {PACKAGE}; fetch it again")
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        files = {name: member for member in package for name in [member.name.removeprefix("package/")]}

        def read(name: str) -> bytes:
            return package.extractfile(files[name]).read()

        every = sorted(json.loads(read("emoji.json")), key=lambda row: row["sort_order"])
        rows = [row for row in every if row["category"] != "Component" and row["has_img_twitter"]]
        return rows, [read(f"img/twitter/64/{row['image']}") for row in rows]


def flatten(png: bytes) -> Image.Image:
    """Return the picture as 64 x 64 RGB, transparent pixels white."""
    image = Image.fromarray(picture(png).permute(1, 2, 0).numpy())
    assert image.size == (64, 64), f"expected 64 x 64 pixels, got {image.size}"
    return image


def encode(image: Image.Image) -> bytes:
    """Return the picture as an optimised PNG."""
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def split_words(text: str) -> list[str]:
    """Return the words of a name in lower case: accents, apostrophes and dots go, all other signs divide."""
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in plain if not unicodedata.combining(c) and c not in "'’.")
    return re.findall(r"[a-z0-9]+", plain)


def codes(row: Row) -> list[int]:
    """Return the code points of a row."""
    return [int(code, 16) for code in row["unified"].split("-")]


def names(row: Row) -> list[str]:
    """Return the Unicode name and the short names; of a country's flag only the name, the rest is codes."""
    country = all(code in REGIONAL for code in codes(row))
    return [row["name"]] if country else [row["name"], *row["short_names"]]


def raw_words(row: Row) -> list[str]:
    """Return each word of a row's names once, without those that hold a digit (u6708, dog2: code points, counters)."""
    found = [word for name in names(row) for word in split_words(name)]
    return list(dict.fromkeys(word for word in found if word.isalpha()))


def kept_words(words: Sequence[str], classes: Iterable[str]) -> list[str]:
    """Return the words that may stay: none that names any class, and no marker of notation."""
    gone = {*naming_words(words, classes), *MARKERS.split()}
    return [word for word in words if word not in gone]


def word_keys(row: Row) -> set[Hashable]:
    """Return what the row's names are called without what varies in a family; equal keys make a family."""
    found: set[Hashable] = set()
    varying = set(VARIATIONS.split())
    for name in names(row):
        words = [re.sub(r"\d+$", "", word) for word in split_words(name)]
        plain = [word for word in words if word.isalpha() and len(word) > 1 and word not in varying]
        kept = {stem(word.removesuffix("er")) for word in plain}  # runner, running
        if kept:
            found.add((row["category"], *sorted(kept)))
    return found


def code_keys(row: Row) -> set[Hashable]:
    """Return the row's code points without persons, gender and direction: Unicode's own way to write variants."""
    persons = sum(code in PERSON_CODES for code in codes(row))
    return {(min(persons, 2), *(code for code in codes(row) if code not in PERSON_CODES | JOINING_CODES))}


def near_pairs(images: Sequence[Image.Image]) -> np.ndarray:
    """Return int64 [2, P], pairs of near copies at 16 x 16 pixels: |a - b| < NEAR * max(|white - a|, |white - b|)."""
    small = [np.asarray(image.resize((16, 16), Image.Resampling.BOX), dtype=np.float64).ravel() for image in images]
    ink = np.linalg.norm(255 - np.stack(small), axis=1)
    distance = squareform(pdist(np.stack(small)))
    return np.stack(np.nonzero(np.triu(distance < NEAR * np.maximum(ink[:, None], ink), k=1)))


def removed_words(rows: Sequence[Row], texts: Sequence[str]) -> list[tuple[str, int]]:
    """Return (word, rows) of all words that the rule removed, most rows first."""
    gone = Counter(w for row, text in zip(rows, texts, strict=True) for w in set(raw_words(row)) - set(text.split()))
    return sorted(gone.items(), key=lambda entry: (-entry[1], entry[0]))


def families(rows: Sequence[Row], images: Sequence[Image.Image]) -> np.ndarray:
    """Return int16 [N], the first row of each row's family: ties are word keys, code keys and near copies."""
    pairs = [near_pairs(images)]
    for keys in (word_keys, code_keys):
        first: dict[Hashable, int] = {}
        tied = [(first.setdefault(key, i), i) for i, row in enumerate(rows) for key in keys(row)]
        pairs.append(np.array(tied).T)
    start, end = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(len(start)), (start, end)), shape=(len(rows), len(rows)))
    member = connected_components(graph, directed=False)[1]
    _, earliest = np.unique(member, return_index=True)
    return earliest[member].astype(np.int16)


def tables(rows: Sequence[Row], pngs: Sequence[bytes]) -> dict[str, pa.Table]:
    """Return file name -> content, all rows in one order."""
    images = [flatten(png) for png in pngs]
    pairs = list(dict.fromkeys((row["category"], row["subcategory"]) for row in rows))
    categories = list(dict.fromkeys(category for category, _ in pairs))
    classes = [*categories, *(subcategory for _, subcategory in pairs)]
    words = [" ".join(kept_words(raw_words(row), classes)) for row in rows]
    return {
        "image.parquet": pa.table({"png": pa.array([encode(image) for image in images], pa.binary())}),
        "words.parquet": pa.table({"words": pa.array(words, pa.string())}),
        "label.parquet": pa.table(
            {
                "label": np.array([categories.index(row["category"]) for row in rows], np.int8),
                "subcategory": np.array([pairs.index((row["category"], row["subcategory"])) for row in rows], np.int16),
                "group": families(rows, images),
                "code": pa.array([row["unified"] for row in rows], pa.string()),
            }
        ),
        "classes.parquet": pa.table({"category": [c for c, _ in pairs], "subcategory": [s for _, s in pairs]}),
    }


def write(content: dict[str, pa.Table], target: Path) -> None:
    """Write the Parquet files and their checksums; PNGs are packed already."""
    target.mkdir(parents=True, exist_ok=True)
    for file, table in content.items():
        packing = (
            {"compression": "none"} if file == "image.parquet" else {"compression": "zstd", "compression_level": 19}
        )
        pq.write_table(table, target / file, use_dictionary=False, write_statistics=False, **packing)
    sums = {file: hashlib.sha256((target / file).read_bytes()).hexdigest() for file in sorted(content)}
    (target / "checksums.json").write_text(json.dumps(sums, indent=1) + "\n")


def certain_words(
    texts: Sequence[str], label: np.ndarray, group: np.ndarray, rows: int = 10
) -> list[tuple[str, int, int]]:
    """Return (word, rows, groups) of words that occur in at least so many rows, all of one class; most rows first."""
    where: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        for word in set(text.split()):
            where[word].append(row)
    sure = {word: at for word, at in where.items() if len(at) >= rows and len(set(label[at])) == 1}
    found = [(word, len(at), len(set(group[at]))) for word, at in sure.items()]
    return sorted(found, key=lambda entry: (-entry[1], entry[0]))


def markdown(header: Sequence[str], body: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def card_tables(folder: Path) -> dict[str, str]:
    """Return marker -> Markdown, all of it counted in the Parquet files of the folder."""
    read = {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}
    label, subcategory, group = (read["label"][name].to_numpy() for name in ("label", "subcategory", "group"))
    texts, classes = read["words"]["words"].to_pylist(), read["classes"]
    categories = list(dict.fromkeys(classes["category"].to_pylist()))
    sizes = np.unique(group, return_counts=True)[1]
    empty = np.array([not text for text in texts])
    files = [(path.name, path.stat().st_size, path.read_bytes()) for path in sorted(folder.glob("*.parquet"))]
    return {
        "counts": markdown(
            ["rows", "categories", "subcategories", "groups", "rows without words", "different words", "longest row"],
            [[len(label), len(categories), len(classes), len(sizes), empty.sum(), *_vocabulary(texts)]],
        ),
        "categories": markdown(
            ["category", "rows", "groups", "without words", "subcategories (rows, groups)"],
            [[name, (label == k).sum(), len(set(group[label == k])), empty[label == k].sum(), _parts(k, read)]
             for k, name in enumerate(categories)],
        ),
        "subcategories": markdown(
            ["fewest groups per subcategory", "subcategories", "rows"],
            [[n, *_kept(subcategory, group, n)] for n in (1, 2, 5, 8, 10, 12)],
        ),
        "groups": markdown(
            ["rows in a group", "groups", "rows"], [[n, k, n * k] for n, k in sorted(Counter(sizes.tolist()).items())]
        ),
        "certain": markdown(
            ["word", "rows", "groups", "category"],
            [[*entry, categories[next(label[i] for i, text in enumerate(texts) if entry[0] in text.split())]]
             for entry in certain_words(texts, label, group)],
        ),
        "checksums": markdown(
            ["file", "bytes", "sha256"],
            [[name, size, f"`{hashlib.sha256(content).hexdigest()}`"] for name, size, content in files],
        ),
    }  # fmt: skip


def _vocabulary(texts: Sequence[str]) -> tuple[int, str]:
    return len({word for text in texts for word in text.split()}), f"{max(len(text.split()) for text in texts)} words"


def _parts(category: int, read: dict[str, pa.Table]) -> str:
    label, subcategory, group = (read["label"][name].to_numpy() for name in ("label", "subcategory", "group"))
    names = read["classes"]["subcategory"].to_pylist()
    inside = np.unique(subcategory[label == category])
    return "; ".join(f"{names[k]} ({(subcategory == k).sum()}, {len(set(group[subcategory == k]))})" for k in inside)


def _kept(subcategory: np.ndarray, group: np.ndarray, fewest: int) -> tuple[int, int]:
    kept = [k for k in np.unique(subcategory) if len(set(group[subcategory == k])) >= fewest]
    return len(kept), int(np.isin(subcategory, kept).sum())


def fill(card: str, content: dict[str, str]) -> str:
    """Return the card with every marked place holding its table.

    Raises:
        DataError: a table has no place in the card.
    """
    for name, table in content.items():
        place = re.compile(f"(<!-- emoji:{name} -->\n).*?(<!-- /emoji:{name} -->)", re.DOTALL)
        card, found = place.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", card)
        if not found:
            raise DataError(f"CARD.md: <!-- emoji:{name} --> ... <!-- /emoji:{name} --> is missing; put it back")
    return card


def main(arguments: Sequence[str] | None = None) -> int:
    """Build data/emoji/ and the tables of its card; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tgz", type=Path, nargs="?", help=f"the package {PACKAGE}; by default npm fetches it")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            rows, pngs = unpack(options.tgz or fetch(Path(folder)))
        content = tables(rows, pngs)
        write(content, TARGET)
        removed = removed_words(rows, content["words.parquet"]["words"].to_pylist())
        listing = f"{len(removed)} words: " + ", ".join(f"{word} {count}" for word, count in removed)
        card = TARGET / "CARD.md"
        card.write_text(fill(card.read_text(), card_tables(TARGET) | {"removed": listing}))
    except KDError as error:
        print(f"build_data_emoji: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
