"""Addresses with ports as etcd and people write them, and whether one is this host's."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from cnm.errors import InvalidParameter


def join_port(address: str, port: int) -> str:
    """ "192.0.2.1:2379" or "[2001:db8::1]:2379"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def split_port(text: str, default: int) -> tuple[str, int]:
    """(bare address or host name, port) of "HOST", "HOST:PORT", "[ADDRESS]:PORT" or a bare IPv6 address.

    Raises InvalidParameter.
    """
    host, port = text.strip(), ""
    if host.startswith("[") and "]" in host:
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not host or (port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536)):
        raise InvalidParameter(
            f"{text!r} is no host with a port, as 192.0.2.1:{default} or [2001:db8::1]:{default}"
        )
    return host, int(port or default)


def parse(text: str) -> str:
    """A bare address in its shortest form. Raises InvalidParameter."""
    try:
        found = ipaddress.ip_address(text.strip())
    except ValueError:
        raise InvalidParameter(f"{text!r} is no address: give one of this host, as 192.0.2.1") from None
    if found.is_unspecified or found.is_multicast or found.is_loopback or found.is_link_local:
        raise InvalidParameter(f"{found} cannot be advertised: other hosts do not reach this one by it")
    return str(found)


def check_own(address: str) -> None:
    """That this host has the (bare) address. Raises InvalidParameter: nothing could listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise InvalidParameter(
                    f"underlay address {address}: {os.strerror(error.errno or 0).lower()}"
                ) from None
            raise InvalidParameter(
                f"underlay address {address} is not on this host: give one that 'ip address' shows"
            ) from None
