"""`cnmctl sandbox`: network namespaces that networks can be joined from, and commands inside them."""

from __future__ import annotations

import os

from cnm.cli.client import Client, quote
from cnm.cli.flags import BOOLEAN, LABELS, LIST, STRING, Arguments, Command, Flag, Group
from cnm.cli.output import (
    FORMAT_HELP,
    LIST_FLAGS,
    Listing,
    created_text,
    has_label,
    label_text,
    matching,
    natural,
    short_id,
    show_inspected,
)
from cnm.cli.publish import summary
from cnm.cli.report import for_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.template import Struct

LISTING = Listing(
    "*sandbox.sandboxContext",
    ("ID", "Name", "Kind", "Networks", "Ports"),
    {
        "ID": "SANDBOX ID",
        "Name": "NAME",
        "Kind": "KIND",
        "Networks": "NETWORKS",
        "Ports": "PORTS",
        "State": "STATE",
        "NetnsPath": "NETNS",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
)

FILTERS = {
    "id": lambda sandbox, text: sandbox["Id"].startswith(text),
    "name": lambda sandbox, text: text in sandbox["Name"],
    "kind": lambda sandbox, text: sandbox["Kind"] == text,
    "label": lambda sandbox, text: has_label(sandbox.get("Labels") or {}, text),
    "network": lambda sandbox, text: any(
        text == endpoint["Network"] or endpoint["NetworkId"].startswith(text)
        for endpoint in sandbox["Endpoints"]
    ),
}


def path(reference: str) -> str:
    """Where the API keeps the sandbox."""
    return f"/cnm/v1/sandboxes/{quote(reference)}"


_RESOLUTION = {
    "hostname": "Hostname",
    "dns": "Dns",
    "dns-search": "DnsSearch",
    "dns-opt": "DnsOptions",
    "add-host": "ExtraHosts",
}
"""Keys of the request by their flags."""


def create(client: Client, arguments: Arguments) -> int:
    body: dict[str, Any] = {"Name": arguments.operands[0], "Labels": arguments["label"]}
    body |= {key: arguments[flag] for flag, key in _RESOLUTION.items() if flag in arguments.given}
    if arguments["netns"]:
        netns = arguments["netns"]
        body["NetnsPath"] = netns if netns == "host" else os.path.abspath(netns)
    ident = client.post("/cnm/v1/sandboxes", body)["Id"]
    try:
        for network in arguments["network"]:
            client.post(f"/networks/{quote(network)}/connect", {"Container": ident})
    except BaseException:
        client.delete(path(ident), query={"force": "1", "wait": "0"})
        raise
    print(ident)
    return 0


def ls(client: Client, arguments: Arguments) -> int:
    sandboxes = matching(client.get("/cnm/v1/sandboxes"), arguments["filter"], FILTERS)
    sandboxes.sort(key=lambda sandbox: natural(sandbox["Name"]))
    rows = [_row(sandbox, arguments) for sandbox in sandboxes]
    return LISTING.show(rows, arguments, [sandbox.get("Labels") or {} for sandbox in sandboxes])


def _row(sandbox: dict[str, Any], arguments: Arguments) -> dict[str, str]:
    endpoints = sandbox["Endpoints"]
    return {
        "ID": short_id(sandbox["Id"], arguments),
        "Name": sandbox["Name"],
        "Kind": sandbox["Kind"],
        "Networks": ",".join(sorted((endpoint["Network"] for endpoint in endpoints), key=natural)),
        "Ports": ", ".join(summary(port) for endpoint in endpoints for port in endpoint["Ports"]),
        "State": sandbox["State"],
        "NetnsPath": sandbox["NetnsPath"],
        "Labels": label_text(sandbox.get("Labels") or {}),
        "CreatedAt": created_text(sandbox["Created"], arguments),
    }


def inspect(client: Client, arguments: Arguments) -> int:
    return show_inspected(
        arguments.operands, lambda name: client.get(path(name)), arguments["format"], _struct
    )


def _struct(sandbox: dict[str, Any]) -> Struct:
    from cnm.cli.template import Struct

    return Struct(
        "sandbox.Inspect", {"ID" if key == "Id" else key: sandbox[key] for key in sandbox}, json=sandbox
    )


def rm(client: Client, arguments: Arguments) -> int:
    query = {"force": "1" if arguments["force"] else "0", "wait": "1" if arguments["wait"] else "0"}
    return for_each(arguments.operands, lambda name: client.delete(path(name), query=query))


def execute(client: Client, arguments: Arguments) -> int:
    from cnm.cli.namespace import Inside, execute_in

    name, *command = arguments.operands
    sandbox = client.get(path(name))
    execute_in(Inside(name, sandbox["NetnsPath"], sandbox["Hostname"], _files(sandbox)), command)


def _files(sandbox: dict[str, Any]) -> dict[str, str]:
    """Which of its files go over the host's, by the host's; what a sandbox of the host's has from the host does not."""
    files = {
        "/etc/hosts": sandbox["HostsPath"],
        "/etc/hostname": sandbox["HostnamePath"],
        "/etc/resolv.conf": sandbox["ResolvConfPath"],
    }
    if sandbox["Kind"] == "host":
        asked = {
            "/etc/hosts": sandbox["ExtraHosts"],
            "/etc/hostname": sandbox["Hostname"],
            "/etc/resolv.conf": sandbox["Dns"] or sandbox["DnsSearch"] or sandbox["DnsOptions"],
        }
        return {host: path for host, path in files.items() if asked[host]}
    return {host: path for host, path in files.items() if path}


GROUP = Group(
    "sandbox",
    "Manage sandboxes: the network namespaces that join networks",
    (
        Command(
            "create",
            "Create a sandbox with a network namespace of its own, or around one that exists",
            create,
            "NAME",
            (
                Flag("add-host", LIST, 'Line of its /etc/hosts, NAME:ADDRESS; "host-gateway" is the host'),
                Flag("dns", LIST, "DNS server, in place of the host's; asked from the sandbox"),
                Flag("dns-opt", LIST, "Option of resolv.conf, in place of the host's", alias="dns-option"),
                Flag("dns-search", LIST, 'Search domain, in place of the host\'s; "." for none'),
                Flag("hostname", STRING, "Host name, perhaps with its domain (by default its short ID)"),
                Flag("label", LABELS, "Label of the sandbox, KEY[=VALUE]"),
                Flag("netns", STRING, 'Path of the network namespace to use, or "host"; it is never deleted'),
                Flag("network", LIST, "Network to connect it to"),
            ),
        ),
        Command(
            "exec",
            "Run a command in a sandbox, with its network, host name, /etc/hosts and /etc/resolv.conf",
            execute,
            "SANDBOX COMMAND [ARG...]",
            passes_rest=True,
        ),
        Command(
            "inspect",
            "Show sandboxes in full",
            inspect,
            "SANDBOX [SANDBOX...]",
            (Flag("format", STRING, FORMAT_HELP, "f"),),
        ),
        Command("ls", "List sandboxes", ls, "", LIST_FLAGS, ("list",)),
        Command(
            "rm",
            "Remove sandboxes",
            rm,
            "SANDBOX [SANDBOX...]",
            (
                Flag("force", BOOLEAN, "Disconnect it from its networks first", "f"),
                Flag("wait", BOOLEAN, "Return only when the kernel has removed everything"),
            ),
            ("remove",),
        ),
    ),
)
