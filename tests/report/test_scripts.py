import importlib.util
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from kd.errors import RecordError
from kd.objectives import OBJECTIVES, TEACHER_WEIGHTS
from kd.record import load_record, save_record
from kd.registry import Entry, Registry

from .conftest import contrast_frame, stage_frame, subset_frame, summary_frame
from .planted import write_ablation

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_docs = load("make_docs")
picture = load("page_figures").picture
reproduce = load("reproduce")
screenshot_report = load("screenshot_report")


def document(root: Path, *markers: str) -> Path:
    path = root / "README.md"
    path.write_text("before\n" + "".join(f"<!-- kd:{m} -->\n<!-- /kd:{m} -->\n" for m in markers) + "after\n")
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    records = tmp_path / "docs" / "records"
    records.mkdir(parents=True)
    summary_frame(subset_frame()).to_parquet(records / "demo_summary.parquet")
    stage_frame().to_parquet(records / "demo_stages.parquet")
    contrast_frame().to_parquet(records / "demo_contrasts.parquet")
    return tmp_path


def run(root: Path, *arguments: str) -> int:
    return make_docs.main(["--root", str(root), *arguments])


def test_tables_are_written_from_records_and_then_current(checkout):
    readme = document(checkout, "record:demo_summary", "record:demo_stages", "record:demo_contrasts")
    assert run(checkout) == 0
    text = readme.read_text()
    assert "2.40×" in text
    assert "+1.2 [0.3, 2.1]" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert run(checkout, "--check") == 0


def test_check_names_the_stale_file_and_marker_and_writes_nothing(checkout, capsys):
    readme = document(checkout, "record:demo_contrasts")
    run(checkout)
    typed = readme.read_text().replace("+1.2", "+2.1")
    readme.write_text(typed)
    assert run(checkout, "--check") == 1
    error = capsys.readouterr().err
    assert error == "make_docs: README.md: kd:record:demo_contrasts is stale; run `make docs`\n"
    assert readme.read_text() == typed


def test_what_a_run_said_is_quoted_from_its_record(checkout, capsys):
    record = checkout / "docs" / "records" / "some_advice.json"
    record.write_text(json.dumps(["What should I use?", "Use `late`."]))
    readme = document(checkout, "words:some_advice")
    assert run(checkout) == 0
    assert "> What should I use?\n>\n> Use `late`." in readme.read_text()
    record.unlink()
    assert run(checkout, "--check") == 2
    assert "some_advice.json is missing" in capsys.readouterr().err


def test_a_benchs_table_is_written_from_its_record(checkout, capsys):
    content = {"figures": {"worst": 93.9}, "tables": {"level": [{"test": "t", "rejects": "5.0 ± 0.2"}]}}
    (checkout / "docs" / "records" / "bench_statistics.json").write_text(json.dumps(content))
    readme = document(checkout, "bench:statistics/level", "bench:statistics/figures")
    assert run(checkout) == 0
    assert "| t | 5.0 ± 0.2 |" in readme.read_text()
    assert "| worst | 93.9 |" in readme.read_text()
    document(checkout, "bench:statistics/levels")
    assert run(checkout) == 2
    assert "has no table 'levels'; known: level, figures" in capsys.readouterr().err


@pytest.fixture
def taught(checkout: Path) -> Path:
    """Records of two ablations and of a bench, as `keep_records.py` and `bench_objectives.py` write them."""
    records = checkout / "docs" / "records"
    for name, methods in {"one": ["kl", "dkd"], "two": ["dkd", "best"]}.items():
        cells = [f"+{place}.0; better" for place in range(len(methods))]
        pd.DataFrame({"method": methods, f"data {name}": cells}).to_parquet(records / f"{name}_verdicts.parquet")
        nodes = {method: {"supervised": 1.0, "combine": None} for method in (*methods, "teacher", "guess")}
        nodes["guess"]["supervised"] = 0.0
        if "best" in nodes:
            nodes["best"]["combine"] = {"name": "best"}
        edges = {m: {"teacher": "teacher", "student": m, "loss": {"name": "kl" if m == "best" else m}} for m in methods}
        edges["untaught"] = {"teacher": "guess", "student": methods[0], "loss": {"name": "sp"}}
        about = {"config of the first variant": {"nodes": nodes, "edges": edges}}
        (records / f"{name}_provenance.json").write_text(json.dumps(about))
    cost = [{"name": "dkd", "alone": 1.2, "stacked": 1.1}, {"name": "weighted best", "alone": 1.4, "stacked": None}]
    (records / "bench_objectives.json").write_text(json.dumps({"figures": {}, "tables": {"cost": cost}}))
    return checkout


