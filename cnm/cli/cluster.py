"""`cnmctl cluster`: hosts become one cluster, and are looked after."""

from __future__ import annotations

import os
import re
import sys

from cnm.cli.client import Client, DaemonError, quote
from cnm.cli.flags import BOOLEAN, INTEGER, STRING, Arguments, Command, Flag, Group, UsageError
from cnm.cli.output import FORMAT_HELP, table
from cnm.cli.ping import PING
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATH = "/cnm/v1/cluster"
_ETCD_FILES = {"cacert": "Ca", "cert": "Cert", "key": "Key", "ca-key": "CaKey"}
_ETCDS = {
    "apart": "somebody else's, with a user for each node",
    "shared": "somebody else's, with one user for all nodes",
    "plain": "somebody else's, without TLS",
}
_UNITS = {"h": 3600, "m": 60, "s": 1}


def init(client: Client, arguments: Arguments) -> int:
    body = _self(arguments)
    if "vxlan-port" in arguments.given:
        body["VxlanPort"] = arguments["vxlan-port"]
    if arguments["etcd"]:
        paths = {key: _absolute(arguments[flag]) for flag, key in _ETCD_FILES.items() if arguments[flag]}
        body["Etcd"] = {"Endpoints": arguments["etcd"].split(","), **paths}
    elif given := [flag for flag in _ETCD_FILES if arguments[flag]]:
        raise UsageError(f"--{given[0]} is for an etcd that runs already: give its URLs with --etcd")
    made = client.post(f"{_PATH}/init", body)
    print(f"Cluster initialized: this host, {made['Name']} at {made['Advertise']}, is its first member.\n")
    _print_join(made["Join"])
    for warning in made.get("Warnings", []):
        print(f"\nWARNING: {warning}", file=sys.stderr)
    return 0


def join(client: Client, arguments: Arguments) -> int:
    token, host = arguments.operands
    body = {"Token": token, "Host": host, **_self(arguments), "Client": arguments["client"]}
    for line in client.stream(f"{_PATH}/join", method="POST", body=body):
        if line["Error"]:
            raise DaemonError(line["Error"], 500)
        print(line["Progress"], flush=True)
    return 0


def leave(client: Client, arguments: Arguments) -> int:
    client.post(f"{_PATH}/leave", {"Force": arguments["force"]})
    print("Node left the cluster.")
    return 0


def rm(client: Client, arguments: Arguments) -> int:
    (name,) = arguments.operands
    client.delete(f"{_PATH}/nodes/{quote(name)}", query={"force": "1"} if arguments["force"] else {})
    print(name)
    return 0


def token(client: Client, arguments: Arguments) -> int:
    if arguments.operands:
        return _known_tokens(client, arguments)
    made = client.post(f"{_PATH}/token", {"Ttl": _seconds(arguments["ttl"])})
    if arguments["quiet"]:
        print(made["Token"])
    else:
        _print_join(made)
    return 0


def _known_tokens(client: Client, arguments: Arguments) -> int:
    what, *ids = arguments.operands
    if what in ("rm", "remove") and ids:
        for each in ids:
            client.delete(f"{_PATH}/tokens/{quote(each)}")
            print(each)
    elif what in ("ls", "list") and not ids:
        found = client.get(f"{_PATH}/tokens")
        rows = [(each["Id"][:12], each["Expires"], each["MadeBy"], each["UsedBy"] or "-") for each in found]
        if arguments["quiet"]:
            print("".join(f"{row[0]}\n" for row in rows), end="")
        else:
            print(table([("TOKEN", "EXPIRES", "MADE BY", "USED BY"), *rows]))
    else:
        raise UsageError("'cnmctl cluster token' makes one; 'token ls' lists them, 'token rm ID...' removes")
    return 0


def rotate(client: Client, arguments: Arguments) -> int:
    if arguments["keys"]:
        client.post(f"{_PATH}/rotate", {"Keys": True})
        print("All nodes make new keys for encrypted networks, and change over when the others have them.")
        return 0
    client.post(f"{_PATH}/rotate", {"Authority": arguments["authority"]})
    print("This node has a new key and certificate; the old ones are worth nothing.")
    return 0


