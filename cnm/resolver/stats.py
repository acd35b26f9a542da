"""What a worker counts: queries, answers by code, what was forwarded, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0)
"""Upper bounds of a histogram, in seconds; one more counts all that is slower."""
_CODES = 16


class Stats:
    """Of one process, since it began."""

    def __init__(self) -> None:
        self.udp = 0
        self.tcp = 0
        """Queries, however they end."""
        self.codes = [0] * _CODES
        """Answers by their RCODE."""
        self.forwarded = 0
        self.cached = 0
        """Answered from the cache instead."""
        self.silent = 0
        """Not worth an answer."""
        self.seconds = 0.0
        self.times = [0] * (len(BUCKETS) + 1)

    def took(self, seconds: float, answers: int = 1) -> None:
        """`answers` of a batch, that took so long each."""
        self.seconds += seconds * answers
        place = 0
        while place < len(BUCKETS) and seconds > BUCKETS[place]:
            place += 1
        self.times[place] += answers

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def total(stats: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The sum over workers; they start at zero anew when they die."""
    result = Stats().as_dict()
    for each in stats:
        for name, value in each.items():
            if isinstance(value, list):
                result[name] = [one + other for one, other in zip(result[name], value, strict=True)]
            else:
                result[name] += value
    return result
