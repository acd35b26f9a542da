"""Runs of integers behave as a set, and cost what their gaps cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cnm.ipam.runs import Runs
from tests.unit.strategies import runs_of_integers

LIMIT = 60


class RunsAgainstSet(RuleBasedStateMachine):
    """Whatever is put in and taken out, `Runs` answers as a plain set of integers does."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = Runs()
        self.model: set[int] = set()

    @rule(run=runs_of_integers(LIMIT))
    def add(self, run: tuple[int, int]) -> None:
        self.runs.add(*run)
        self.model |= set(range(run[0], run[1] + 1))

    @rule(run=runs_of_integers(LIMIT))
    def remove(self, run: tuple[int, int]) -> None:
        self.runs.remove(*run)
        self.model -= set(range(run[0], run[1] + 1))

    @rule(run=runs_of_integers(LIMIT))
    def lowest_free_one(self, run: tuple[int, int]) -> None:
        free = [n for n in range(run[0], run[1] + 1) if n not in self.model]
        assert self.runs.first_free(*run) == (free[0] if free else None)

    @rule(run=runs_of_integers(LIMIT), size=st.sampled_from([1, 2, 4, 8]))
    def lowest_aligned_gap(self, run: tuple[int, int], size: int) -> None:
        first, last = run
        gaps = [
            start
            for start in range(0, LIMIT, size)
            if first <= start
            and start + size - 1 <= last
            and self.model.isdisjoint(range(start, start + size))
        ]
        assert self.runs.first_gap(first, last, size) == (gaps[0] if gaps else None)

    @rule(run=runs_of_integers(LIMIT))
    def counted_in_a_range(self, run: tuple[int, int]) -> None:
        members = self.model & set(range(run[0], run[1] + 1))
        assert self.runs.count(*run) == len(members)
        assert self.runs.overlaps(*run) == bool(members)

    @invariant()
    def same_members(self) -> None:
        assert {n for n in range(-2, LIMIT + 3) if n in self.runs} == self.model
        assert self.runs.size == len(self.model)

    @invariant()
    def one_entry_for_each_run(self) -> None:
        assert len(self.runs) == len([n for n in self.model if n - 1 not in self.model])


TestRunsAgainstSet = RunsAgainstSet.TestCase


class CountingInt(int):
    """An integer that counts how often it is compared."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        CountingInt.compared += 1
        return int(self) < other

    def __gt__(self, other: int) -> bool:
        CountingInt.compared += 1
        return int(self) > other


def comparisons_to_find_a_free_one(runs: Runs) -> int:
    CountingInt.compared = 0
    assert runs.first_free(CountingInt(0), 2**64) is not None
    return CountingInt.compared


def test_finding_the_lowest_free_one_bisects_however_many_runs_there_are() -> None:
    runs = Runs()
    for even in range(0, 2**15, 2):
        runs.add(even, even)

    assert len(runs) == 2**14
    assert comparisons_to_find_a_free_one(runs) <= 16


@given(st.integers(1, 2**64))
def test_a_full_range_costs_one_run_whatever_its_size(size: int) -> None:
    runs = Runs()

    runs.add(0, size - 1)

    assert len(runs) == 1
    assert runs.size == size
    assert runs.first_free(0, size - 1) is None
