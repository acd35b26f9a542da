"""The flags that describe an endpoint, and the EndpointConfig of the API that they become."""

from __future__ import annotations

from cnm.cli.flags import INTEGER, LIST, STRING, STRINGS, Flag
from cnm.cli.publish import port_request
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.flags import Arguments

ENDPOINT_FLAGS = (
    Flag("alias", STRINGS, "Another name for the sandbox on this network"),
    Flag("driver-opt", STRINGS, "Option for the network's driver, KEY=VALUE"),
    Flag("gw-priority", INTEGER, "The endpoint of highest priority gives the default route; may be negative"),
    Flag("ifname", STRING, "Name of the interface in the sandbox"),
    Flag("ip", STRING, 'IPv4 address (e.g. "172.30.100.104")'),
    Flag("ip6", STRING, 'IPv6 address (e.g. "2001:db8::33")'),
    Flag("link", LIST, "Link to another sandbox, NAME[:ALIAS]"),
    Flag("link-local-ip", STRINGS, "A link-local address for the sandbox"),
    Flag("mac-address", STRING, 'MAC address (e.g. "92:d0:c6:0a:29:33")'),
    Flag("publish", LIST, "Publish a port on the host: [HOST-IP:][HOST-PORT:]PORT[/PROTOCOL]", "p"),
)


def endpoint_config(arguments: Arguments) -> dict[str, Any]:
    """Only what was asked for; raises InvalidParameter for a malformed port or driver option."""
    addresses = {
        "IPv4Address": arguments["ip"],
        "IPv6Address": arguments["ip6"],
        "LinkLocalIPs": arguments["link-local-ip"],
    }
    config = {
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
        "Aliases": arguments["alias"],
        "DriverOpts": _driver_options(arguments["driver-opt"]),
        "GwPriority": arguments["gw-priority"],
        "IfName": arguments["ifname"],
        "Links": arguments["link"],
        "MacAddress": arguments["mac-address"],
        "Ports": [port_request(spec) for spec in arguments["publish"]],
    }
    return {key: value for key, value in config.items() if value}


def _driver_options(texts: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidParameter(
                f'invalid key/value pair format in driver options: "{text}": use KEY=VALUE'
            )
        options[key] = value
    return options
