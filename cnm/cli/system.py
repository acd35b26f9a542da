"""`cnmctl doctor`, `status` and `version`: how the daemon and the kernel under it are."""

from __future__ import annotations

import os
import sys

from cnm import __version__
from cnm.cli.client import Client
from cnm.cli.flags import BOOLEAN, STRING, Arguments, Command, Flag
from cnm.cli.output import FORMAT_HELP, table
from cnm.cli.report import report
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def doctor(client: Client, arguments: Arguments) -> int:
    if arguments["repair"]:
        mended = client.post("/cnm/v1/repair")["Findings"]
        if mended:
            print(f"repaired {len(mended)}:")
            print(_findings_table(mended))
    left = client.get("/cnm/v1/doctor")["Findings"]
    if not left:
        print("the kernel is as the networks want it")
        return 0
    if arguments["repair"]:
        print(f"not repaired {len(left)}:")
    print(_findings_table(left))
    return 1


def _findings_table(findings: list[dict[str, Any]]) -> str:
    rows = [("PROBLEM", "KIND", "OBJECT", "NAMESPACE", "DETAIL")]
    rows += [
        (each["Problem"], each["Kind"], each["Object"], each["Namespace"] or "host", each["Detail"])
        for each in findings
    ]
    return table(rows)


def status(client: Client, arguments: Arguments) -> int:
    found = client.get("/cnm/v1/status")
    if arguments["format"]:
        return _show(found, arguments["format"])
    rows = [
        ("Version", found["Version"]),
        *((name, str(found[name])) for name in ("Networks", "Endpoints", "Sandboxes", "Ports")),
        ("Uplink", _uplink(found.get("Uplink") or {})),
        ("Forwarding", _families(found.get("Forwarding") or {})),
        ("Bridge netfilter", _families(found.get("BridgeNetfilter") or {})),
        *(
            ("Neighbour", f"{each['Name']} {each['State']}: {each['Detail']}")
            for each in found.get("Neighbours") or []
        ),
    ]
    for name, text in rows:
        print(f"{name + ':':<18} {text}")
    for warning in found.get("Warnings") or []:
        print(f"WARNING: {warning}", file=sys.stderr)
    return 0


def _uplink(uplink: dict[str, Any]) -> str:
    return f"{uplink['Name']}, MTU {uplink['Mtu']}" if uplink.get("Name") else "none"


def _families(values: dict[str, Any]) -> str:
    words = {True: "on", False: "off"}
    texts = (
        f"{family} {words[value] if isinstance(value, bool) else value}"
        for family, value in (("IPv4", values.get("ipv4")), ("IPv6", values.get("ipv6")))
    )
    return ", ".join(texts)


def version(client: Client, arguments: Arguments) -> int:
    """The client's half is shown even where no daemon answers."""
    host = os.uname()
    found: dict[str, Any] = {
        "Client": {
            "Version": __version__,
            "PythonVersion": sys.version.partition(" ")[0],
            "Os": host.sysname.lower(),
            "Arch": host.machine,
        },
        "Server": None,
    }
    failure: CnmError | None = None
    try:
        found["Server"] = client.get("/version")
    except CnmError as error:
        failure = error
    if arguments["format"]:
        _show(found, arguments["format"])
    else:
        _print_version(found)
    if failure is None:
        return 0
    report(failure)
    return failure.exit_code


def _print_version(found: dict[str, Any]) -> None:
    labels = {
        "Version": "Version",
        "ApiVersion": "API version",
        "MinAPIVersion": "Minimum API version",
        "PythonVersion": "Python version",
        "KernelVersion": "Kernel version",
    }
    for side in ("Client", "Server"):
        part = found[side]
        if part is None:
            continue
        print(f"{side}:")
        rows = [(label, part[key]) for key, label in labels.items() if part.get(key)]
        rows.append(("OS/Arch", f"{part.get('Os', '')}/{part.get('Arch', '')}"))
        for label, text in rows:
            print(f" {label + ':':<21}{text}")


def _show(found: dict[str, Any], form: str) -> int:
    from cnm.cli.template import Template

    print(Template("{{json .}}" if form == "json" else form).execute(found, missing_key_fails=True))
    return 0


DOCTOR = Command(
    "doctor",
    "Show where the kernel differs from what the networks want; the exit code is 1 when it does",
    doctor,
    "",
    (Flag("repair", BOOLEAN, "Mend what differs, then look again"),),
)
STATUS = Command("status", "Show how the daemon is", status, "", (Flag("format", STRING, FORMAT_HELP, "f"),))
VERSION = Command(
    "version",
    "Show the versions of client and daemon",
    version,
    "",
    (Flag("format", STRING, FORMAT_HELP, "f"),),
)