def test_an_ablations_records_are_kept_with_the_verdicts_of_its_family(tmp_path, monkeypatch):
    keep_records = load("keep_records")
    monkeypatch.setattr(keep_records, "RECORDS", tmp_path / "docs" / "records")
    folder = write_ablation(tmp_path / "abc", [{"late": 0.7, "net": 0.8}] * 2, ["late"])
    record = load_record(folder)
    kept = {path.name for path in keep_records.keep(folder, "some")}
    assert {"some_axis1.parquet", "some_contrasts.parquet", "some_facts.parquet", "some_advice.json"} <= kept
    assert "some_verdicts.parquet" not in kept
    about = json.loads((folder / "provenance.json").read_text())
    about["config of the first variant"] |= {"family": {"baselines": ["late"]}, "data": {"name": "planted"}}
    (folder / "provenance.json").write_text(json.dumps(about))
    compared = contrast_frame().assign(**{"mask.rate": 0.2, "variant": 0, "baseline": "late"}).iloc[:1]
    compared.to_parquet(folder / "contrasts.parquet")
    save_record(replace(record), folder)  # with the checksums of what was changed
    keep_records.keep(folder, "some")
    found = pd.read_parquet(tmp_path / "docs" / "records" / "some_verdicts.parquet")
    assert found.to_dict("records") == [{"method": "student", "planted 0.2": "+1.2 [0.3, 2.1]; better"}]


def test_a_benchs_record_is_what_documents_read(checkout, monkeypatch):
    keep_records = load("keep_records")
    monkeypatch.setattr(keep_records, "RECORDS", checkout / "docs" / "records")
    keep_records.keep_bench("some", ["statistics"], {"worst ±": 93.9}, {"level": [{"test": "t", "rejects": 5.0}]})
    readme = document(checkout, "bench:some/level", "bench:some/figures")
    assert run(checkout) == 0
    assert "| worst ± | 93.9" in readme.read_text()
    record = json.loads((checkout / "docs" / "records" / "bench_some.json").read_text())
    assert record["code"]
    assert record["machine"]
    assert record["packages"]


def test_verdicts_of_several_data_sets_stand_beside_each_other(taught):
    readme = document(taught, "verdicts:one+two")
    assert run(taught) == 0
    rows = readme.read_text().splitlines()[4:7]
    assert rows == [
        "| kl | +0.0; better | – |",
        "| dkd | +1.0; better | +0.0; better |",
        "| best | – | +1.0; better |",
    ]


def test_the_claims_put_to_several_data_sets_are_one_table(checkout, capsys):
    records = checkout / "docs" / "records"
    row = {"says": "it helps", "verdict": "reproduced", "reason": "", "method": "student", "baseline": "alone"}
    row |= {"subset": "complete", "measure": "difference", "setting": "", "metric": "accuracy", "seeds": 20.0}
    row |= {"estimate": 0.012, "low": 0.003, "high": 0.021, "detectable": 0.009, "p_holm": 0.01}
    for name, rows in {
        "one": [row, {**row, "says": "more helps more"}],
        "two": [{**row, "verdict": "contradicted"}],
    }.items():
        pd.DataFrame(rows).assign(claim="c").to_parquet(records / f"{name}_claims.parquet")
        about = {"config of the first variant": {"data": {"name": f"data {name}"}}}
        (records / f"{name}_provenance.json").write_text(json.dumps(about))
    readme = document(checkout, "claims:one+two")
    assert run(checkout) == 0
    told = [line.split(" | ")[:3] for line in readme.read_text().splitlines()[4:7]]
    assert told == [
        ["| it helps", "data one", "reproduced"],
        ["| it helps", "data two", "contradicted"],
        ["| more helps more", "data one", "reproduced"],
    ]
    assert "student − alone, complete: +1.2 [0.3, 2.1] points" in readme.read_text()
    document(checkout, "claims:one+three")
    assert run(checkout) == 2
    assert "docs/records/three_claims.parquet is missing; keep the sweep's records" in capsys.readouterr().err


