"""ADNI's tables, as an approved user has them: joins by subject and visit, gaps, diagnoses, and every fault's line.

The tables are invented in their layout (adni_files.py); nobody here has ADNI's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf

import kd
from kd.cli import main
from kd.data import SOURCES, load_source
from kd.data.adni.diagnosis import state
from kd.data.adni.names import CHANGES, DIAGNOSES
from kd.data.columns import Frame
from kd.data.module import DataModule
from kd.data.splits import split
from kd.errors import ConfigError, DataError
from kd.record import run_folder

from .adni_files import write_adni

Tree = dict[str, Any]
Break = Callable[[Path, Tree], None]
ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "kdd2020" / "adni.yaml")
PAGE = (ROOT / "docs" / "adni.md").read_text()
THREE = {
    "mri": {"file": "UCSFFSX51.csv"},
    "pet": {"file": "UCBERKELEYFDG_8mm.csv"},
    "csf": {"file": "UPENNBIOMK9.csv"},
}


@pytest.fixture
def adni(tmp_path: Path) -> Path:
    """Return a folder of invented tables."""
    write_adni(tmp_path / "adni")
    return tmp_path / "adni"


def settings(folder: Path, **changes: Any) -> Tree:
    tree = {"root": str(folder), "diagnosis": "ADNIMERGE.csv", "classes": ["NC", "AD"], "modalities": dict(THREE)}
    return tree | changes


def load(folder: Path, **changes: Any) -> Any:
    return load_source("adni", **settings(folder, **changes)).validate()


def change(path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change a table; every cell is text, as in the file."""
    edit(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"VISCODE2": str})


def values(source: Any, modality: str) -> pd.DataFrame:
    """Return a modality's features by id."""
    return source.inputs[modality].frame.set_axis(source.ids)


def with_cell(frame: pd.DataFrame, row: int, **cells: str) -> pd.DataFrame:
    frame.loc[row, list(cells)] = list(cells.values())
    return frame


# Joins


def test_rows_are_the_diagnosed_subjects_at_baseline_and_classes_keep_the_order_that_is_asked(adni: Path) -> None:
    source = load(adni, classes=["AD", "NC"])
    assert source.class_names == ["AD", "NC"]
    diagnoses = {101: "AD", 102: "NC", 104: "AD", 105: "NC"}  # 103 is MCI
    assert source.ids[:4] == [f"{rid} bl" for rid in diagnoses]
    assert [source.class_names[k] for k in source.label[:4]] == list(diagnoses.values())


def test_screening_mri_belongs_to_the_baseline_and_visits_are_joined_by_viscode2(adni: Path) -> None:
    written = table(adni / "UCSFFSX51.csv").set_index(["RID", "VISCODE2"])
    assert set(written["VISCODE"]) == {"v02", "v11"}, "codes of the phase's own schedule say nothing"
    read = values(load(adni, visit=["bl", "m12"]), "mri")
    assert read.loc["101 bl", "ST29SV"] == written.loc[(101, "scmri"), "ST29SV"]
    assert read.loc["101 m12", "ST29SV"] == written.loc[(101, "m12"), "ST29SV"]


def test_a_visit_without_viscode2_is_read_from_viscode(adni: Path) -> None:
    whole = load(adni)
    change(
        adni / "UPENNBIOMK9.csv", lambda frame: frame.assign(VISCODE2=frame["VISCODE2"].where(frame["RID"] != "101"))
    )
    pd.testing.assert_frame_equal(values(load(adni), "csf"), values(whole, "csf"))


def test_a_row_of_the_baseline_goes_before_one_of_the_screening(adni: Path) -> None:
    def also_at_baseline(frame: pd.DataFrame) -> pd.DataFrame:
        own = frame[frame["VISCODE2"] == "scmri"].assign(VISCODE2="bl", ST29SV="77", EXAMDATE="2010-01-01")
        return pd.concat([own, frame])

    change(adni / "UCSFFSX51.csv", also_at_baseline)
    assert values(load(adni), "mri")["ST29SV"].dropna().unique().tolist() == [77]


