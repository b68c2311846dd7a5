"""docs/compression.md: its Python runs, and its YAML has no fault."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import OmegaConf

from kd.compress.pipeline import faults

PAGE = Path(__file__).parents[2] / "docs" / "compression.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_python_in_the_page_runs() -> None:
    exec(compile("\n".join(blocks("python")), PAGE.name, "exec"), {})


def test_yaml_in_the_page_has_no_fault() -> None:
    (text,) = blocks("yaml")
    config = OmegaConf.to_container(OmegaConf.create(text))
    assert faults(config["compress"]["passes"]) == []  # type: ignore[index,call-overload]
