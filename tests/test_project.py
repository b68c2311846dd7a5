"""The project itself: what it declares, what it ships, and that its documents tell the truth."""

from __future__ import annotations

import configparser
import importlib
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kd import parsing

ROOT = Path(__file__).parent.parent
IMPORT_NAMES = {
    "pytorch-lightning": "pytorch_lightning",
    "scikit-learn": "sklearn",
    "torch-pruning": "torch_pruning",
    "pytest-xdist": "xdist",
    "import-linter": "importlinter",
    "pillow": "PIL",
    "mlflow-skinny": "mlflow",
}
PRODUCTS = (".ckpt", ".pt", ".pth", ".safetensors", ".onnx")
"""What a run makes; none of it belongs in git."""


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements() -> list[tuple[str, str]]:
    """Return (distribution, specifier) for every requirement that running or testing needs."""
    parser = setup()
    extras = parser["options.extras_require"]
    lines = parser["options"]["install_requires"] + extras["test"] + extras["datasets"] + extras["loggers"]
    found = [re.fullmatch(r"([A-Za-z0-9_-]+)(.*)", line) for line in lines.split() if not line.startswith("kd-missing")]
    return [line.groups() for line in found]


def tracked() -> list[str]:
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    # A fixed width: the help's text is wrapped to the terminal's.
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=60)


def block(document: str, language: str) -> str:
    """Return the first fenced block of a language in a document."""
    return re.search(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL).group(1)


@pytest.mark.parametrize("distribution", [name for name, _ in requirements()])
def test_every_dependency_imports(distribution: str) -> None:
    importlib.import_module(IMPORT_NAMES.get(distribution, distribution))


@pytest.mark.parametrize(("distribution", "specifier"), requirements())
def test_dependencies_are_ranges_that_hold_what_is_installed(distribution: str, specifier: str) -> None:
    lower = re.fullmatch(r">=([0-9.]+)", specifier)
    assert lower, f"{distribution}{specifier}: expected a lower bound, not a pin"
    bound = [int(part) for part in lower.group(1).split(".")]
    installed = [int(part) for part in re.findall(r"\d+", version(distribution))[: len(bound)]]
    assert installed >= bound


def test_everything_imported_is_declared() -> None:
    declared = {IMPORT_NAMES.get(name, name).replace("-", "_") for name, _ in requirements()}
    known = declared | set(sys.stdlib_module_names) | {"kd"}
    found = {}
    for path in [*ROOT.glob("kd/**/*.py"), *ROOT.glob("tests/**/*.py")]:
        for name in re.findall(r"^\s*(?:from|import) ([A-Za-z_]\w*)", code_of(path), re.MULTILINE):
            found[name] = path.relative_to(ROOT)
    local = {path.stem for path in ROOT.glob("tests/**/*.py")} | {"tests"}
    assert {name: str(path) for name, path in found.items() if name not in known | local} == {}


def code_of(path: Path) -> str:
    """Return a file's text without its strings in triple quotes, whose prose may begin a line with `from`."""
    return re.sub(r'"""(?s:.*?)"""', "", path.read_text())


def test_git_holds_no_run_checkpoint_or_weights() -> None:
    made = [file for file in tracked() if file.endswith(PRODUCTS) or {"runs", "lightning_logs"} & set(Path(file).parts)]
    assert made == []


def test_every_file_beside_the_code_is_installed_with_it() -> None:
    declared = setup()["options.package_data"]
    patterns = [f"{room.replace('.', '/')}/{pattern}" for room in declared for pattern in declared[room].split()]
    beside = [Path(file) for file in tracked() if file.startswith("kd/") and not file.endswith(".py")]
    assert [str(file) for file in beside if not any(file.match(pattern) for pattern in patterns)] == []


def test_version_is_the_same_everywhere() -> None:
    declared = setup()["metadata"]["version"]
    assert version("kd-missing") == declared
    assert f"version: {declared}\n" in (ROOT / "CITATION.cff").read_text()


def test_commands_in_documents_are_make_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md", "paper_repro.md", ".ci/run"):
        named = set(
            re.findall(r"^(?:    )?make ([a-z][a-z-]*)|`make ([a-z-]+)`", (ROOT / document).read_text(), re.MULTILINE)
        )
        assert {one or other for one, other in named} <= targets, document
    assert {
        "demo",
        "test",
        "test-all",
        "lint",
        "bench",
        "docs",
        "docs-check",
        "repro",
        "repro-quick",
        "repro-full",
    } <= targets


