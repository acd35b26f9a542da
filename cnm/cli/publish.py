"""The grammar of published ports, Docker's `-p`: `[HOST-IP:][HOST-PORT[-END]]:PORT[-END][/PROTOCOL]`."""

from __future__ import annotations

from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROTOCOLS = ("tcp", "udp", "sctp")


def port_request(spec: str) -> dict[str, Any]:
    """A PortRequest of the control API; no host port asks for any free one, no host address for all of them.

    A range of host ports for one port of the container asks for any one of that range. The long form
    `published=8080,target=80,protocol=tcp` is understood too. Raises InvalidParameter with Docker's texts.
    """
    standard = _from_long_form(spec) if "=" in spec else spec
    host_address, host_ports, container = _split(standard)
    ports, _, protocol = container.partition("/")
    address = _host_address(host_address)
    if not ports:
        raise InvalidParameter(f"no port specified: {standard}<empty>")
    start, end = _port_range(ports, "containerPort")
    host_start, host_end = _port_range(host_ports, "hostPort") if host_ports else (0, 0)
    if host_ports and end != start and end - start != host_end - host_start:
        raise InvalidParameter(
            f"invalid ranges specified for container and host Ports: {ports} and {host_ports}"
        )
    if (protocol.lower() or "tcp") not in PROTOCOLS:
        raise InvalidParameter(f"invalid proto: {protocol}")
    request: dict[str, Any] = {"Protocol": protocol.lower() or "tcp", "ContainerPort": start}
    if end != start:
        request["ContainerPortEnd"] = end
    if host_start:
        request["HostPort"] = host_start
    if host_end != host_start:
        request["HostPortEnd"] = host_end
    if address:
        request["HostIp"] = address
    return request


def _split(spec: str) -> tuple[str, str, str]:
    before, _, container = spec.rpartition(":")
    address, _, host_ports = before.rpartition(":")
    return address, host_ports, container


def _host_address(text: str) -> str:
    if not text:
        return ""
    if text.startswith("["):
        if not text.endswith("]"):
            raise InvalidParameter(f"invalid IP address {text}: missing ']' in address")
        text = text[1:-1]
        if not text:
            return ""
    from ipaddress import ip_address

    try:
        if "%" in text:
            raise ValueError
        return str(ip_address(text))
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {text}") from None


def _port_range(text: str, name: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    try:
        start = _port(first)
        end = _port(last) if dash else start
    except ValueError:
        raise InvalidParameter(f"invalid {name}: {text}") from None
    if start > end or (start == 0 and (end or name == "containerPort")):
        raise InvalidParameter(f"invalid {name}: {text}")
    return start, end


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text.lstrip("0")) <= 5 and int(text) <= 65535):
        raise ValueError(text)
    return int(text)


def _from_long_form(spec: str) -> str:
    values = {"protocol": "tcp", "published": "", "target": ""}
    for part in spec.split(","):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise InvalidParameter(f"invalid publish opts format (should be name=value but got '{part}')")
        values[key] = value
    return f"{values['published']}:{values['target']}/{values['protocol']}"


def summary(port: dict[str, Any]) -> str:
    """One realised Port, ranges kept together: `0.0.0.0:8080-8081->80-81/tcp, [::]:8080-8081->80-81/tcp`."""
    count = port.get("Count", 1)
    container = f"{_range_text(port['ContainerPort'], count)}/{port['Protocol']}"
    if not port.get("HostPort"):
        return container
    return ", ".join(
        f"{host}:{_range_text(port['HostPort'], count)}->{container}" for host in host_texts(port)
    )


def _range_text(port: int, count: int) -> str:
    return str(port) if count <= 1 else f"{port}-{port + count - 1}"


def published(port: dict[str, Any]) -> list[tuple[str, str]]:
    """One realised Port as Docker lists it: ("80/tcp", "0.0.0.0:8080"), a pair per port and host address.

    The second is "" where nothing is bound on the host (gateway mode routed).
    """
    pairs: list[tuple[str, str]] = []
    for offset in range(max(1, port.get("Count", 1))):
        container = f"{port['ContainerPort'] + offset}/{port['Protocol']}"
        if not port.get("HostPort"):
            pairs.append((container, ""))
            continue
        pairs += [(container, f"{host}:{port['HostPort'] + offset}") for host in host_texts(port)]
    return pairs


def host_texts(port: dict[str, Any]) -> list[str]:
    """The host addresses of a realised Port as text; none given means every address, of both families."""
    address = port.get("HostIp", "")
    return [f"[{address}]" if ":" in address else address] if address else ["0.0.0.0", "[::]"]