@pytest.mark.parametrize("column", ["EXAMDATE", "RUNDATE", "update_stamp"])
def test_of_several_rows_of_a_visit_the_last_is_read_and_never_a_mean(adni: Path, column: str) -> None:
    change(
        adni / "UCSFFSX51.csv", lambda frame: pd.concat([frame.assign(**{column: "12/31/2031"}, ST29SV="77"), frame])
    )
    source = load(adni)
    assert values(source, "mri")["ST29SV"].dropna().unique().tolist() == [77]
    assert source.card["not_read"] == "mri: 48 rows are further ones of a visit"


def test_a_later_row_without_values_hides_nothing(adni: Path) -> None:
    whole = load(adni)
    empty = {"EXAMDATE": "2031-12-31", "VISCODE2": "bl", "ST29SV": "", "ST88SV": "-4", "ST24CV": ""}
    change(adni / "UCSFFSX51.csv", lambda frame: pd.concat([frame, frame.assign(**empty)]))
    assert load(adni).fingerprint == whole.fingerprint


def test_equal_rows_of_a_visit_are_one(adni: Path) -> None:
    whole = load(adni)
    change(adni / "UCSFFSX51.csv", lambda frame: pd.concat([frame, frame.assign(IMAGEUID="9")]))
    assert load(adni).fingerprint == whole.fingerprint


@pytest.mark.parametrize(("column", "good", "bad"), [("OVERALLQC", "Pass", "Fail"), ("qc_flag", "2", "0")])
def test_scans_that_failed_quality_control_are_left_out_unless_they_are_asked_for(
    adni: Path, column: str, good: str, bad: str
) -> None:
    change(adni / "UCSFFSX51.csv", lambda frame: frame.assign(**{column: np.where(frame["RID"] == "101", bad, good)}))
    source = load(adni)
    assert not source.observed[source.ids.index("101 bl"), 0]
    assert source.card["not_read"] == "mri: 2 rows are left out by quality or by `only`"
    asked = load(adni, modalities={"mri": {"file": "UCSFFSX51.csv", "only": {column: [good, bad]}}})
    assert asked.observed[asked.ids.index("101 bl"), 0]


def test_what_is_preferred_goes_before_what_is_later(adni: Path) -> None:
    later = {"EXAMDATE": "2031-12-31", "ST29SV": "77", "IMAGETYPE": "Accelerated T1"}
    change(adni / "UCSFFSX51.csv", lambda frame: pd.concat([frame.assign(**later), frame]))
    assert 77 not in set(values(load(adni), "mri")["ST29SV"])
    chosen = {"mri": {"file": "UCSFFSX51.csv", "only": {"IMAGETYPE": ["Accelerated T1"]}}}
    assert values(load(adni, modalities=chosen), "mri")["ST29SV"].unique().tolist() == [77]


