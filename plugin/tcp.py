"""The plugins over TCP, `[plugin-tcp]` in the settings: addresses, certificates, and a check of both.

All functions raise InvalidParameter naming the value.
"""

from __future__ import annotations

import ipaddress
import ssl
from contextlib import suppress

from cnm.config import PluginTcp, Settings
from cnm.errors import InvalidParameter
from cnm.http import tls
from cnm.http.listener import TlsPlace
from cnm.plugin.faces import DRIVERS

_FLIGHTS = 4
"""More than a handshake of TLS 1.2 takes."""


def place(tcp: PluginTcp, name: str) -> TlsPlace:
    host, port = split_address(tcp.listen[name])
    return TlsPlace(host, port, _server_context(tcp))


def split_address(text: str) -> tuple[str, int]:
    """The parts of "127.0.0.1:2471" or "[::1]:2471"; no names, which would need a resolver at the start."""
    try:
        host, _, port = text.rpartition(":")
        number = int(port) if port.isdecimal() else 0
        if host.startswith("[") and host.endswith("]"):
            address = str(ipaddress.IPv6Address(host[1:-1]))
        else:
            address = str(ipaddress.IPv4Address(host))
        if not 0 < number < 65536:
            raise ValueError(port)
    except ValueError:
        raise InvalidParameter(
            f"plugin-tcp: {text!r} is not an address with a port, as 127.0.0.1:2471"
        ) from None
    return address, number


def url(tcp: PluginTcp, name: str) -> str:
    """Where dockerd asks: on this host, if we listen on every address."""
    host, port = split_address(tcp.listen[name])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def check(settings: Settings) -> None:
    """Everything that can be known to be wrong without listening; with dockerd's certificate, a handshake is tried."""
    tcp = settings.plugin_tcp
    if tcp is None:
        return
    _check_addresses(tcp)
    context = _server_context(tcp)
    if not (settings.plugin_spec_dir or tcp.client_cert or tcp.client_key):
        return
    client = _client_context(tcp)
    for name in tcp.listen:
        _rehearse(client, context, split_address(url(tcp, name).removeprefix("https://"))[0], tcp)


def _check_addresses(tcp: PluginTcp) -> None:
    seen: dict[tuple[str, int], str] = {}
    for name, text in tcp.listen.items():
        if name not in DRIVERS:
            raise InvalidParameter(
                f"plugin-tcp: there is no plugin {name!r}: {', '.join(DRIVERS)} are served"
            )
        address = split_address(text)
        if address in seen:
            raise InvalidParameter(f"plugin-tcp: {name} and {seen[address]} cannot both listen on {text}")
        seen[address] = name


def _server_context(tcp: PluginTcp) -> ssl.SSLContext:
    try:
        return tls.server_context(tcp.ca, tcp.cert, tcp.key)
    except InvalidParameter as error:
        raise InvalidParameter(f"plugin-tcp: {error}") from None


def _client_context(tcp: PluginTcp) -> ssl.SSLContext:
    """What dockerd does with the files that NAME.json names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    try:
        tls.load_authority(context, "ca", tcp.ca)
        tls.load_certificate(context, ("client-cert", tcp.client_cert), ("client-key", tcp.client_key))
    except InvalidParameter as error:
        raise InvalidParameter(f"plugin-tcp: {error}") from None
    return context


def _rehearse(client: ssl.SSLContext, server: ssl.SSLContext, host: str, tcp: PluginTcp) -> None:
    """A handshake between the two in memory: expired, of another authority, for another name or purpose."""
    asked, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
    dockerd = client.wrap_bio(answered, asked, server_hostname=host)
    cnmd = server.wrap_bio(asked, answered, server_side=True)
    for _ in range(_FLIGHTS):
        for side, judged in ((dockerd, f"cert {tcp.cert}"), (cnmd, f"client-cert {tcp.client_cert}")):
            try:
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
            except ssl.SSLError as error:
                raise InvalidParameter(f"plugin-tcp: {judged}: {tls.reason(error)}") from None
