"""Sources: what they promise, what they refuse, and what is in the shipped files."""

import json
import shutil

import pytest
import torch

from kd.data import SOURCES, load_source
from kd.data.leaks.telling import label_columns
from kd.data.mfeat import WIDTHS, mfeat
from kd.data.shipped import data_home
from kd.data.source import Source
from kd.data.splits import split
from kd.data.synthetic import World, bayes_accuracy, bayes_posterior, synthetic
from kd.errors import ConfigError, DataError
from kd.registry import keywords


def small(**changes):
    fields = {
        "name": "small",
        "inputs": {"a": torch.arange(6.0).reshape(3, 2), "b": torch.ones(3, 4)},
        "label": torch.tensor([0, 1, 1]),
        "classes": 2,
    }
    return Source(**(fields | changes))


@pytest.fixture(scope="module")
def digits():
    return mfeat()


def shipped() -> list[str]:
    """Return the sources that are there without a file of the user's: all of their arguments have defaults."""
    factories = {name: keywords(entry.load()).values() for name, entry in SOURCES.items()}
    return [name for name, known in factories.items() if all(p.default is not p.empty for p in known)]


@pytest.mark.parametrize("name", shipped())
def test_every_source_keeps_its_promises_and_is_reproducible(name):
    source = load_source(name).validate()
    assert source.fingerprint == load_source(name).fingerprint
    assert {"licence", "origin", "traps"} <= set(source.card)
    assert not label_columns(source)


def test_selection_keeps_the_source_order():
    assert load_source("synthetic").select(["m2", "m0"]).modalities == ["m0", "m2"]


def test_selection_takes_the_columns_of_observed_along():
    observed = torch.tensor([[True, False], [True, True], [False, True]])
    assert small(observed=observed).select(["b"]).observed[:, 0].tolist() == [False, True, True]


def test_unknown_modality_is_refused_with_a_suggestion():
    with pytest.raises(DataError, match="did you mean 'fou'"):
        mfeat(modalities=["fuo"])


def test_no_modality_is_refused():
    with pytest.raises(DataError, match="no modality selected"):
        mfeat(modalities=[])


def test_unknown_argument_of_a_source_is_a_config_fault():
    with pytest.raises(ConfigError, match="unknown argument"):
        load_source("mfeat", modality=["fou"])


def test_fingerprint_follows_the_content_and_not_the_name():
    changed = {"a": torch.arange(6.0).reshape(3, 2) + 1, "b": torch.ones(3, 4)}
    assert small().fingerprint == small(name="other").fingerprint
    assert small().fingerprint != small(inputs=changed).fingerprint
    assert small().fingerprint != small(label=torch.tensor([1, 1, 1])).fingerprint


def test_batch_gathers_rows_in_the_order_asked():
    batch = small().batch(torch.tensor([2, 0]), torch.tensor([[True, False], [True, True]]))
    assert batch.inputs["a"].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert batch.label.tolist() == [1, 0]
    assert batch.index.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": torch.tensor([0, 1, 2])}, "label: row 2 is 2"),
        ({"label": torch.tensor([0.0, 1.0, 1.0])}, "expected int64"),
        ({"inputs": {"a": torch.ones(2, 2), "b": torch.ones(3, 4)}}, "'a'.*2 rows but label has 3"),
        ({"inputs": {"a": torch.tensor([[0.0], [1.0], [float("nan")]]), "b": torch.ones(3, 1)}}, "'a'.*row 2"),
        ({"observed": torch.tensor([[True, False]] * 3)}, "'b' has no observed row"),
        ({"inputs": {}}, "empty"),
        ({"task": "multiclas"}, "did you mean 'multiclass'"),
        ({"group": torch.arange(2)}, "group: expected shape"),
        ({"task": "multilabel", "label": torch.full((3, 2), 1.5)}, "label: row 0"),
        ({"task": "regression", "label": torch.tensor([[0.0, 1], [float("inf"), 1], [0, 0]])}, "label: row 1"),
    ],
)
def test_broken_source_is_refused_in_one_line(changes, message):
    with pytest.raises(DataError, match=message) as caught:
        small(**changes).validate()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("small: ")


def test_nan_in_an_unobserved_entry_is_allowed():
    inputs = {"a": torch.tensor([[0.0], [1.0], [float("nan")]]), "b": torch.ones(3, 1)}
    small(inputs=inputs, observed=torch.tensor([[True, True], [True, True], [False, True]])).validate()


def test_mfeat_has_the_published_shape(digits):
    # Widths, rows and class balance: UCI Multiple Features, mfeat.info.
    expected = {"fou": (76,), "fac": (216,), "kar": (64,), "pix": (240,), "zer": (47,), "mor": (6,)}
    assert {name: m.shape for name, m in digits.modality.items()} == expected
    assert list(WIDTHS) == list(expected)
    assert digits.label.bincount().tolist() == [200] * 10


def test_mfeat_pixels_are_averages_of_windows(digits):
    # mfeat.info: pixel averages in 2 x 3 windows, so integers from 0 to 6.
    assert digits.inputs["pix"].unique().tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_no_column_of_mfeat_is_the_label(digits):
    for value in digits.inputs.values():
        assert not (value == digits.label[:, None]).all(dim=0).any()
    assert not label_columns(digits)


