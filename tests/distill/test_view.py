"""What a node sees: dropped modalities, eligible rows, batches by step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd.data.stream import SharedBatches, StepBatches
from kd.distill.view import SAMPLED_SUBSETS, orderings, row_draws, subsets
from kd.types import drop, eligible


@given(seed=st.integers(0, 10_000), probability=st.floats(0, 0.99))
def test_dropping_hides_only_what_was_there_and_leaves_one(seed: int, probability: float) -> None:
    present = torch.rand(20, 4, generator=torch.Generator().manual_seed(seed)) > 0.5
    kept = drop(present, probability, row_draws(seed, torch.arange(20), 8))
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(dim=1), present.any(dim=1))


def test_dropping_hides_as_often_as_asked() -> None:
    kept = drop(torch.ones(20_000, 6, dtype=torch.bool), 0.3, row_draws(0, torch.arange(20_000), 12))
    # 120,000 draws: six standard errors are 0.008; the survivor rule adds 0.3^6 / 6.
    assert abs(float(kept.float().mean()) - 0.7) < 0.01


def test_draws_of_a_row_are_the_same_in_any_batch() -> None:
    whole = row_draws(7, torch.arange(32), 6)
    assert torch.equal(torch.cat([row_draws(7, rows, 6) for rows in torch.arange(32).split(5)]), whole)
    assert not torch.equal(row_draws(8, torch.arange(32), 6), whole)


def test_draws_are_splitmix64s() -> None:
    # Its first outputs for the seed 1234567, as in the reference implementation's test vectors (S. Vigna).
    known = (6457827717110365317, 3203168211198807973, 9817491932198370423)
    drawn = (row_draws(1234567, torch.tensor([0]), 3) * 2**24).long()
    assert drawn.tolist() == [[value >> 40 for value in known]]


def test_eligible_rows_are_complete_over_the_source_or_any_of_the_nodes_own_or_those_with_a_label() -> None:
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 1]]).bool()
    labelled = torch.tensor([1, 0, 1]).bool()
    assert eligible(present, "complete", [0], labelled).tolist() == [True, False, False]
    assert eligible(present, "any", [0, 1], labelled).tolist() == [True, True, False]
    assert eligible(present, "labelled", [0, 1], labelled).tolist() == [True, False, False]


def test_all_subsets_are_named_once() -> None:
    assert len(set(subsets("abcd"))) == 15


@pytest.mark.parametrize("count", [9, 12, 20])
def test_beyond_eight_modalities_a_fixed_sample_of_subsets_is_judged(count: int) -> None:
    names = [f"m{i:02d}" for i in range(count)]
    found = subsets(names)
    assert len(set(found)) == len(found) <= SAMPLED_SUBSETS
    assert {(name,) for name in names} <= set(found)
    assert {tuple(other for other in names if other != name) for name in names} <= set(found)
    assert found[-1] == tuple(names)
    assert {len(chosen) for chosen in found} == set(range(1, count + 1))
    opened = {frozenset(order[:size]) for order in orderings(names) for size in range(1, count + 1)}
    assert opened <= {frozenset(chosen) for chosen in found}


def test_the_sample_of_subsets_does_not_depend_on_the_order_of_modalities() -> None:
    names = list("abcdefghij")
    assert {frozenset(s) for s in subsets(names)} == {frozenset(s) for s in subsets(names[::-1])}


def test_batches_pass_over_every_row_before_any_repeats() -> None:
    ids = torch.arange(100, 110)
    stream = StepBatches(ids, batch_size=4, steps=5, seed=0)
    rows = torch.cat(list(stream))
    assert sorted(rows[:10].tolist()) == ids.tolist()
    assert sorted(rows[10:].tolist()) == ids.tolist()


def test_rounds_continue_the_stream_whatever_was_drawn_before() -> None:
    ids = torch.arange(13)
    whole = torch.cat(list(StepBatches(ids, batch_size=4, steps=10, seed=1)))
    resumed = StepBatches(ids, batch_size=4, steps=5, seed=1)
    resumed.set_epoch(1)
    assert torch.equal(torch.cat(list(resumed)), whole[20:])


def test_batches_are_shared_out_evenly_between_labelled_rows_and_others() -> None:
    labelled, others = torch.arange(5), torch.arange(100, 113)
    stream = SharedBatches(labelled, others, share=0.25, batch_size=8, steps=10, seed=0)
    batches = list(stream)
    for batch in batches:
        assert [int((half < 100).sum()) for half in batch.split(4)] == [1, 1]
    drawn = torch.cat(batches)
    for own in (labelled, others):
        passes = drawn[torch.isin(drawn, own)].split(len(own))
        assert all(sorted(one.tolist()) == own.tolist() for one in passes if len(one) == len(own))
        assert len(passes) > 3


def test_shared_batches_continue_in_the_next_round_and_keep_one_row_of_each_kind() -> None:
    def stream(steps: int, share: float = 0.5) -> SharedBatches:
        return SharedBatches(torch.arange(3), torch.arange(10, 17), share=share, batch_size=4, steps=steps, seed=1)

    resumed = stream(5)
    resumed.set_epoch(1)
    assert torch.equal(torch.cat(list(resumed)), torch.cat(list(stream(10)))[20:])
    for share, expected in ((0.001, 1), (0.999, 3)):
        assert {int((batch < 10).sum()) for batch in stream(5, share)} == {expected}