def snapshot(client: Client, arguments: Arguments) -> int:
    what, path = arguments.operands
    if what == "save":
        saved = client.post(f"{_PATH}/snapshot", {"Path": _absolute(path)})
        print(f"{saved['Path']}: {saved['Size']} bytes")
    elif what == "restore":
        client.post(f"{_PATH}/restore", {"Path": _absolute(path), "Force": arguments["force"]})
        print("Restored: this host is the only member now.")
    else:
        raise UsageError(f"'cnmctl cluster snapshot' saves or restores: {what!r} is neither")
    return 0


def recover(client: Client, arguments: Arguments) -> int:
    client.post(f"{_PATH}/recover", {"Force": arguments["force"]})
    print("Recovered: this host is the only member now.")
    return 0


def status(client: Client, arguments: Arguments) -> int:
    found = client.get(_PATH)
    if arguments["format"]:
        from cnm.cli.template import Template

        form = arguments["format"]
        text = Template("{{json .}}" if form == "json" else form).execute(found, missing_key_fails=True)
        print(text)
        return 0
    if found["State"] == "out":
        print("This host is in no cluster: cnmctl cluster init, or cnmctl cluster join")
        return 0
    _print_status(found)
    for warning in found["Warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    return 0


def _print_status(found: dict[str, Any]) -> None:
    rows = [
        ("State", found["State"] + (" (what follows may be old)" if found["Stale"] else "")),
        ("Cluster", found["ClusterId"][:12]),
        ("Created", found["Created"]),
        ("This node", f"{found['Name']}, {found['Role']}, at {found['Advertise']}"),
        ("Certificate", f"from {found['CertificateSince']} until {found['CertificateExpires']}"),
        ("Authority", f"until {found['AuthorityExpires']}"),
        ("VXLAN port", str(found["VxlanPort"])),
    ]
    if found.get("Etcd") in _ETCDS:
        rows.append(("Etcd", _ETCDS[found["Etcd"]]))
    for name, text in rows:
        print(f"{name + ':':<13} {text}")
    if found["Members"]:
        print(
            "\n" + table([("MEMBER", "ENDPOINT", "STATE", "LAG", "ANSWER", "DATA", "ETCD"), *_members(found)])
        )
    if found["Nodes"]:
        print(
            "\n"
            + table([("NODE", "ROLE", "STATE", "ADDRESS", "MTU", "CERTIFICATE", "VERSION"), *_nodes(found)])
        )
    if encrypting := [each for each in found["Nodes"] if each["KeysSince"]]:
        print("\n" + table([("ENCRYPTS", "INSIDE", "KEY AGE", "TUNNEL"), *map(_encrypting, encrypting)]))


def _encrypting(node: dict[str, Any]) -> tuple[str, ...]:
    return node["Name"], node["Transport"], _age(node["KeysSince"]), node["Tunnel"] or "-"


def _age(moment: str) -> str:
    """Of a moment in RFC 3339, in its biggest unit."""
    from datetime import UTC, datetime

    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    for unit, size in (("d", 86400), *_UNITS.items()):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "0s"


def _members(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            *(each["Name"] or "-", each["Endpoint"], each["State"]),
            *(("-",) * 4 if each["Error"] else _measured(each)),
        )
        for each in found["Members"]
    ]


def _measured(member: dict[str, Any]) -> tuple[str, ...]:
    size = f"{member['DbSize'] / 2**20:.1f} MiB"
    return str(member["Lag"]), f"{member['Milliseconds']:g} ms", size, member["Version"]


def _nodes(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            *(each["Name"], each["Role"], each["State"], each["Address"], str(each["Mtu"] or "-")),
            *(each["CertificateExpires"] or "-", each["Version"] or "-"),
        )
        for each in found["Nodes"]
    ]


def _self(arguments: Arguments) -> dict[str, Any]:
    """What init and join say of this host."""
    body: dict[str, Any] = {"Advertise": arguments["advertise"], "Name": arguments["name"]}
    ports = {"client-port": "ClientPort", "peer-port": "PeerPort", "enrol-port": "EnrolPort"}
    return body | {key: arguments[flag] for flag, key in ports.items() if flag in arguments.given}


