"""A set of integers kept as sorted runs of consecutive members.

Addresses and subnets are mostly taken from the bottom up, so a full pool is one run and an empty one none.
Memory grows with the number of gaps, whatever the size of the pool; the lowest free integer is found by one
bisection. A bitmap, the usual answer, has to be read through where it is full, and one for an IPv6 /64 cannot
be held at all. A change moves the tails of two lists, plain pointers of 8 bytes a run.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Runs:
    """Runs are maximal: two of them never touch, so the integer after a run is never a member."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self.size = 0
        """How many integers are in the set."""

    def __contains__(self, value: int) -> bool:
        index = bisect_left(self._lasts, value)
        return index < len(self._lasts) and self._firsts[index] <= value

    def __len__(self) -> int:
        """How many runs there are: what the set costs."""
        return len(self._firsts)

    def add(self, first: int, last: int) -> None:
        """Put `first`..`last` in; members already there stay."""
        low = bisect_left(self._lasts, first - 1)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._replace(low, high, [(first, last)])

    def remove(self, first: int, last: int) -> None:
        """Take `first`..`last` out, as far as they are members."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        if low >= high:
            return
        ends = [(self._firsts[low], first - 1), (last + 1, self._lasts[high - 1])]
        self._replace(low, high, [(begin, end) for begin, end in ends if begin <= end])

    def first_free(self, first: int, last: int) -> int | None:
        """The lowest integer in `first`..`last` that is not a member."""
        index = bisect_left(self._lasts, first)
        if index < len(self._lasts) and self._firsts[index] <= first:
            first = self._lasts[index] + 1
        return first if first <= last else None

    def first_gap(self, first: int, last: int, size: int) -> int | None:
        """The lowest multiple of `size` in `first`..`last` that begins `size` integers without a member."""
        start = -(-first // size) * size
        index = bisect_left(self._lasts, start)
        while start + size - 1 <= last:
            if index == len(self._lasts) or self._firsts[index] >= start + size:
                return start
            start = (self._lasts[index] // size + 1) * size
            index = bisect_left(self._lasts, start, index)
        return None

    def count(self, first: int, last: int) -> int:
        """How many members lie in `first`..`last`."""
        low = bisect_left(self._lasts, first)
        high = bisect_right(self._firsts, last)
        return sum(
            min(last, self._lasts[i]) - max(first, self._firsts[i]) + 1  # clipped to the range asked for
            for i in range(low, high)
        )

    def overlaps(self, first: int, last: int) -> bool:
        """Whether any member lies in `first`..`last`."""
        return bisect_left(self._lasts, first) < bisect_right(self._firsts, last)

    def _replace(self, low: int, high: int, runs: list[tuple[int, int]]) -> None:
        self.size -= sum(self._lasts[i] - self._firsts[i] + 1 for i in range(low, high))
        self.size += sum(last - first + 1 for first, last in runs)
        self._firsts[low:high] = [first for first, _ in runs]
        self._lasts[low:high] = [last for _, last in runs]