@pytest.mark.parametrize(("column", "good", "other"), [("BATCH", "MEDIAN", "UPENNBIOMK5"), ("qc_flag", "2", "1")])
def test_other_tables_have_their_own_marks_of_what_to_read(adni: Path, column: str, good: str, other: str) -> None:
    def marked(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.concat(
            [frame.assign(**{column: other}, EXAMDATE="2031-12-31"), frame.assign(**{column: good}, TAU="77")]
        )

    change(adni / "UPENNBIOMK9.csv", marked)
    assert values(load(adni), "csf")["TAU"].dropna().unique().tolist() == [77]


def test_a_row_per_region_becomes_a_column_per_region(adni: Path) -> None:
    written = table(adni / "UCBERKELEYFDG_8mm.csv").set_index(["RID", "VISCODE2", "ROINAME"])
    read = values(load(adni), "pet")
    assert list(read)[:2] == ["MEAN MetaROI", "MEAN Top50PonsVermis"]
    for region in ("MetaROI", "Top50PonsVermis"):
        assert read.loc["101 bl", f"MEAN {region}"] == written.loc[(101, "bl", region), "MEAN"]


def test_a_genotype_belongs_to_every_visit_of_its_subject(adni: Path) -> None:
    modalities = {**THREE, "gene": {"file": "APOERES.csv", "by": "subject"}}
    read = values(load(adni, visit="all", modalities=modalities), "gene")
    assert list(read) == ["GENOTYPE"], "how the sample travelled is no feature"
    written = table(adni / "APOERES.csv").set_index("RID")["GENOTYPE"]
    assert (read.loc["101 bl", "GENOTYPE"], read.loc["101 m12", "GENOTYPE"]) == (written[101], written[101])
    at_screening = load(adni, visit="all", modalities=THREE | {"gene": {"file": "APOERES.csv"}})
    assert at_screening.observed[at_screening.ids.index("101 bl"), 3]
    assert not at_screening.observed[at_screening.ids.index("101 m12"), 3]


def test_parquet_of_the_same_cells_is_the_same_data(adni: Path) -> None:
    for file in ("ADNIMERGE", "UCSFFSX51", "UCBERKELEYFDG_8mm", "UPENNBIOMK9"):
        pd.read_csv(adni / f"{file}.csv").to_parquet(adni / f"{file}.parquet")
    modalities = {name: {"file": form["file"].replace("csv", "parquet")} for name, form in THREE.items()}
    other = load(adni, diagnosis="ADNIMERGE.parquet", modalities=modalities)
    assert other.fingerprint == load(adni).fingerprint


# Gaps


def test_a_subject_who_is_not_in_a_table_lacks_the_modality_and_nothing_stands_in_for_it(adni: Path) -> None:
    source = load(adni)
    for column, (name, form) in enumerate(THREE.items()):
        there = {f"{rid} bl" for rid in table(adni / form["file"])["RID"]}
        assert source.observed[:, column].tolist() == [id in there for id in source.ids]
        gap = ~source.observed[:, column]
        assert 0 < int(gap.sum()) < len(source)
        assert values(source, name)[gap.numpy()].isna().all(axis=None)


def test_a_scan_of_another_visit_fills_no_gap(adni: Path) -> None:
    change(adni / "UCSFFSX51.csv", lambda frame: frame[(frame["RID"] != "101") | (frame["VISCODE2"] == "m12")])
    source = load(adni, visit=["bl", "m12"])
    seen = dict(zip(source.ids, source.observed[:, 0].tolist(), strict=True))
    assert (seen["101 bl"], seen["101 m12"], seen["102 bl"]) == (False, True, True)


def test_whatever_stands_in_a_gap_no_answer_changes(adni: Path) -> None:
    source = load(adni)
    filled = {}
    for column, (name, value) in enumerate(source.inputs.items()):
        filled[name] = Frame(value.frame.copy())
        filled[name].frame.loc[~source.observed[:, column].numpy()] = 1e9
    answers = []
    for each in (source, replace(source, inputs=filled)):
        data = DataModule(each, batch_size=64)
        batch = next(iter(data.test_dataloader()))
        assert torch.equal(batch.present, source.observed[batch.index])
        assert not batch.present.all()
        answers.append(kd.classifier(data).eval()(batch.inputs, batch.present).logits)
    assert torch.equal(*answers)


@pytest.mark.parametrize("cell", ["", "-4", "-1", "-4.0"])
def test_codes_of_missing_values_are_empty_cells(adni: Path, cell: str) -> None:
    change(adni / "UPENNBIOMK9.csv", lambda frame: with_cell(frame, 0, TAU=cell))
    change(adni / "UPENNBIOMK9.csv", lambda frame: with_cell(frame, 2, ABETA=cell, TAU=cell, PTAU=cell))
    rids = table(adni / "UPENNBIOMK9.csv")["RID"]
    source = load(adni)
    assert np.isnan(values(source, "csf").loc[f"{rids[0]} bl", "TAU"])
    assert not source.observed[source.ids.index(f"{rids[2]} bl"), 2], "a row of empty cells lacks the modality"


def test_a_column_with_other_negative_numbers_has_no_codes(adni: Path) -> None:
    change(adni / "UPENNBIOMK9.csv", lambda frame: with_cell(frame, 0, TAU="-4").assign(PTAU="-7.5"))
    change(adni / "UPENNBIOMK9.csv", lambda frame: with_cell(frame, 0, PTAU="-4"))
    first = values(load(adni), "csf").loc[f"{table(adni / 'UPENNBIOMK9.csv')['RID'][0]} bl"]
    assert np.isnan(first["TAU"])
    assert first["PTAU"] == -4


def test_values_beyond_an_assay_are_read_at_its_limit(adni: Path) -> None:
    read = values(load(adni), "csf")
    assert read.loc["101 bl", "ABETA"] == 1700
    assert read.loc["104 bl", "TAU"] == 80


# Features


def test_features_are_numbers_that_measure_something(adni: Path) -> None:
    change(adni / "UCSFFSX51.csv", lambda frame: frame.assign(TEMPQC="Pass", SITEID="3", CDRSB="1", LHIPQC="1"))
    assert list(values(load(adni), "mri")) == ["ST29SV", "ST88SV", "ST24CV"]


def test_a_pattern_names_what_measures_something(adni: Path) -> None:
    modalities = {"mri": {"file": "UCSFFSX51.csv", "columns": ["ST*"], "drop": ["ST24CV", "ST88*"]}}
    assert list(values(load(adni, modalities=modalities), "mri")) == ["ST29SV"]


def test_tests_that_the_diagnosis_rests_on_are_features_only_where_they_are_named(adni: Path) -> None:
    written = pd.read_csv(adni / "ADNIMERGE.csv").drop(columns=["DX", "DX_bl"])
    written.assign(MMSE=range(len(written))).to_csv(adni / "MERGED.csv", index=False)
    assert list(values(load(adni, modalities={"clinic": {"file": "MERGED.csv"}}), "clinic")) == ["AGE"]
    named = {"clinic": {"file": "ADNIMERGE.csv", "columns": ["AGE", "PTEDUCAT"]}}
    change(adni / "ADNIMERGE.csv", lambda frame: frame.assign(PTEDUCAT=[str(10 + k % 7) for k in range(len(frame))]))
    assert list(values(load(adni, modalities=named), "clinic")) == ["AGE", "PTEDUCAT"]


# Diagnoses and visits


@pytest.mark.parametrize("classes", [["NC", "AD"], ["AD", "MCI"], ["NC", "MCI", "AD"]])
def test_every_version_of_the_diagnosis_table_says_the_same(adni: Path, classes: list[str]) -> None:
    one, two = (load(adni, diagnosis=file, classes=classes) for file in ("ADNIMERGE.csv", "DXSUM.csv"))
    assert one.class_names == two.class_names == classes
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize(("code", "name"), [*CHANGES.items()])
def test_a_change_of_diagnosis_is_the_state_it_leads_to(code: int, name: str) -> None:
    assert state(str(code), "DXCHANGE") == name
    assert [state(str(name), column) for column in DIAGNOSES] == ["AD" if name == "AD" else state(name, "DX")] * 4


def test_the_diagnosis_of_the_baseline_goes_before_that_of_the_screening(adni: Path) -> None:
    def also_at_baseline(frame: pd.DataFrame) -> pd.DataFrame:
        first = frame[frame["VISCODE2"] == "sc"].iloc[:2]  # of 101, AD, and 102, NC
        later = first.assign(VISCODE2="bl", DIAGNOSIS=["1", ""], DXCHANGE="", DXCURREN="")
        return pd.concat([frame, later])

    change(adni / "DXSUM.csv", also_at_baseline)
    source = load(adni, diagnosis="DXSUM.csv")
    assert [source.class_names[k] for k in source.label[:2]] == ["NC", "NC"], "an empty one is none"


def test_words_of_either_package_are_diagnoses() -> None:
    words = ["CN", "NL", "Dementia", "NL to MCI", "Conversion: MCI to Dementia", "Stable: NL", "-4", "4"]
    assert [state(word, "DIAGNOSIS") for word in words] == ["NC", "NC", "AD", "MCI", "AD", "NC", "", None]


def test_a_subject_is_never_divided_between_the_parts_of_a_split(adni: Path) -> None:
    source = load(adni, visit="all", classes=["NC", "MCI", "AD"])
    subjects = np.array([id.split()[0] for id in source.ids])
    assert sorted(pd.Series(subjects).value_counts().unique()) == [2]
    for seed in range(5):
        parts = split(source, seed=seed)
        sets = [set(subjects[part.numpy()]) for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, sets)) == len(set.union(*sets)) == len(set(subjects))