def test_a_sweep_made_again_is_held_to_its_scores_and_to_the_verdicts_on_claims_and_contests():
    before = {
        "scores": pd.DataFrame({"node": ["student", "alone"], "seed": [0, 0], "value": [0.5, 0.4]}),
        "claims": pd.DataFrame({"claim": ["better"], "verdict": ["reproduced"]}),
        "contests": pd.DataFrame({"contest": ["all"], "use": ["few"], "on": ["complete rows"], "verdict": ["win"]}),
    }
    assert reproduce.compared({}, before) == ("no record was there before", True)
    assert reproduce.compared(before, before) == ("all 2 scores bit for bit; all 2 verdicts as before", True)
    scores = before["scores"].assign(value=[0.5, 0.425])
    told, same = reproduce.compared(before, {**before, "scores": scores})
    assert (told, same) == ("1 of 2 scores differ, at most by 2.5 points; all 2 verdicts as before", True)
    for table, was in {"claims": "better: reproduced", "contests": "all, few, complete rows: win"}.items():
        told, same = reproduce.compared(before, {**before, table: before[table].assign(verdict="inconclusive")})
        assert (told, same) == (f"all 2 scores bit for bit; {was} before, inconclusive now", False)


def test_a_picture_is_drawn_from_its_scores_and_drawn_again_when_they_change(checkout, capsys):
    path = checkout / "docs" / "records" / "some_scores.parquet"
    rows = [
        {"mask.pool": pool, "node": node, "seed": seed, "what": "complete", "value": 0.5 + 0.001 * pool + 0.01 * seed}
        for pool in (0, 20)
        for node in ("student", "alone")
        for seed in range(5)
    ]
    pd.DataFrame(rows).to_parquet(path)
    marker = "figure:some/mask.pool/complete/student+alone"
    readme, picture = document(checkout, marker), checkout / "docs" / "figures" / "some_mask.pool_complete.svg"
    assert run(checkout) == 0
    assert "](docs/figures/some_mask.pool_complete.svg)" in readme.read_text()
    drawn = picture.read_text()
    assert all(word in drawn for word in ("student", "alone", "mask.pool", "xmlns"))
    assert run(checkout, "--check") == 0
    pd.DataFrame(rows).assign(value=0.7).to_parquet(path)
    capsys.readouterr()
    assert run(checkout, "--check") == 1
    assert f"kd:{marker} is stale; run `make docs`" in capsys.readouterr().err
    assert run(checkout) == 0
    assert picture.read_text() != drawn
    for wrong, why in {
        "some/mask.pool/complete/nobody": "has no 'nobody'",
        "some/mask.pool": "expected RECORD",
    }.items():
        document(checkout, f"figure:{wrong}")
        assert run(checkout) == 2
        assert why in capsys.readouterr().err


