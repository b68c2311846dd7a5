"""Photograph a report at 1280 and 390 pixels: `python scripts/screenshot_report.py REPORT OUTDIR`.

Headless Chromium refuses windows narrower than about 500 pixels, so each width is that of a frame inside a larger
window.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *(
        "--allow-file-access-from-files",
        "--force-device-scale-factor=1",
        "--run-all-compositor-stages-before-draw",
        "--virtual-time-budget=2000",
    ),
)
HEIGHTS = {1280: 2400, 390: 2400}


def main(arguments: list[str] | None = None) -> int:
    """Write `report-1280.png` and `report-390.png`; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, metavar="REPORT", help="a report.html")
    parser.add_argument("outdir", type=Path, metavar="OUTDIR", help="where the two pictures go")
    parser.add_argument("--height", type=int, help="pixels from the top (default: 2400)")
    options = parser.parse_args(arguments)
    browser = find_chromium()
    if browser is None:
        print("screenshot_report: no chromium found; install it or set CHROMIUM to its path", file=sys.stderr)
        return 2
    if not options.report.is_file():
        print(f"screenshot_report: {options.report}: no such report; `kd report RUN` writes one", file=sys.stderr)
        return 2
    options.outdir.mkdir(parents=True, exist_ok=True)
    for width, height in HEIGHTS.items():
        picture = options.outdir / f"report-{width}.png"
        fault = photograph(browser, options.report.resolve(), picture.resolve(), width, options.height or height)
        if fault:
            print(f"screenshot_report: {browser} made no {picture}: {fault}", file=sys.stderr)
            return 1
        print(picture)
    return 0


def find_chromium() -> str | None:
    """Return `$CHROMIUM`, or the first Chromium on the PATH."""
    names = [os.environ["CHROMIUM"]] if os.environ.get("CHROMIUM") else ["chromium", "chromium-browser"]
    return next((found for name in names if (found := shutil.which(name))), None)


def photograph(browser: str, report: Path, picture: Path, width: int, height: int) -> str:
    """Write one picture of exactly `width` x `height` pixels; return what went wrong, or nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        frame = Path(scratch) / "frame.html"
        frame.write_text(
            "<!DOCTYPE html><style>body{margin:0}iframe{border:0;display:block}</style>"
            f'<iframe src="{report.as_uri()}" width="{width}" height="{height}"></iframe>'
        )
        raw = Path(scratch) / "raw.png"
        command = [browser, *FLAGS, f"--user-data-dir={scratch}/profile", f"--window-size={max(width, 600)},{height}"]
        command += [f"--screenshot={raw}", frame.as_uri()]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired:
            return "it took longer than two minutes"
        if not raw.is_file():
            return (ran.stderr.strip().splitlines() or [f"exit status {ran.returncode}"])[-1]
        _crop(raw, picture, width, height)
    return ""


def _crop(raw: Path, picture: Path, width: int, height: int) -> None:
    from PIL import Image

    with Image.open(raw) as image:
        image.crop((0, 0, width, min(height, image.height))).save(picture, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
