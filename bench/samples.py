"""Measured times, and what is said of them."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Samples:
    """Milliseconds by name; those of one name are in the order of the rounds."""

    def __init__(self) -> None:
        self._of: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, call: Callable[..., T], *arguments: object) -> T:
        """The call's answer, its duration kept."""
        start = time.perf_counter()
        answer = call(*arguments)
        self.add(name, (time.perf_counter() - start) * 1000)
        return answer

    def add(self, name: str, milliseconds: float) -> None:
        self._of[name].append(milliseconds)

    def of(self, name: str) -> list[float]:
        """Empty for what was not measured."""
        return self._of.get(name, [])


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]


def ratio(values: Sequence[float], floor: Sequence[float]) -> float:
    """The median over pairs of one round; over medians where one of both was measured more seldom."""
    if len(values) == len(floor):
        return statistics.median(value / below for value, below in zip(values, floor, strict=True))
    return median(values) / median(floor)
