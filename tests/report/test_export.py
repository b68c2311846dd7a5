"""Tables as files, and what to use on the screen."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from kd.cli import main
from kd.errors import StorageError
from kd.report import tables
from kd.report.evidence import load_evidence
from kd.report.export import latex, write_tables

from .conftest import write_run
from .planted import masked_tests, pairs, validation, write_ablation
from .test_scripts import screenshot_report

SKILLS = {"student": 0.9, "complete-case": 0.8, "late fusion": 0.85}


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    more = {"validation": validation(SKILLS), "pairs": pairs(SKILLS), "test_masks": masked_tests(SKILLS)}
    return write_run(tmp_path_factory.mktemp("compared") / "run", more=more, simple=["late fusion"])


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A run without pictures of robustness and compression, which take a while to draw."""
    more = {"validation": validation(SKILLS), "pairs": pairs(SKILLS)}
    folder = tmp_path_factory.mktemp("small") / "run"
    return write_run(folder, more=more, simple=["late fusion"], robust=False, stages=False)


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    settings = [{"late": 0.8, "fancy": 0.9}, {"late": 0.8, "fancy": 0.802}]
    return write_ablation(tmp_path_factory.mktemp("planted") / "abc", settings, ["late"])


def test_every_table_of_a_run_is_three_files(compared, tmp_path) -> None:
    names = {path.name for path in write_tables(compared, tmp_path / "out")}
    stems = {name.rpartition(".")[0] for name in names}
    assert names == {f"{stem}.{end}" for stem in stems for end in ("csv", "md", "tex")}
    expected = {"summary", "subsets", "metrics", "contrasts", "stages", "pairs", "robustness", "shapley", "rates"}
    assert stems == expected | {"test_masks", "advice", "matrix_complete_rows", "matrix_mean_over_all_subsets"}


def test_csv_has_raw_numbers_and_markdown_the_text_of_the_page(compared, tmp_path) -> None:
    write_tables(compared, tmp_path)
    subsets = load_evidence(compared).subsets
    expected = tables.subset_table(subsets, "accuracy")
    written = pd.read_csv(tmp_path / "subsets.csv")
    pd.testing.assert_frame_equal(written, expected, check_dtype=False)
    assert (tmp_path / "subsets.md").read_text() == tables.markdown(tables.subset_grid(subsets, "accuracy")) + "\n"
    assert pd.read_csv(tmp_path / "advice.csv").loc[0, ["advised", "reason"]].tolist() == ["student", "better"]


def test_an_ablation_exports_its_settings(planted, tmp_path) -> None:
    stems = {path.stem for path in write_tables(planted, tmp_path)}
    assert {"summary", "subsets", "pairs", "rates", "train_by_test", "shapley", "advice", "along_mask.rate"} <= stems
    advice = pd.read_csv(tmp_path / "advice.csv")
    assert list(advice[advice["over"] == "mean over subsets"]["advised"]) == ["fancy", "late"]
    assert set(pd.read_csv(tmp_path / "pairs.csv")["mask.rate"]) == {0.2, 0.5}


def test_latex_has_rules_of_booktabs_and_shows_names_as_they_are() -> None:
    text = latex(pd.DataFrame({"method": ["a_b & 50%", r"\input{x}"], "score": ["+1.0", "−1.0"]}))
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"a\_b \& 50\% & +1.0" in text
    assert r"\textbackslash input\{x\} & $-$1.0" in text


def test_a_long_latex_table_may_break_over_pages() -> None:
    assert r"\begin{longtable}" in latex(pd.DataFrame({"a": range(50)}))


def test_the_command_writes_tables_where_it_is_asked_to(small, tmp_path, capsys) -> None:
    assert main(["report", str(small), f"tables={tmp_path / 'out'}"]) == 0
    assert f"files in {tmp_path / 'out'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "summary.tex").exists()


def test_a_folder_that_is_a_file_is_refused(small, tmp_path, capsys) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StorageError, match="cannot make this folder"):
        write_tables(small, tmp_path / "taken")
    assert main(["report", str(small), "table=x"]) == 2
    assert "did you mean 'tables='" in capsys.readouterr().err


def test_the_command_says_what_to_use(small, planted, capsys) -> None:
    assert main(["advise", str(small)]) == 0
    assert "use `student`" in capsys.readouterr().out
    assert main(["advise", str(planted)]) == 0
    out = capsys.readouterr().out
    assert "`fancy` is advised in 1 of 2 settings" in out
    assert "mask.rate = 0.5:\nAny modality may be missing at test: use `late`: nothing beats it here." in out


def test_the_same_for_machines(planted, capsys) -> None:
    assert main(["advise", str(planted), "json=true"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [own["setting"] for own in found] == [{"mask.rate": "0.2"}, {"mask.rate": "0.5"}]
    assert found[0]["advice"][0]["advised"] == "fancy"
    assert found[0]["advice"][0]["difference"]["estimate"] == pytest.approx(0.1)


def test_an_older_run_has_nothing_to_advise_and_says_why(reported, capsys) -> None:
    assert main(["advise", str(reported)]) == 2
    error = capsys.readouterr().err
    assert "holds no validation scores" in error
    assert error.count("\n") == 1


SORT = """<script>
const table = [...document.querySelectorAll("table.sortable")].find(t => t.tHead.textContent.includes("difference"));
const heads = [...[...table.tHead.rows].at(-1).cells];
const place = heads.findIndex(h => h.textContent === "difference");
heads[place].querySelector("button").click();
document.title = [...table.tBodies[0].rows].map(row => row.cells[place].textContent).join("|");
</script></body>"""


@pytest.mark.slow
@pytest.mark.skipif(screenshot_report.find_chromium() is None, reason="no chromium")
def test_a_click_on_a_heading_sorts_intervals_as_numbers(reported, tmp_path) -> None:
    page = tmp_path / "page.html"
    page.write_text((reported / "report.html").read_text().replace("</body>", SORT))
    browser = screenshot_report.find_chromium()
    command = [browser, *screenshot_report.FLAGS, f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout
    title = shown[shown.index("<title>") + 7 : shown.index("</title>")]
    assert title == "+1.2 [0.3, 2.1]|+0.4 [−0.5, 1.3]|+0.1 [−0.3, 0.5]|−1.1 [−1.8, −0.4]"
