"""Deletes retired links in groups.

Deleting one link waits for an RCU grace period, 17 to 30 ms; a whole device group waits for the same one. So a
verb only cuts a link off and puts it into the reaper's group; a thread deletes the group soon after.
"""

from __future__ import annotations

import errno
import logging
import threading

from cnm.kernel import link_messages
from cnm.kernel.namespaces import Namespaces
from cnm.kernel.netlink import NetlinkError, NetlinkSocket
from cnm.kernel.state import HOST, Group

_GATHER_SECONDS = 0.05

log = logging.getLogger(__name__)


class Reaper:
    """One thread with a socket of its own in the host's namespace, and those it is given of others."""

    def __init__(self, namespaces: Namespaces) -> None:
        with namespaces.inside(HOST):
            self._socket = NetlinkSocket()
        self._elsewhere: list[NetlinkSocket] = []
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reaper", daemon=True)
        self._thread.start()

    def wake(self, elsewhere: NetlinkSocket | None = None) -> None:
        """There is something in the group: on the host, or in the namespace of a socket.

        The socket is the reaper's from now on. It keeps the namespace until its links are gone, one by one as they
        should: where the namespace goes first, a VXLAN device keeps its VNI for a moment.
        """
        if elsewhere is not None:
            self._elsewhere.append(elsewhere)
        self._work.set()

    def flush(self) -> None:
        """Delete what is in the group now and return when it is gone."""
        with self._lock:
            while self._elsewhere:
                with self._elsewhere.pop() as netlink:
                    _delete(netlink)
            _delete(self._socket)

    def close(self) -> None:
        self._stopping.set()
        self._work.set()
        self._thread.join()
        self.flush()
        self._socket.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._work.wait()
            self._stopping.wait(_GATHER_SECONDS)
            self._work.clear()
            try:
                self.flush()
            except NetlinkError as error:
                log.error("%s; the next retired interface tries again", error)


def _delete(netlink: NetlinkSocket) -> None:
    try:
        netlink.execute([link_messages.delete_group(Group.REAP)])
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
