"""What start-up leaves to threads: calls to other programs that may be away, or slow.

Each program has a thread of its own, so that one that hangs holds up no other, and none holds up the start.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from cnm.errors import CnmError

log = logging.getLogger(__name__)

Job = Callable[[], object]


class Afterwork:
    """Jobs are added during start-up, and begun when it is over; each is done in the order it was added."""

    def __init__(self) -> None:
        self._jobs: dict[str, list[tuple[str, Job]]] = {}
        self._threads: list[threading.Thread] = []

    def add(self, program: str, doing: str, job: Job) -> None:
        """`doing` says what the job is for, in the log's words."""
        self._jobs.setdefault(program, []).append((doing, job))

    def begin(self) -> None:
        jobs, self._jobs = self._jobs, {}
        for program, of_program in jobs.items():
            thread = threading.Thread(
                target=_do, args=(of_program,), name=f"afterwork {program}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def join(self) -> None:
        """Wait until all that was begun is done."""
        for thread in self._threads:
            thread.join()


def _do(jobs: list[tuple[str, Job]]) -> None:
    for doing, job in jobs:
        try:
            job()
        except CnmError as error:
            log.warning("%s: %s", doing, error)
