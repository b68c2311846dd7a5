"""The verb that quantises an ONNX file which is not ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd.cli.arguments import arguments
from kd.errors import ConfigError


def compress_graph(words: Sequence[str]) -> int:
    """Quantise an ONNX file and print what int8 costs and keeps."""
    path, rest, as_json = arguments(words, "compress", "an ONNX file")
    from omegaconf import OmegaConf

    from kd.compress.foreign.file import compress_file

    places: dict[str, Path] = {}
    changes = []
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise ConfigError(f"kd compress: {word!r}: settings are written key=value, e.g. percentile=99.9")
        if key in ("to", "rows"):
            places[key] = Path(value)
        else:
            changes.append(word)
    settings: Any = OmegaConf.to_container(OmegaConf.from_dotlist(changes))
    folder, card = compress_file(Path(path), settings=settings, **places)
    if as_json:
        print(json.dumps({"folder": str(folder), **card}))
        return 0
    _print_evidence(card)
    print(f"model: {folder / 'model.onnx'}")
    return 0


def _print_evidence(card: Mapping[str, Any]) -> None:
    import pandas as pd

    from kd.report.tables import markdown

    found = card["evidence"]
    size = found["bytes"]
    rows = [("bytes", f"{size['float']:,}", f"{size['int8']:,}", f"{size['ratio']:.3f}")]
    for time in found["times"]:
        label = f"ms, {time['rows']} {'row' if time['rows'] == 1 else 'rows'}"
        rows.append((label, f"{time['float_ms']:.3f}", f"{time['int8_ms']:.3f}", f"{time['ratio']:.3f}"))
    rows.append(("products and convolutions in int8", "0%", f"{found['int8_share']:.0%}", ""))
    print(markdown(pd.DataFrame(rows, columns=["", "float", "int8", "int8 / float"])) + "\n")
    moved = [(name, f"{value:.1e}") for name, value in found["outputs"].items()]
    print(markdown(pd.DataFrame(moved, columns=["output", "greatest difference / scale"])) + "\n")
    asked = found["asked"]
    print(f"{card['pass']}, {_spelt(card['settings'])}; asked {asked['rows']} rows: {asked['origin']}")
    for note in found["notes"]:
        print(f"note: {note}")


def _spelt(settings: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={json.dumps(value).strip(chr(34))}" for key, value in settings.items())
