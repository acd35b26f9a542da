"""A clock that does not sleep."""

from __future__ import annotations

from collections.abc import Callable


class FakeClock:
    """Pauses pass at once and are remembered; `meanwhile` happens in each."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def now(self) -> float:
        return self.time

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.time += seconds
        self.meanwhile()
        return True
