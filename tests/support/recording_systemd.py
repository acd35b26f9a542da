"""Stands in for systemd on a real D-Bus: it records which transient units it is asked for, and says they are there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from jeepney import DBusAddress, HeaderFields, message_bus, new_error, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection, open_dbus_connection

_NAME, _MANAGER = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"


class RecordingSystemd:
    """`refusal` is the name of an error for whoever asks; `result` what its jobs end with."""

    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self.units: list[tuple[str, dict[str, Any]]] = []
        """Names and properties."""
        self.refusal = ""
        self.result = "done"
        self.asked = threading.Event()
        self.may_finish = threading.Event()
        """Cleared, and jobs take until it is set."""
        self.may_finish.set()

    def serve(self) -> None:
        """Until the connection is closed."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                message = self._connection.receive()
                if message.header.fields.get(HeaderFields.member) == "StartTransientUnit":
                    self._start(message)

    def _start(self, message: Any) -> None:
        if self.refusal:
            self._connection.send(new_error(message, self.refusal, "s", ("no",)))
            return
        unit, _, properties, _ = message.body
        self.units.append((unit, {key: value for key, (_, value) in properties}))
        job = f"/org/freedesktop/systemd1/job/{len(self.units)}"
        manager = DBusAddress("/org/freedesktop/systemd1", interface=_MANAGER)
        # Somebody else's, before the answer.
        other = ("/org/freedesktop/systemd1/job/999", "other.service", "failed")
        self._connection.send(new_signal(manager, "JobRemoved", "uoss", (999, *other)))
        self._connection.send(new_method_return(message, "o", (job,)))
        self.asked.set()
        self.may_finish.wait(10)
        self._connection.send(
            new_signal(manager, "JobRemoved", "uoss", (len(self.units), job, unit, self.result))
        )


@contextlib.contextmanager
def recording_systemd(bus: str = "/run/dbus/system_bus_socket") -> Iterator[RecordingSystemd]:
    """On the bus in the block."""
    connection = open_dbus_connection(f"unix:path={bus}")
    connection.send_and_get_reply(message_bus.RequestName(_NAME))
    systemd = RecordingSystemd(connection)
    thread = threading.Thread(target=systemd.serve)
    thread.start()
    try:
        yield systemd
    finally:
        systemd.may_finish.set()
        connection.sock.shutdown(2)
        thread.join()
        connection.close()