def test_configs_that_documents_and_makefile_name_are_shipped() -> None:
    for document in ("README.md", "paper_repro.md", "Makefile", "docs/design.md"):
        named = set(re.findall(r"configs/[\w/]+\.yaml", (ROOT / document).read_text()))
        assert [name for name in named if not (ROOT / name).exists()] == [], document


@pytest.mark.parametrize(
    "document",
    [
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "paper_repro.md", "docs/design.md"),
        *(
            "docs/your-data.md",
            "docs/adni.md",
            "docs/own-network.md",
            "docs/lightning.md",
            "docs/truth.md",
            "docs/leaks.md",
        ),
        *("docs/masks.md", "docs/metrics.md", "docs/statistics.md", "docs/ablations.md", "docs/benchmarks.md"),
        "docs/avmnist.md",
    ],
)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    folder = (ROOT / document).parent
    assert [link for link in links if "://" not in link and not (folder / link).exists()] == []


@pytest.mark.parametrize("document", ["README.md", "paper_repro.md"])
def test_every_marker_is_closed(document: str) -> None:
    text = (ROOT / document).read_text()
    opened = re.findall(r"<!-- (kd:[\w:]+) -->", text)
    assert opened == re.findall(r"<!-- /(kd:[\w:]+) -->", text)
    assert len(opened) == len(set(opened)) > 0


def test_help_is_the_same_by_command_and_by_module() -> None:
    by_module = run_python("-m", "kd", "--help")
    by_command = run_python("-c", "import sys; sys.argv = ['kd', '--help']; from kd.cli import main; sys.exit(main())")
    assert by_module.returncode == by_command.returncode == 0, by_module.stderr + by_command.stderr
    assert by_module.stdout == by_command.stdout != ""


def test_help_and_readme_name_the_same_verbs() -> None:
    helped = re.findall(r"^ +kd ([a-z]+) ", run_python("-m", "kd", "--help").stdout, re.MULTILINE)
    named = re.findall(r"^kd ([a-z]+) ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(named) == set(helped) != set()


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'pytorch_lightning', 'transformers', 'sklearn', 'pandas', 'matplotlib', 'onnxruntime'}"
    code = f"import sys, kd.cli; sys.exit(sorted({heavy} & set(sys.modules)) or 0)"
    imported = run_python("-c", code)
    assert imported.returncode == 0, imported.stderr
    shown = run_python("-X", "importtime", "-m", "kd", "--help").stderr
    assert not re.search(r"\|\s+(torch|pytorch_lightning)$", shown, re.MULTILINE)


def test_config_in_the_readme_fits_the_schema() -> None:
    study = parsing.parse(OmegaConf.to_container(OmegaConf.create(block("README.md", "yaml"))), source="README.md")
    assert set(study.edges) == {"fou", "zer"}


def test_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_HOME", str(ROOT))
    monkeypatch.chdir(tmp_path)
    # As written, but one epoch each: what is shown is that it runs, not what it reaches.
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    code = "\n".join(blocks).replace("max_epochs=30", "max_epochs=1, logger=False")
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert (tmp_path / "out" / "card.json").exists()
    assert names["present"].sum() == 1


def test_no_measured_figure_of_the_reproduction_is_written_by_hand() -> None:
    """What stands between markers is `make docs`'s, which CI compares with the records."""
    text = (ROOT / "paper_repro.md").read_text()
    filled = re.findall(r"<!-- kd:(\S+) -->(.+?)<!-- /kd:\1 -->", text, flags=re.DOTALL)
    assert len(filled) == text.count("<!-- /kd:")
    assert all(re.search(r"[+−\d]", content) for name, content in filled if name.startswith("value:"))
    by_hand = re.sub(r"<!-- kd:(\S+) -->.+?<!-- /kd:\1 -->", "", text, flags=re.DOTALL)
    by_hand = re.sub(r"^```.*?^```", "", by_hand, flags=re.DOTALL | re.MULTILINE)
    measured = r"[+−]\d+\.?\d*|\d+\.\d+ \[|\d+(?:\.\d+)? ?(?:%(?! interval)|percent|points|minutes|trainings)"
    assert re.findall(measured, by_hand) == []
