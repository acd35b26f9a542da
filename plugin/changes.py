"""What happens in dockerd that it tells whoever follows its events, and no plugin, or not that one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from cnm.plugin.dockerd_api import DockerdApi, Events

_FILTERS = {
    "type": ["container", "network"],
    "event": ["rename", "start", "connect", "disconnect", "destroy"],
}
"""Containers that are called otherwise, whose namespaces are there now, or that come into a network of whatever driver,
which may be their way to the host from then on; networks that are removed, though they are the cluster's."""


class Changes:
    """`heard` is called at each, in a thread that ends with dockerd; whoever looks at dockerd begins anew."""

    def __init__(self, api: DockerdApi, heard: Callable[[], None]) -> None:
        self._api = api
        self._heard = heard
        self._events: Events | None = None
        self._thread: threading.Thread | None = None

    def follow(self) -> None:
        """Unless they are followed already. What happens from now on is heard. Raises Unavailable."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._events = self._api.events(_FILTERS)
        self._thread = threading.Thread(
            target=self._run, args=(self._events,), name="changes in dockerd", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        if self._events is not None:
            self._events.interrupt()
        if self._thread is not None:
            self._thread.join()

    def _run(self, events: Events) -> None:
        with contextlib.closing(events):
            while events.next():
                self._heard()
