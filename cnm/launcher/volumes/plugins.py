"""The volume plugins of this host, by their names: looked for when one is asked for, or when all volumes are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.launcher.volumes.drivers import VolumeDriver
from cnm.launcher.volumes.plugin_driver import PluginDriver
from cnm.wire.plugin_client import HURRIED, PATIENT, Limit, Plugins
from cnm.wire.plugin_discovery import scan
from cnm.wire.plugin_retry import Clock
from cnm.wire.volume_plugin import VOLUME_DRIVER

log = logging.getLogger("cnm.launcher")

_LEFT_ALONE_SECONDS = 30.0
"""For which nobody waits again for what did not answer when all plugins were asked."""


class VolumePlugins:
    """Thread-safe. A plugin is the same driver for as long as the process lives, also after a restart of its own."""

    def __init__(self, plugins: Plugins, clock: Clock) -> None:
        self._plugins = plugins
        self._clock = clock
        self._lock = threading.Lock()
        self._drivers: dict[str, PluginDriver] = {}
        self._left_alone: dict[str, float] = {}
        """Until when, by name."""

    def find(self, name: str) -> VolumeDriver:
        """Raises NotFound in Docker's words, also for a plugin of another kind; Unavailable."""
        try:
            return self._found(name, PATIENT)
        except NotFound:
            raise NotFound(f'error looking up volume plugin {name}: plugin "{name}" not found') from None
        except InvalidParameter as error:
            raise NotFound(f"error looking up volume plugin {name}: {error}") from None
        except CnmError as error:
            raise type(error)(f"error looking up volume plugin {name}: {error}") from None

    def known(self) -> Sequence[VolumeDriver]:
        """Those that can be found now, by name; what does not answer at once is left out."""
        found = []
        for name in scan(self._plugins.places):
            if self._clock.now() < self._left_alone.get(name, float("-inf")):
                continue
            try:
                found.append(self._found(name, HURRIED))
            except (InvalidParameter, NotFound):
                continue  # of another kind
            except CnmError as error:
                log.info("%s: left out for %d s", error, _LEFT_ALONE_SECONDS)
                self._left_alone[name] = self._clock.now() + _LEFT_ALONE_SECONDS
        return found

    def _found(self, name: str, limit: Limit) -> PluginDriver:
        """One that was found once is not looked for again: its calls do that, and wait for it."""
        with self._lock:
            if name in self._drivers:
                return self._drivers[name]
        self._plugins.get(name, VOLUME_DRIVER, limit)
        with self._lock:
            return self._drivers.setdefault(name, PluginDriver(name, self._plugins))