def test_a_later_visit_is_one_row_per_subject(adni: Path) -> None:
    source = load(adni, visit="m12")
    assert {id.split()[1] for id in source.ids} == {"m12"}
    assert len(source.group.unique()) == len(source)


def test_an_unscheduled_visit_is_no_row(adni: Path) -> None:
    change(adni / "DXSUM.csv", lambda frame: frame.assign(VISCODE2=frame["VISCODE2"].replace("m12", "uns1")))
    assert {id.split()[1] for id in load(adni, diagnosis="DXSUM.csv", visit="all").ids} == {"bl"}


def test_the_card_says_whose_the_data_are(adni: Path) -> None:
    card = load(adni).card
    assert "ADNI Data Use Agreement" in card["licence"]
    assert {"licence", "origin", "traps"} <= set(card)


# Faults


def edited(file: str, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Break:
    return lambda folder, tree: change(folder / file, edit)


def both(*changes: Break) -> Break:
    def do(folder: Path, tree: Tree) -> None:
        for one in changes:
            one(folder, tree)

    return do


def put(**fields: Any) -> Break:
    """Set fields of `data:`."""
    return lambda folder, tree: tree.update(fields)


def form(**fields: Any) -> Break:
    """Set fields of the modality `mri`."""
    return lambda folder, tree: tree["modalities"].update(mri=tree["modalities"]["mri"] | fields)


def renamed(file: str, other: str) -> Break:
    def do(folder: Path, tree: Tree) -> None:
        (folder / file).rename(folder / other)

    return do


def without(*names: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: frame.drop(columns=list(names))


def doubled(**cells: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Repeat the first row at the end, with other cells."""
    return lambda frame: pd.concat([frame, frame[:1].assign(**cells)])


# name -> (what is done, the one line; paths are from the folder)
BROKEN: dict[str, tuple[Break, str]] = {
    "the diagnoses are not there": (
        renamed("ADNIMERGE.csv", "ADNIMERGE_01Jan2020.csv"),
        "data.diagnosis: ADNIMERGE.csv: no such file; did you mean 'ADNIMERGE_01Jan2020.csv'?",
    ),
    "a modality's table is not there": (
        renamed("UCSFFSX51.csv", "mri.csv"),
        "data.modalities.mri.file: UCSFFSX51.csv: no such file; correct the path, or set data.root",
    ),
    "there is no column of subjects": (
        edited("UCSFFSX51.csv", lambda frame: frame.rename(columns={"RID": "PTRID"})),
        "UCSFFSX51.csv: no column 'RID' (the subject); did you mean 'PTRID'? There are: PTRID, VISCODE, VISCODE2, "
        "IMAGEUID, RUNDATE, STATUS, OVERALLQC, IMAGETYPE, ST29SV, ST88SV, ST24CV, ST8SV, ...",
    ),
    "there is no column of visits": (
        edited("UPENNBIOMK9.csv", without("VISCODE", "VISCODE2", "EXAMDATE", "update_stamp")),
        "UPENNBIOMK9.csv: no column 'VISCODE2' or 'VISCODE' (the visit); There are: RID, PHASE, BATCH, KIT, RUNDATE, "
        "ABETA, TAU, PTAU, COMMENT; or write data.modalities.csf.by: subject",
    ),
    "there is no column of diagnoses": (
        edited("ADNIMERGE.csv", without("DX")),
        "ADNIMERGE.csv: no column of diagnoses, as DX, DIAGNOSIS, DXCHANGE, DXCURREN; There are: RID, VISCODE, PTID, "
        "SITE, DX_bl, AGE, MMSE, EXAMDATE, update_stamp",
    ),
    "a diagnosis is unknown": (
        edited("ADNIMERGE.csv", lambda frame: with_cell(frame, 4, DX="Demented")),
        "ADNIMERGE.csv: line 6: DX is 'Demented', no diagnosis that is known (CN, NL, MCI, Dementia, AD, 1, 2, 3); "
        "correct it or leave it empty",
    ),
    "a code of a diagnosis is unknown": (
        both(put(diagnosis="DXSUM.csv"), edited("DXSUM.csv", lambda frame: with_cell(frame, 0, DIAGNOSIS="7"))),
        "DXSUM.csv: line 2: DIAGNOSIS is '7', no diagnosis that is known (CN, NL, MCI, Dementia, AD, 1, 2, 3); correct "
        "it or leave it empty",
    ),
    "a subject is no number": (
        edited("UCSFFSX51.csv", lambda frame: with_cell(frame, 2, RID="011_S_0102")),
        "UCSFFSX51.csv: line 4: RID is '011_S_0102', no whole number; correct it or delete the row",
    ),
    "a subject is empty": (
        edited("ADNIMERGE.csv", lambda frame: with_cell(frame, 2, RID="")),
        "ADNIMERGE.csv: line 4: RID is '', no whole number; correct it or delete the row",
    ),
    "a visit has two diagnoses": (
        edited("ADNIMERGE.csv", doubled(DX="CN")),
        "ADNIMERGE.csv: lines 2, 122: RID 101 is AD and NC at bl; keep one diagnosis",
    ),
    "a class has no subject": (
        edited("ADNIMERGE.csv", lambda frame: frame.assign(DX=frame["DX"].replace("Dementia", "MCI"))),
        "ADNIMERGE.csv: no subject is AD at bl (found: MCI, NC); leave it out of data.classes, or choose another "
        "data.visit",
    ),
    "a class has no subject with any modality": (
        both(
            put(classes=["NC", "MCI", "AD"]),
            *(edited(one["file"], lambda frame: frame[frame["RID"].astype(int) % 3 != 1]) for one in THREE.values()),
        ),
        "ADNIMERGE.csv: no subject that is MCI has any modality; remove it from data.classes",
    ),
    "a visit is not in the diagnoses": (
        put(visit="m06"),
        "data.visit: no row of ADNIMERGE.csv is a diagnosis at 'm06'; There are: bl, m12",
    ),
    "no diagnosis has a scheduled visit": (
        edited("ADNIMERGE.csv", lambda frame: frame.assign(VISCODE="f")),
        "ADNIMERGE.csv: no row has both a diagnosis and a visit that is bl, sc or months as m06; fill some",
    ),
    "a modality has no row at the visit": (
        edited("UPENNBIOMK9.csv", lambda frame: frame[frame["VISCODE2"] != "bl"]),
        "UPENNBIOMK9.csv: no row at bl; There are: m12",
    ),
    "no subject has a modality": (
        edited("UPENNBIOMK9.csv", lambda frame: frame.assign(RID=frame["RID"].astype(int) + 9000)),
        "UPENNBIOMK9.csv: no subject with a diagnosis in ADNIMERGE.csv has modality 'csf' at that visit; compare RID "
        "and visit codes of both files, or leave the modality out",
    ),
    "a modality is empty": (
        edited("UPENNBIOMK9.csv", lambda frame: frame.assign(ABETA="", TAU="-4", PTAU="-1")),
        "data.modalities.csf: no column of UPENNBIOMK9.csv is left for it; name some in data.modalities.csf.columns",
    ),
    "a word is among the numbers": (
        edited("UPENNBIOMK9.csv", lambda frame: with_cell(frame, 2, TAU="hemolysed")),
        "UPENNBIOMK9.csv: line 4: column 'TAU' holds 'hemolysed' among numbers; correct it, leave the cell empty, or "
        "list the word in data.missing",
    ),
    "rows of a visit cannot be told apart": (
        edited("UCSFFSX51.csv", doubled(ST29SV="77")),
        "UCSFFSX51.csv: lines 2, 98: 2 rows of RID 101 at bl that neither quality nor date tells apart; keep one, or "
        "say which to read in data.modalities.mri.only",
    ),
    "nothing passed": (
        edited("UCSFFSX51.csv", lambda frame: frame.assign(OVERALLQC="Fail")),
        "UCSFFSX51.csv: no row holds OVERALLQC: Pass; say which rows to read in data.modalities.mri.only",
    ),
    "what is asked for is no column": (
        form(only={"OVERALQC": ["Pass"]}),
        "data.modalities.mri.only: UCSFFSX51.csv has no column 'OVERALQC'; did you mean 'OVERALLQC'? There are: RID, "
        "VISCODE, VISCODE2, IMAGEUID, RUNDATE, STATUS, OVERALLQC, IMAGETYPE, ST29SV, ST88SV, ST24CV, ST8SV, ...",
    ),
    "a feature is no column": (
        form(columns=["ST29*", "ST77SV"]),
        "data.modalities.mri.columns: UCSFFSX51.csv has no column 'ST77SV'; There are: RID, "
        "VISCODE, VISCODE2, IMAGEUID, RUNDATE, STATUS, OVERALLQC, IMAGETYPE, ST29SV, ST88SV, ST24CV, ST8SV, ...",
    ),
    "a pattern matches no feature": (
        form(columns=["ST29SV", "STAT*"]),
        "data.modalities.mri.columns: no feature of UCSFFSX51.csv matches 'STAT*'; columns that are left out by "
        "default have to be named in full",
    ),
    "a table holds diagnoses and no feature is named": (
        form(file="ADNIMERGE.csv"),
        "data.modalities.mri: ADNIMERGE.csv holds diagnoses (DX_bl, DX) beside all else; name its features in "
        "data.modalities.mri.columns",
    ),
    "a diagnosis is a feature": (
        form(file="ADNIMERGE.csv", columns=["AGE", "DX_bl"]),
        "data.modalities.mri.columns: 'DX_bl' is the label; a network must not see it; remove it here",
    ),
    "a test gives the diagnosis away": (
        form(file="ADNIMERGE.csv", columns=["AGE", "MMSE"]),
        "ADNIMERGE.csv: the label can be read off column 'MMSE'; name it in data.modalities.mri.drop",
    ),
    "the subject is a feature": (
        form(columns=["RID", "ST29SV"]),
        "data.modalities.mri.columns: 'RID' is the id; a network must not see it; remove it here",
    ),
}


def faults_of(folder: Path, tree: Tree) -> list[str]:
    """Return the faults of loading, with paths from the folder."""
    with pytest.raises(DataError) as caught:
        load_source("adni", **tree)
    return [fault.replace(f"{folder.as_posix()}/", "") for fault in caught.value.faults]


@pytest.mark.parametrize("name", BROKEN)
def test_a_wrong_or_partial_file_is_one_line_with_file_row_and_fix(name: str, adni: Path) -> None:
    do, line = BROKEN[name]
    tree = settings(adni)
    do(adni, tree)
    assert faults_of(adni, tree) == [line]


def test_faults_of_all_files_come_at_once(adni: Path) -> None:
    tree = settings(adni)
    names = ["a diagnosis is unknown", "a subject is no number", "a word is among the numbers"]
    for name in names:
        BROKEN[name][0](adni, tree)
    (adni / "UCBERKELEYFDG_8mm.csv").unlink()
    found = faults_of(adni, tree)
    assert set(found) >= {BROKEN[name][1] for name in names}
    assert len(found) == 4


def test_a_column_without_values_among_those_named_is_a_fault(adni: Path) -> None:
    tree = settings(adni, modalities={"mri": {"file": "UCSFFSX51.csv", "columns": ["ST8SV", "ST29SV"]}})
    line = "UCSFFSX51.csv: column 'ST8SV' is empty in every row; name it in data.modalities.mri.drop"
    assert faults_of(adni, tree) == [line]


# name -> (settings, the one line)
WRONG: dict[str, tuple[Tree, str]] = {
    "a class is unknown": (
        {"classes": ["CN", "AD"]},
        "data.classes: unknown class 'CN'; write NC",
    ),
    "there is one class": (
        {"classes": ["AD"]},
        "data.classes: expected two or three different ones of NC, MCI, AD, got ['AD']",
    ),
    "a class is there twice": (
        {"classes": ["AD", "AD"]},
        "data.classes: expected two or three different ones of NC, MCI, AD, got ['AD', 'AD']",
    ),
    "a visit is a screening": ({"visit": "sc"}, "data.visit: 'sc' is no visit code; write bl, or all"),
    "a visit is unknown": (
        {"visit": ["bl", "v03"]},
        "data.visit: 'v03' is no visit code; write bl, months as m06, or all",
    ),
    "a month is not written as ADNI does": ({"visit": "m6"}, "data.visit: 'm6' is no visit code; write m06, or all"),
    "there is no visit": ({"visit": []}, "data.visit: expected a visit code, several, or all, got []"),
    "there is no modality": (
        {"modalities": {}},
        "data.modalities: expected at least one modality, {name: {file: ...}}, got {}",
    ),
    "a modality has no file": ({"modalities": {"mri": {}}}, "data.modalities.mri.file: required key is missing"),
    "a modality is no mapping": (
        {"modalities": {"mri": "UCSFFSX51.csv"}},
        "data.modalities.mri: expected a mapping, got 'UCSFFSX51.csv'",
    ),
    "a setting is misspelt": (
        {"modalities": {"mri": {"file": "a.csv", "colums": ["x"]}}},
        "data.modalities.mri.colums: unknown key; did you mean 'columns'? Known: file, columns, drop, categories, "
        "only, by",
    ),
    "a table belongs to neither visits nor subjects": (
        {"modalities": {"mri": {"file": "a.csv", "by": "scan"}}},
        "data.modalities.mri.by: expected one of 'visit', 'subject', got 'scan'",
    ),
    "a table is of an unknown kind": (
        {"diagnosis": "ADNIMERGE.rda"},
        "data.diagnosis: 'ADNIMERGE.rda': expected a name that ends in .csv, .tsv, .parquet; save it as one of them",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_setting_is_one_line_with_its_field(name: str, tmp_path: Path) -> None:
    wrong, line = WRONG[name]
    with pytest.raises(ConfigError) as caught:
        load_source("adni", **settings(tmp_path, **wrong))
    assert caught.value.faults == [line]


# The whole way


def test_the_shipped_study_runs_on_tables_of_this_layout(adni: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(adni.parent)
    few = [
        "seeds=1",
        "defaults.steps=10",
        "defaults.validate_every=5",
        "defaults.batch_size=8",
        "defaults.model.width=4",
    ]
    assert main(["check", CONFIG, *few]) == 0
    capsys.readouterr()
    assert main(["run", CONFIG, *few, "json=true"]) == 0
    record = json.loads(capsys.readouterr().out)
    scores = pd.read_parquet(run_folder("run", record["id"]) / "contrasts.parquet")
    assert set(scores["contrast"]) >= {"kdd2020_vs_complete_case", "masked_vs_product"}


def test_the_shipped_study_says_what_is_missing_where_there_are_no_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check", CONFIG]) == 2
    assert "data.root: adni: no such folder" in capsys.readouterr().err
    (tmp_path / "adni").mkdir()
    assert main(["check", CONFIG]) == 2
    assert "data.diagnosis: adni/ADNIMERGE.csv: no such file" in capsys.readouterr().err


# docs/adni.md


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
def test_settings_on_the_page_are_known_and_read_the_tables(
    block: str, adni: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adni.parent)
    tree: Any = OmegaConf.to_container(OmegaConf.create(block))
    assert SOURCES.faults(tree["data"], "data") == []
    assert load_source(**tree["data"]).modalities == list(tree["data"]["modalities"])


def test_faults_on_the_page_are_those_that_are_given() -> None:
    given = {line for _, line in BROKEN.values()}
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    lines = [content for language, content in blocks if not language][-1].replace("adni/", "").splitlines()
    assert lines
    assert set(lines) <= given
