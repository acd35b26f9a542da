"""`cnmctl port`: publish and unpublish ports of a live sandbox, on the endpoint that is its gateway.

`cnmctl port CONTAINER` shows those of a container, as the docker CLI does.
"""

from __future__ import annotations

from cnm.cli import endpoint, sandbox
from cnm.cli.client import Client, quote
from cnm.cli.flags import Arguments, Command, Group
from cnm.cli.launcher_client import launcher
from cnm.cli.output import natural, table
from cnm.cli.publish import port_request, published
from cnm.errors import Conflict, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add(client: Client, arguments: Arguments) -> int:
    name, *specs = arguments.operands
    requests = [port_request(spec) for spec in specs]
    answer = client.post(_ports_path(client, name), {"Ports": requests})
    _print_ports(answer["Ports"])
    return 0


def rm(client: Client, arguments: Arguments) -> int:
    name, *specs = arguments.operands
    requests = [port_request(spec) for spec in specs]
    client.delete(_ports_path(client, name), {"Ports": requests})
    print(*specs, sep="\n")
    return 0


def _ports_path(client: Client, name: str) -> str:
    gateway = client.get(sandbox.path(name))["Gateway"]
    if not gateway:
        raise Conflict(
            f"sandbox {name} has no way out to publish on: connect it to a network that is not internal"
        )
    return endpoint.path(gateway, "ports")


def ls(client: Client, arguments: Arguments) -> int:
    if arguments.operands:
        _print_ports(_ports(client.get(sandbox.path(arguments.operands[0]))))
        return 0
    rows = [("SANDBOX", "PORT", "HOST", "NOTE")]
    for each in sorted(client.get("/cnm/v1/sandboxes"), key=lambda each: natural(each["Name"])):
        for port in _ports(each):
            rows += [
                (each["Name"], inside, outside or "-", _note(port, outside))
                for inside, outside in published(port)
            ]
    print(table(rows))
    return 0


def _ports(sandbox: dict[str, Any]) -> list[dict[str, Any]]:
    ports = [port for endpoint in sandbox["Endpoints"] for port in endpoint["Ports"]]
    return sorted(ports, key=lambda port: (port["ContainerPort"], port["Protocol"], port["HostPort"]))


def _print_ports(ports: list[dict[str, Any]]) -> None:
    for port in ports:
        for inside, outside in published(port):
            note = _note(port, outside)
            line = f"{inside} -> {outside}" if outside else inside
            print(f"{line}  ({note})" if note else line)


def _note(port: dict[str, Any], outside: str) -> str:
    """The note of one line; where a port stands for both families, a relay serves only one of them."""
    if not port.get("HostIp") and port.get("Relay") and ("IPv4" in port["Note"]) == outside.startswith("["):
        return ""
    if port.get("Note"):
        return str(port["Note"])
    if port.get("Relay"):
        return "relayed: the client's address is lost"
    return "" if port.get("HostPort") else "open at the sandbox's own address, nothing bound on the host"


def of_container(client: Client, arguments: Arguments) -> int:
    """Docker's `port`: `80/tcp -> 0.0.0.0:8080`, or the addresses of one port."""
    name, *wanted = arguments.operands
    ports = launcher(client).get(f"/containers/{quote(name)}/json")["NetworkSettings"]["Ports"] or {}
    bound = {port: [_address(binding) for binding in bindings or ()] for port, bindings in ports.items()}
    if not wanted:
        lines = [f"{port} -> {address}" for port, addresses in bound.items() for address in addresses]
        print(*(f"{line}\n" for line in sorted(lines, key=natural)), sep="", end="")
        return 0
    port = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
    if not bound.get(port):
        raise NotFound(f"no public port '{port}' published for {name}")
    print(*sorted(bound[port], key=natural), sep="\n")
    return 0


def _address(binding: dict[str, str]) -> str:
    host = binding["HostIp"]
    return f"[{host}]:{binding['HostPort']}" if ":" in host else f"{host}:{binding['HostPort']}"


_OF_CONTAINER = "CONTAINER [PORT[/PROTOCOL]]"

GROUP = Group(
    "port",
    "Manage published ports",
    (
        Command("add", "Publish ports of a sandbox on the host", add, "SANDBOX SPEC [SPEC...]"),
        Command("ls", "List published ports", ls, "[SANDBOX]", (), ("list",)),
        Command("rm", "Take published ports back", rm, "SANDBOX SPEC [SPEC...]", (), ("remove",)),
    ),
    Command("port", "Show the published ports of a container, or one of them", of_container, _OF_CONTAINER),
)
