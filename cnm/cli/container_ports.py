"""Published and exposed ports of a container, in the forms of the Engine API."""

from __future__ import annotations

from cnm.cli.publish import PROTOCOLS, port_request
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LAST_PORT = 65535


def port_bindings(specs: list[str]) -> dict[str, list[dict[str, str]]]:
    """`PortBindings` from the texts of -p: host addresses and ports by "80/tcp".

    A range of host ports for one port stays a range: any one of it. Raises InvalidParameter with Docker's words.
    """
    found: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        request = port_request(spec)
        first, host = request["ContainerPort"], request.get("HostPort", 0)
        last = request.get("ContainerPortEnd", first)
        for port in range(first, last + 1):
            binding = {"HostIp": request.get("HostIp", ""), "HostPort": ""}
            if host and last == first and "HostPortEnd" in request:
                binding["HostPort"] = f"{host}-{request['HostPortEnd']}"
            elif host:
                binding["HostPort"] = str(host + port - first)
            found.setdefault(f"{port}/{request['Protocol']}", []).append(binding)
    return found


def exposed_ports(specs: list[str]) -> dict[str, Any]:
    """`ExposedPorts` from the texts of --expose: `80`, `80/udp`, `80-90/tcp`.

    Raises InvalidParameter with Docker's words.
    """
    return {port: {} for spec in specs for port in _exposed(spec)}


def _exposed(spec: str) -> list[str]:
    if ":" in spec:
        raise InvalidParameter(f"invalid port format for --expose: {spec}")
    ports, _, protocol = spec.partition("/")
    first, dash, last = ports.partition("-")
    numbers = [number for number in (first, last) if number or dash]
    if not ports:
        wrong = "empty string specified for ports"
    elif not all(number.isascii() and number.isdigit() and int(number) <= LAST_PORT for number in numbers):
        wrong = "invalid syntax"
    elif int(last or first) < int(first):
        wrong = f"invalid range specified for port: {ports}"
    elif protocol and protocol.lower() not in PROTOCOLS:
        wrong = f"invalid proto: {protocol}"
    else:
        return [f"{port}/{protocol.lower() or 'tcp'}" for port in range(int(first), int(last or first) + 1)]
    raise InvalidParameter(f"invalid range format for --expose: {spec}, error: {wrong}")
