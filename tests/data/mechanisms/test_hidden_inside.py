"""Mechanisms by site, inside a modality, and of labels: their laws, what a source becomes, and who learns from what."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

import kd
from kd.data import masks
from kd.data.columns import Frame
from kd.data.masks import draw
from kd.data.source import Source
from kd.data.splits import split
from kd.distill.setting import Setting
from kd.errors import ConfigError, MaskError
from kd.study import setting_for
from kd.study.answers import FLOAT
from kd.study.replicate import Silent, run_replicate

ROWS = 3000


def clinic(rows: int = ROWS, sites: int = 12) -> Source:
    random = torch.Generator().manual_seed(0)
    label = torch.arange(rows) % 3
    site = torch.randint(sites, (rows,), generator=random)
    visit = Frame(pd.DataFrame({"site": [f"s{k}" for k in site.tolist()], "age": torch.rand(rows, generator=random)}))
    scan = label[:, None] + torch.randn(rows, 10, generator=random)
    return Source("clinic", {"visit": visit, "scan": scan, "steps": torch.randn(rows, 6, 2)}, label, 3)


SOURCE = clinic()
SPLIT = split(SOURCE)
TRAIN = SPLIT.train


def sites_of(source: Source) -> pd.Series:
    return source.inputs["visit"].frame["site"].iloc[TRAIN.numpy()].reset_index(drop=True)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_all_rows_of_a_site_lose_a_modality_together_at_the_rate_asked_for(rate) -> None:
    mask = draw(SOURCE, SPLIT, {"name": "block", "by": "visit[site]", "rate": {"scan": rate, "steps": rate}}, 1)
    sites = sites_of(SOURCE)
    for column, name in enumerate(SOURCE.modalities):
        assert (pd.Series(mask.keep[TRAIN, column].numpy()).groupby(sites).nunique() == 1).all()
        largest = float(sites.value_counts(normalize=True).iloc[0])
        assert abs(mask.realised[name] - (rate if name != "visit" else 0)) <= largest
    assert mask.available(SOURCE)[TRAIN].any(dim=1).all()


def test_over_seeds_the_share_of_a_block_is_the_rate_asked_for() -> None:
    part = {"name": "block", "by": "visit[site]", "rate": {"scan": 0.37}}
    realised = torch.tensor([draw(SOURCE, SPLIT, part, seed).realised["scan"] for seed in range(300)])
    assert float(realised.mean()) == pytest.approx(0.37, abs=4 * float(realised.std()) / math.sqrt(300))


def test_groups_are_sites_and_rows_without_sites_can_be_dealt_to_some() -> None:
    grouped = Source("g", {"a": torch.zeros(300, 2), "b": torch.zeros(300, 2)}, torch.arange(300) % 2, 2)
    object.__setattr__(grouped, "group", torch.arange(300) // 10)
    parts = split(grouped)
    keep = draw(grouped, parts, {"name": "block", "rate": 0.4}, 0).keep
    assert all(len(keep[grouped.group == k].unique(dim=0)) == 1 for k in grouped.group[parts.train].unique())
    dealt = draw(SOURCE, SPLIT, {"name": "block", "rate": 0.4, "sites": 7}, 0)
    assert len(dealt.keep[TRAIN].unique(dim=0)) <= 7


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"name": "block"}, "name a column, as in by: table.site., or deal the rows to sites: 10"),
        ({"name": "block", "by": "visit[town]"}, r"'visit.town.' is no column of a table; known: group, visit.site."),
        ({"name": "block", "sites": 1}, "sites=1; expected 2 to"),
        ({"name": "block", "sites": 4, "rate": 0.8}, "at most 0.6667 is possible"),
        ({"name": "cells", "rate": {"scan": 1.0}}, "rate of 'scan' is 1; to hide it altogether, use mcar"),
        ({"name": "span", "rate": {"scan": 0.95}}, "0.95 of 10 in 'scan' leaves none; at most 0.9 is possible"),
        ({"name": "unlabelled"}, "give rate or labels, got neither"),
        ({"name": "unlabelled", "labels": 5, "rate": 0.1}, "got both"),
        ({"name": "unlabelled", "labels": 10**6}, "labels=1000000 is impossible; expected 1 to"),
        ({"name": "unlabelled", "rate": 1.0}, r"expected a fraction in \[0, 1\)"),
    ],
)
def test_what_cannot_be_hidden_is_refused_in_one_line(part, message) -> None:
    with pytest.raises(MaskError, match=message) as refused:
        draw(SOURCE, SPLIT, part, 0)
    assert "\n" not in str(refused.value)


def test_pictures_have_no_cells_to_lose() -> None:
    pictures = Source("p", {"p": torch.zeros(40, 3, 8, 8, dtype=torch.uint8)}, torch.arange(40) % 2, 2)
    with pytest.raises(MaskError, match="no modality has features that could be empty; use mcar"):
        draw(pictures, split(pictures), {"name": "cells"}, 0)


def test_faults_inside_a_joint_mechanism_are_told_all_at_once_by_their_place() -> None:
    with pytest.raises(ConfigError) as refused:
        draw(SOURCE, SPLIT, {"name": "joint", "parts": {"a": {"name": "mcr"}, "b": {"name": "span", "lenght": 2}}}, 0)
    assert "mask.parts.a.name: unknown mechanism 'mcr'; did you mean 'mcar'?" in str(refused.value)
    assert "mask.parts.b.lenght: unknown argument" in str(refused.value)


@pytest.mark.parametrize("name", ["cells", "span"])
def test_values_inside_are_hidden_at_the_rate_asked_for_and_each_row_keeps_one(name) -> None:
    mask = draw(SOURCE, SPLIT, {"name": name, "rate": {"scan": 0.35, "steps": 0.5}}, 0)
    assert mask.realised["cells/scan"] == pytest.approx(0.35, abs=0.02)
    assert mask.realised["cells/steps"] == pytest.approx(0.5, abs=0.03)
    for kept in mask.cells.values():
        assert kept.flatten(1).any(dim=1).all()


def test_a_span_is_one_run_of_neighbours_and_of_whole_steps() -> None:
    mask = draw(SOURCE, SPLIT, {"name": "span", "rate": 0.35}, 0)
    hidden = ~mask.cells["scan"][TRAIN]
    starts = (hidden[:, 1:] & ~hidden[:, :-1]).sum(dim=1) + hidden[:, 0]
    assert (starts == 1).all()
    assert set(hidden.sum(dim=1).tolist()) == {3, 4}
    steps = mask.cells["steps"]
    assert torch.equal(steps[:, :, 0], steps[:, :, 1])


def test_hidden_values_become_holes_which_the_network_imputes_and_the_data_keep_their_name() -> None:
    mask = draw(SOURCE, SPLIT, {"name": "cells", "rate": 0.4}, 0)
    hidden = mask.hide(SOURCE)
    assert hidden.fingerprint == SOURCE.fingerprint
    assert torch.equal(hidden.inputs["scan"].isnan(), ~mask.cells["scan"])
    assert hidden.modality["scan"].holes
    assert hidden.inputs["visit"].frame.isna().to_numpy().sum() == int((~mask.cells["visit"]).sum())
    assert not SOURCE.inputs["scan"].isnan().any()
    network = kd.classifier(kd.DataModule(SOURCE, mask=mask, split=SPLIT))
    data = kd.DataModule(SOURCE, mask=mask, split=SPLIT)
    batch = next(iter(data.train_dataloader()))
    assert network(batch.inputs, batch.present).logits.isfinite().all()


def test_labels_that_remain_are_spread_over_the_classes_and_nested() -> None:
    few, many = (draw(SOURCE, SPLIT, {"name": "unlabelled", "labels": n}, 0).labelled[TRAIN] for n in (60, 150))
    assert SOURCE.label[TRAIN][few].bincount().tolist() == [20, 20, 20]
    assert not (few & ~many).any()


def study(**changes):
    from kd.parsing import parse

    tree = {
        "data": {"name": "synthetic", "rows": 400},
        "mask": {"name": "unlabelled", "labels": 40},
        "seeds": 1,
        "nodes": {
            "teacher": {"sees": ["m0", "m1", "m2"], "steps": 20},
            "student": {"sees": ["m0", "m1", "m2"], "steps": 20},
        },
        "edges": {"soft": {"teacher": "teacher", "student": "student"}},
        "baselines": {"linear": {"sees": ["m0"]}},
    }
    return parse({**tree, **changes})


def test_only_who_has_a_teacher_learns_from_rows_without_a_label(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("KD_RUNS", str(tmp_path))
    from kd.distill.trained import rows_seen
    from kd.study import load

    config = study()
    source = load(config)
    labelled = draw(source, setting_for(config, source, 0).split, config.mask, 0).labelled
    found = run_replicate(config, source, 0, 0, Silent())
    seen = {name: torch.tensor(rows_seen(record)["rows"]) for name, record in found.fitted.items()}
    assert labelled[seen["teacher"]].all()
    assert labelled[seen["linear"]].all()
    assert len(seen["teacher"]) == 40
    assert len(seen["student"]) == len(found.split.train)
    assert ("student", FLOAT) in found.answers


def test_hidden_labels_change_nothing_that_is_learnt(tmp_path, monkeypatch) -> None:
    # The labels of rows that the mask hides are replaced by wrong ones: every weight stays.
    monkeypatch.setenv("KD_RUNS", str(tmp_path / "a"))
    from dataclasses import replace

    from kd.distill.fit import build
    from kd.distill.loss import distillation_loss
    from kd.study import load

    config = study()
    source = load(config)
    rows = setting_for(config, source, 0).split
    mask = draw(source, rows, config.mask, 0)
    wrong = torch.where(mask.labelled, source.label, (source.label + 1) % source.classes)
    losses = []
    for label in (source.label, wrong):
        setting = Setting.of(source, rows, mask, 0)
        setting.source = replace(setting.source, label=label)
        module, _ = build(config, "teacher", setting, {})
        batch = setting.rows(rows.train, setting.available)
        counted = torch.ones(len(batch), dtype=torch.bool)
        module.model.eval()
        logits = module.model(batch.inputs, batch.present)
        losses.append(distillation_loss(logits, {}, {}, batch, module.task, counted=counted)["supervised"])
    assert torch.equal(*losses)


def test_masks_that_hide_inside_differ_in_the_data_they_give() -> None:
    settings = [
        Setting.of(SOURCE, SPLIT, draw(SOURCE, SPLIT, {"name": "cells"}, seed), seed).fingerprints.data
        for seed in (0, 1)
    ]
    plain = [
        Setting.of(SOURCE, SPLIT, draw(SOURCE, SPLIT, {"name": "mcar"}, seed), seed).fingerprints.data
        for seed in (0, 1)
    ]
    assert settings[0] != settings[1]
    assert plain[0] == plain[1]


def test_several_mechanisms_hide_what_any_of_them_hides() -> None:
    parts = {"a": masks.mcar(0.3), "b": masks.unlabelled(rate=0.5), "c": masks.cells(0.2)}
    mask = masks.joint(parts).draw(SOURCE, SPLIT)
    assert mask.realised["scan"] == pytest.approx(0.3, abs=0.05)
    assert mask.realised["labelled"] == pytest.approx(0.5, abs=0.05)
    assert mask.realised["cells/scan"] == pytest.approx(0.2, abs=0.02)


def test_mechanisms_that_together_leave_rows_nothing_are_refused_unless_that_is_meant() -> None:
    parts = {"a": masks.mcar(0.5), "b": masks.block(0.5, sites=9)}
    with pytest.raises(MaskError, match="with no modality"):
        masks.joint(parts).draw(SOURCE, SPLIT).available(SOURCE)
    assert not masks.joint(parts, allow_empty=True).draw(SOURCE, SPLIT).available(SOURCE)[TRAIN].any(dim=1).all()


def test_sites_of_any_sizes_lose_their_share_within_the_largest_and_never_everything() -> None:
    from kd.data.mechanisms.sites import _lost

    random = torch.Generator().manual_seed(0)
    for seed in range(300):
        sizes = torch.rand(int(torch.randint(2, 25, (1,), generator=random)), generator=random).double() ** 3 + 0.01
        share = {name: sizes / sizes.sum() for name in "abc"}
        rates = dict(zip("abc", (0.66 * torch.rand(3, generator=random)).tolist(), strict=True))
        lost = _lost("rows", seed, rates, share)
        assert not torch.stack(list(lost.values())).all(dim=0).any()
        for name, rate in rates.items():
            assert abs(float(share[name][lost[name]].sum()) - rate) <= float(share[name].max()) + 1e-9


def test_a_draw_of_few_uneven_sites_that_misses_its_rate_is_refused() -> None:
    from kd.data.mechanisms.sites import _lost

    sizes = torch.tensor([0.024, 0.581, 0.074, 0.018, 0.062, 0.241]).double()
    rates = {"m0": 0.372, "m1": 0.776, "m2": 0.765, "m3": 0.945}
    with pytest.raises(MaskError, match=r"6 sites cannot give 'm2' a rate of 0\.765"):
        _lost("rows", 6, rates, dict.fromkeys(rates, sizes))
