import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import combinations

import numpy as np
import pytest

from kd.errors import RecordError
from kd.report import tables
from kd.report.costs import with_cost
from kd.report.diagram import graph_picture
from kd.report.evidence import load_evidence
from kd.report.page import write_report

from .conftest import edge, write_run

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Balance(HTMLParser):
    """Collect tags that are closed out of order, and every id."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_holds_the_numbers_of_the_records(reported):
    page = (reported / "report.html").read_text()
    for row in tables.subset_table(load_evidence(reported).subsets, "accuracy").itertuples():
        assert tables.interval(row.mean, row.low, row.high) in page
    assert "+1.2 points [0.3, 2.1] over 5 seeds" in page
    assert "2.40×" in page
    assert "validation accuracy, mean over subsets, 200 labels" in page


def test_the_page_is_self_contained(reported):
    page = (reported / "report.html").read_text()
    addresses = re.findall(r'([\w:]+)="https?://', page)
    assert set(addresses) <= {"xmlns", "xmlns:xlink"}
    assert not re.search(r"@import|<link|<script src|<img|url\((?!#)", page)


def test_the_page_is_well_formed_and_its_ids_are_unique(reported):
    parser = Balance()
    parser.feed((reported / "report.html").read_text())
    assert (parser.wrong, parser.open) == ([], [])
    assert len(parser.ids) == len(set(parser.ids))


def test_the_same_records_give_the_same_bytes(reported):
    files = (reported / "report.html", reported / "report.md")
    first = [file.read_bytes() for file in files]
    write_report(reported)
    assert [file.read_bytes() for file in files] == first


def test_names_are_escaped(tmp_path):
    name = '<img src=x onerror="alert(1)">&$x$'
    page = write_report(write_run(tmp_path / "run", rename=name)).read_text()
    assert "<img" not in page
    assert "&lt;img src=x onerror" in page
    assert "<img" not in (tmp_path / "run" / "report.md").read_text()


def test_a_run_without_stages_has_a_report(tmp_path):
    page = write_report(write_run(tmp_path / "run", stages=False)).read_text()
    assert "size on disk" not in page


def test_markdown_says_what_the_page_says(reported):
    text = (reported / "report.md").read_text()
    evidence = load_evidence(reported)
    summary = with_cost(tables.summary_table(evidence.summary, "accuracy"), evidence.cost, evidence.stages)
    assert tables.markdown(summary) in text
    assert tables.markdown(tables.contrast_table(evidence.contrasts)) in text


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(RecordError, match="no record here"):
        write_report(tmp_path)


def test_a_table_changed_after_the_run_is_refused(run):
    (run / "subsets.parquet").write_bytes(b"PAR1")
    with pytest.raises(RecordError, match="changed since it was recorded"):
        write_report(run)


def test_a_table_without_its_columns_is_refused(run):
    from kd.record import load_record, save_record

    record = load_record(run)
    frame = load_evidence(run).summary.drop(columns="note")
    frame.to_parquet(run / "summary.parquet")
    save_record(record, run)
    with pytest.raises(RecordError, match=r"'summary' lacks the columns note"):
        write_report(run)


def test_a_node_that_teaches_itself_has_a_loop():
    picture = graph_picture(
        {"nodes": {"student": {"kind": "student"}}, "edges": {"own": edge("student") | {"view": "full"}}}
    )
    assert "kl T=3 × 1, view full" in picture


def test_labels_of_the_graph_meet_no_box_and_no_other_label():
    kinds = dict.fromkeys("abcd", "teacher") | dict.fromkeys("st", "student") | {"alone": "baseline"}
    pairs = [*(pair + "s" for pair in "abcd"), "at", "st"]
    edges = {pair: edge(pair[0]) | {"student": pair[1], "view": "own"} for pair in pairs}
    picture = graph_picture({"nodes": {name: {"kind": kind} for name, kind in kinds.items()}, "edges": edges})
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', picture)
    boxes = [tuple(map(float, box)) for box in found]
    for (x, y, w, h), (left, top, width, height) in combinations(boxes, 2):
        assert x + w <= left or left + width <= x or y + h <= top or top + height <= y
    assert "view own" not in picture


def test_no_arrow_passes_behind_a_box():
    pairs = ["ab", "bc", "cd", "ac", "ad", "bd", "ae", "ed"]
    edges = {pair: edge(pair[0]) | {"student": pair[1]} for pair in pairs}
    picture = graph_picture({"nodes": {name: {"kind": "student"} for name in "abcde"}, "edges": edges})
    boxes = [tuple(map(float, b)) for b in re.findall(r'<rect x="(\S+)" y="(\S+)" width="216" height="62"', picture)]
    drawn = re.findall(r'd="(M[^"]*C[^"]*)"', picture)
    paths = [np.array(re.findall(r"[\d.]+", path), float).reshape(-1, 2) for path in drawn]
    assert (len(boxes), len(paths)) == (5, len(pairs))
    curves = np.array([path[at : at + 4] for path in paths for at in range(0, len(path) - 1, 3)])
    t = np.linspace(0, 1, 101)
    weights = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3])
    points = np.einsum("wt,cwa->cta", weights, curves).reshape(-1, 2)
    for x, y in boxes:
        inside = ((points > (x, y)) & (points < (x + 216, y + 62))).all(axis=1)
        assert not inside.any()


def test_rows_stand_by_kind_and_then_by_pass(reported):
    table = tables.summary_table(load_evidence(reported).summary, "accuracy")
    assert list(dict.fromkeys(table["node"])) == ["complete-case", "fou", "kar", "zer", "student", "late fusion"]
    assert list(table[table["node"] == "student"]["stage"]) == ["float", "pruned", "tuned", "int8"]


def test_the_report_never_imports_torch():
    code = "import sys, kd.report.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_package_is_light():
    code = "import sys, kd.report; sys.exit(bool({'matplotlib', 'pandas', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_picture_tells_which_nodes_a_student_starts_from() -> None:
    node = {"sees": ["a", "b"], "rows": "any", "drop": 0.3, "kind": "student", "start": ["one", "two"]}
    picture = graph_picture({"nodes": {"student": node}})
    assert "started from one, two" in picture
    assert "started · any rows · drop 0.3" in picture
    assert "dasharray" not in picture, "neither of them is drawn"
    with_origin = graph_picture({"nodes": {"one": {"kind": "teacher"}, "student": node}, "edges": {"one": edge("one")}})
    assert with_origin.count('stroke-dasharray="4 4"') == 1