def test_copies_in_mfeat_share_a_group_and_never_cross_a_split(digits):
    whole = torch.cat(list(digits.inputs.values()), dim=1)
    assert len(whole.unique(dim=0)) == len(digits.group.unique()) == 1994
    assert (whole[digits.group] == whole).all()
    split(digits, seed=1).validate(digits)


@pytest.fixture
def copied_home(tmp_path, monkeypatch):
    shutil.copytree(data_home() / "mfeat", tmp_path / "data" / "mfeat")
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    return tmp_path / "data" / "mfeat"


def test_damaged_file_is_refused_in_one_line(copied_home):
    content = bytearray((copied_home / "zer.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (copied_home / "zer.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"zer\.parquet: damaged") as caught:
        mfeat()
    assert "\n" not in str(caught.value)


def test_missing_file_and_missing_checksum_are_refused_in_one_line(copied_home):
    (copied_home / "zer.parquet").unlink()
    with pytest.raises(DataError, match=r"zer\.parquet: missing"):
        mfeat()
    (copied_home / "checksums.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match=r"checksums\.json: expected"):
        mfeat()


def test_absent_home_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    with pytest.raises(DataError, match="set KD_HOME"):
        mfeat()


def test_shipped_files_are_small():
    assert sum(path.stat().st_size for path in (data_home() / "mfeat").iterdir()) < 8_000_000


SUBSETS = [["m0"], ["m1"], ["m0", "m1"], ["m0", "m2"], ["m0", "m1", "m2"]]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.75])
def test_bayes_accuracy_grows_with_the_subset(gamma):
    source = synthetic(gamma=gamma)
    best = {tuple(s): bayes_accuracy(source, s).accuracy for s in SUBSETS}
    for small_set in SUBSETS:
        for large in SUBSETS:
            if set(small_set) < set(large):
                assert best[tuple(small_set)] < best[tuple(large)]


def test_at_gamma_one_every_subset_is_worth_the_same():
    source = synthetic(gamma=1.0)
    assert len({bayes_accuracy(source, s).accuracy for s in SUBSETS}) == 1
    posteriors = [bayes_posterior(source, source.select(s).inputs) for s in SUBSETS]
    for posterior in posteriors[1:]:
        assert torch.allclose(posterior, posteriors[0], atol=1e-4)  # the rotated rows are stored in float32


def test_noise_is_common_at_gamma_one_and_independent_at_gamma_zero():
    for gamma, low, high in ((1.0, 0.999, 1.001), (0.0, 0.0, 0.1)):
        source = synthetic(rows=4000, gamma=gamma, width=1 if gamma else 2, separation=0.0)
        a, b = (source.inputs[m][:, 0] for m in ("m0", "m1"))
        assert low <= abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) <= high


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_fitted_classifier_comes_close_to_bayes_and_never_passes_it(gamma):
    # scikit-learn's LDA, whose model is this one (equal covariances); 20000 rows to fit and to test.
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    source = synthetic(rows=40_000, gamma=gamma)
    for subset in SUBSETS:
        x = torch.cat([source.inputs[m] for m in subset], dim=1)
        fitted = LinearDiscriminantAnalysis().fit(x[:20_000], source.label[:20_000])
        found = fitted.score(x[20_000:], source.label[20_000:])
        best = bayes_accuracy(source, subset)
        error = (best.standard_error**2 + found * (1 - found) / 20_000) ** 0.5
        assert best.accuracy - 0.01 - 4 * error < found < best.accuracy + 4 * error


def test_bayes_rule_on_the_rows_reaches_the_stated_accuracy():
    source = synthetic(rows=20_000)
    for subset in SUBSETS:
        posterior = bayes_posterior(source, source.select(subset).inputs)
        assert torch.allclose(posterior.sum(dim=1), torch.ones(20_000, dtype=torch.float64))
        hit = float((posterior.argmax(dim=1) == source.label).double().mean())
        assert abs(hit - bayes_accuracy(source, subset).accuracy) < 4 * (0.25 / 20_000) ** 0.5


def test_ceiling_survives_selection_and_is_outside_the_fingerprint():
    source = synthetic(rows=50)
    assert isinstance(source.select(["m1"]).ceiling, World)
    assert small().fingerprint == small(ceiling=source.ceiling).fingerprint


@pytest.mark.parametrize(
    "arguments", [{"gamma": 0.3}, {"gamma": 1.5}, {"modalities": 0}, {"classes": 1}, {"rows": 3}, {"separation": -1.0}]
)
def test_impossible_synthetic_source_is_refused_in_one_line(arguments):
    with pytest.raises(DataError) as caught:
        synthetic(**arguments)
    assert "\n" not in str(caught.value)


def test_bayes_rule_of_other_sources_is_refused(digits):
    with pytest.raises(DataError, match="unknown"):
        bayes_accuracy(digits, ["fou"])
    with pytest.raises(DataError, match="distinct"):
        bayes_accuracy(synthetic(rows=50), ["m0", "m0"])
