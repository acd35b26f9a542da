"""WireGuard devices, in the kernel or in a wireguard-go alike.

A device of the kernel hears generic netlink, one of a process its text protocol over a socket; both are one `Device`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from cnm.kernel.wireguard_netlink import KernelDevice
from cnm.kernel.wireguard_records import DeviceChange, WireGuardDevice, WireGuardPeer
from cnm.kernel.wireguard_uapi import UserspaceDevice, socket_path


class Device(Protocol):
    """One device. Raises NotFound where there is none, Unavailable where its process does not answer, KernelError
    where it refuses, InvalidParameter for keys and addresses that are none. Thread-safe."""

    @property
    def name(self) -> str: ...

    def change(self, change: DeviceChange) -> None: ...

    def read(self) -> WireGuardDevice: ...


def open_device(name: str) -> Device:
    """Of a process where one has made a socket for that name, else of the calling thread's namespace."""
    return UserspaceDevice(name) if os.path.exists(socket_path(name)) else KernelDevice(name)


def set_device(
    name: str, private_key: str, listen_port: int, peers: Sequence[WireGuardPeer], *, replace: bool = True
) -> None:
    open_device(name).change(DeviceChange(private_key, listen_port, peers, replace=replace))


def set_peers(name: str, *peers: WireGuardPeer) -> None:
    """Add peers, or change them to exactly this; sessions go on."""
    open_device(name).change(DeviceChange(peers=peers))


def remove_peers(name: str, *public_keys: str) -> None:
    """Unknown ones are fine."""
    open_device(name).change(DeviceChange(remove=public_keys))


def get_device(name: str) -> WireGuardDevice:
    return open_device(name).read()