def test_the_difference_of_two_is_drawn_seed_by_seed(checkout):
    path = checkout / "docs" / "records" / "some_scores.parquet"
    rows = [
        {"use": f"complete_{n}", "node": node, "seed": seed, "what": "complete", "value": 0.1 * seed + gain}
        for n, gains in {20: (0.03, 0.0), 100: (0.01, 0.0)}.items()
        for node, gain in zip(("student", "alone"), gains, strict=True)
        for seed in range(5)
    ]
    pd.DataFrame(rows).to_parquet(path)
    drawn = picture("figure:some/use=complete_rows/complete/student~alone", checkout)
    assert drawn.path.name == "some_use_gain.svg"
    text = drawn.draw()
    assert all(word in text for word in ("alone", "complete rows", "Points that student gains over"))
    readme = document(
        checkout, *(f"value:some/{name}" for name in ("student~alone/complete", "student/complete/use=complete_20"))
    )
    assert run(checkout) == 0
    told = re.findall(r"-->([^<\n]+)<!--", readme.read_text())
    assert told == ["+2.0 [2.0, 2.0]", "23.0 [3.4, 42.6]"]
    assert run(checkout, "--check") == 0
    for wrong, why in {
        "some/student": "expected RECORD/claims/NAME",
        "some/student/complete/pool=3": "has no axis 'pool'",
        "some/student/complete/use=complete_3": "has no such score",
        "other/student/complete": "other_scores.parquet is missing",
    }.items():
        document(checkout, f"value:{wrong}")
        with pytest.raises(RecordError, match=re.escape(why)):
            make_docs.rewrite((checkout / "README.md").read_text(), checkout, "README.md")
    readme = document(checkout, "scores:some/use/complete/student+alone")
    assert run(checkout) == 0
    assert "| student | 23.0 [3.4, 42.6] | 21.0 [1.4, 40.6] |" in readme.read_text()
    readme = document(checkout, "scores:some/use/complete/student+alone/use=complete_20")
    assert run(checkout) == 0
    assert "| student | 23.0 [3.4, 42.6] |\n" in readme.read_text()
    for wrong in ("nobody", "student/use=complete_3", "student/pool=3"):
        document(checkout, f"scores:some/use/complete/{wrong}")
        assert run(checkout) == 2
    cost = [
        {"use": use, "node": "student", "steps": n, "parameters": 12_345} for use, n in {"a": 400, "b": 800}.items()
    ]
    pd.DataFrame(cost).to_parquet(path.with_name("some_cost.parquet"))
    readme = document(checkout, "cost:some/use/student")
    assert run(checkout) == 0
    assert "| student | 400 / 12,345 | 800 / 12,345 |" in readme.read_text()
    document(checkout, "cost:some/use/nobody")
    assert run(checkout) == 2


def test_minutes_of_several_sweeps_are_added(checkout):
    for name, minutes in {"one": "7.6", "two": "1,200.1"}.items():
        facts = pd.DataFrame([{"fact": "cells", "value": "4"}, {"fact": "minutes", "value": minutes}])
        facts.to_parquet(checkout / "docs" / "records" / f"{name}_facts.parquet")
    readme = document(checkout, "value:one+two/minutes")
    assert run(checkout) == 0
    assert "minutes -->1208<!--" in readme.read_text()
    document(checkout, "value:one+three/minutes")
    assert run(checkout) == 2


def test_heat_maps_show_two_axes_and_subsets(checkout):
    records = checkout / "docs" / "records"
    rows = [
        {"w": w, "T": t, "node": "student", "seed": seed, "what": "complete", "value": w / 10 + t / 100}
        for w in (1.0, 3.0)
        for t in (2.0, 5.0)
        for seed in range(5)
    ]
    pd.DataFrame(rows).to_parquet(records / "some_scores.parquet")
    text = picture("heat:some/w=weight&T=temperature/complete/student", checkout).draw()
    assert all(word in text for word in ("12.0", "15.0", "32.0", "35.0", "weight", "temperature"))
    subsets = [{"node": "student", "subset": s, "mean": m} for s, m in {"b": 0.4, "a": 0.5, "a+b": 0.9}.items()]
    pd.DataFrame(subsets).to_parquet(records / "some_subsets.parquet")
    text = picture("heat:some/subsets/student", checkout).draw()
    assert text.index("50.0") < text.index("40.0") < text.index("90.0")
    with pytest.raises(RecordError, match="has no 'nobody'"):
        picture("heat:some/subsets/nobody", checkout).draw()
    with pytest.raises(RecordError, match="expected RECORD"):
        picture("heat:some/w/complete/student", checkout)


def test_a_graph_shows_what_a_node_is_made_from_and_no_more():
    shown = picture("graph:configs/kdd2020/mfeat.yaml/kdd2020", ROOT)
    text = shown.draw()
    assert all(name in text for name in ("fou", "zer", "mor", "kdd2020", "xmlns"))
    assert "complete_case" not in text
    with pytest.raises(RecordError, match="has no node 'nobody'"):
        picture("graph:configs/kdd2020/mfeat.yaml/nobody", ROOT).draw()