def _print_join(made: dict[str, Any]) -> None:
    print(
        "To add a host to this cluster, run there:\n\n"
        f"    cnmctl cluster join {made['Token']} {made['Host']}\n\n"
        f"The token is good for one host, until {made['Expires']}; "
        "'cnmctl cluster token' makes another."
    )


def _seconds(text: str) -> int:
    """A duration such as `1h30m`, or seconds."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return int(text)
    if not re.fullmatch(r"([0-9]{1,6}[hms])+", text):
        raise InvalidParameter(f'invalid duration "{text}": as 30m, or 1h30m')
    return sum(int(amount) * _UNITS[unit] for amount, unit in re.findall(r"([0-9]+)([hms])", text))


def _absolute(path: str) -> str:
    """The daemon has another working directory."""
    return os.path.abspath(path)


_FORCE = "force"
_SELF_FLAGS = (
    Flag("advertise", STRING, "Address of this host that others reach it at; else the uplink's"),
    Flag("client-port", INTEGER, "Port of etcd for nodes", "", 2379),
    Flag("enrol-port", INTEGER, "Port for hosts that join", "", 2378),
    Flag("name", STRING, "Name of this node; else the host's"),
    Flag("peer-port", INTEGER, "Port of etcd for other members", "", 2380),
)

GROUP = Group(
    "cluster",
    "Manage the cluster: hosts that share networks",
    (
        Command(
            "init",
            "Found a cluster whose first member is this host, and print how others join",
            init,
            "",
            (
                *_SELF_FLAGS,
                Flag(
                    "ca-key", STRING, "Key of an authority that it accepts, to issue nodes' certificates by"
                ),
                Flag("cacert", STRING, "Authority of an etcd that runs already, a PEM file"),
                Flag("cert", STRING, "Certificate to show to it, a PEM file"),
                Flag("etcd", STRING, "Use an etcd that runs already: URLs with commas between"),
                Flag("key", STRING, "Key of the certificate, a PEM file"),
                Flag("vxlan-port", INTEGER, "UDP port of VXLAN on all hosts", "", 4789),
            ),
        ),
        Command(
            "join",
            "Join the cluster of HOST, one of its members",
            join,
            "TOKEN HOST",
            (Flag("client", BOOLEAN, "Run no member of etcd here"), *_SELF_FLAGS),
        ),
        Command(
            "leave",
            "Leave the cluster",
            leave,
            "",
            (Flag(_FORCE, BOOLEAN, "Also where others need this member, or no one answers", "f"),),
        ),
        PING,
        Command(
            "recover",
            "Go on without the other members, whose majority is lost",
            recover,
            "",
            (Flag(_FORCE, BOOLEAN, "Yes, they are lost for good", "f"),),
        ),
        Command(
            "rm",
            "Take a dead node out of the cluster",
            rm,
            "NODE",
            (Flag(_FORCE, BOOLEAN, "Also one that is alive", "f"),),
            ("remove",),
        ),
        Command(
            "rotate",
            "Give this node a new key and certificate",
            rotate,
            "",
            (
                Flag("authority", BOOLEAN, "The cluster's own certificate instead"),
                Flag("keys", BOOLEAN, "All nodes' keys for encrypted networks instead"),
            ),
        ),
        Command(
            "snapshot",
            "Save all that the cluster knows to a file, or go on with what was saved",
            snapshot,
            "save|restore FILE",
            (Flag(_FORCE, BOOLEAN, "Restore: yes, what the cluster knows now is to be replaced", "f"),),
        ),
        Command(
            "status",
            "Show how the cluster is",
            status,
            "",
            (Flag("format", STRING, FORMAT_HELP, "f"),),
        ),
        Command(
            "token",
            "Make another join token, list those that were made, or remove some",
            token,
            "[ls|rm] [ID...]",
            (
                Flag("quiet", BOOLEAN, "Print the token only; of a list, the ids", "q"),
                Flag("ttl", STRING, "How long it is good", "", "1h"),
            ),
        ),
    ),
)