def test_a_card_has_formula_advice_settings_cost_and_results(taught):
    readme = document(taught, "cards:objectives/one+two", "cards:weightings/two")
    assert run(taught) == 0
    cards = {part.split("`")[0]: part for part in readme.read_text().split("### `")[1:]}
    assert list(cards) == [*OBJECTIVES, *TEACHER_WEIGHTS]
    for name, card in cards.items():
        assert re.search(r"\*\*When to use\.\*\* \w+", card), name
        assert "Source: " in card, name
    assert "`T^2 (alpha TCKD + beta NCKD)`" in cards["dkd"]
    assert "`temperature` (4.0): T > 0; `alpha` (1.0): of the target's share;" in cards["dkd"]
    assert "A step takes 1.2 times that of the student without a teacher, 1.1 in a stack." in cards["dkd"]
    assert "| dkd | +1.0; better | +0.0; better |" in cards["dkd"]
    assert "| kl |" in cards["kl"]
    assert "| best |" not in cards["kl"]  # what is weighed stands on the weighting's card
    assert "1.4 times that of the student without a teacher; it does not stack." in cards["best"]
    assert "| best | +1.0; better |" in cards["best"]
    assert "| kl |" not in cards["sp"]  # a teacher that nobody trained


@pytest.mark.parametrize("file", ["two_verdicts.parquet", "bench_objectives.json"])
def test_cards_without_their_records_say_what_writes_them(taught, capsys, file):
    (taught / "docs" / "records" / file).unlink()
    document(taught, "cards:objectives/one+two")
    assert run(taught) == 2
    assert f"docs/records/{file} is missing; " in capsys.readouterr().err


@pytest.mark.parametrize("marker", ["registry:recipes", "numbers", "cards:encoders/one"])
def test_an_unknown_marker_is_one_line_and_status_two(checkout, capsys, marker):
    document(checkout, marker)
    assert run(checkout) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"make_docs: README.md: unknown marker kd:{marker}; known: ")
    assert error.count("\n") == 1


def test_a_marker_without_its_end_is_refused(checkout, capsys):
    (checkout / "README.md").write_text("<!-- kd:record:demo_summary -->\n")
    assert run(checkout) == 2
    assert "is not closed" in capsys.readouterr().err


def test_missing_records_are_named(checkout, capsys):
    document(checkout, "record:absent")
    assert run(checkout) == 2
    assert "docs/records/absent.parquet is missing" in capsys.readouterr().err


def test_a_marker_in_a_code_block_is_text(checkout):
    (checkout / "README.md").write_text("```\n<!-- kd:NAME -->\n```\nor `<!-- kd:NAME -->`\n")
    assert run(checkout, "--check") == 0


def test_a_registry_is_a_table_of_its_entries(monkeypatch):
    import types

    module = types.SimpleNamespace(TABLE=Registry("objective", {"kl": Entry("a:b", "KL at T.", "1503.02531, eq. 4")}))
    monkeypatch.setitem(make_docs.REGISTRIES, "objectives", "kd.invented:TABLE")
    monkeypatch.setitem(__import__("sys").modules, "kd.invented", module)
    assert make_docs.registry_table("objectives").splitlines()[2] == "| `kl` | KL at T. | 1503.02531, eq. 4 |"


def test_without_chromium_the_error_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "absent"))
    assert screenshot_report.main([str(tmp_path / "report.html"), str(tmp_path)]) == 2
    assert capsys.readouterr().err == "screenshot_report: no chromium found; install it or set CHROMIUM to its path\n"


@pytest.mark.slow
@pytest.mark.skipif(screenshot_report.find_chromium() is None, reason="no chromium")
def test_pictures_have_the_promised_widths(tmp_path):
    from PIL import Image

    report = tmp_path / "report.html"
    report.write_text("<!DOCTYPE html><p>a page</p>")
    assert screenshot_report.main([str(report), str(tmp_path), "--height", "300"]) == 0
    assert [Image.open(tmp_path / f"report-{width}.png").size for width in (1280, 390)] == [(1280, 300), (390, 300)]
    shutil.rmtree(tmp_path, ignore_errors=True)
