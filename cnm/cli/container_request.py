"""What `run` and `create` ask for: their flags as the body of POST /containers/create.

The body holds only what was asked for: what is absent is as if the docker CLI had sent its zero value.
"""

from __future__ import annotations

import json
import os

from cnm.cli import key_value_file
from cnm.cli.container_limits import LIMITS, restart_policy
from cnm.cli.container_mounts import binds_and_volumes, device, tmpfs
from cnm.cli.container_networks import DEFAULT, endpoints
from cnm.cli.container_ports import exposed_ports, port_bindings
from cnm.cli.process_flags import environment
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.flags import Arguments

_CONFIG = {
    "hostname": "Hostname",
    "domainname": "Domainname",
    "user": "User",
    "tty": "Tty",
    "interactive": "OpenStdin",
    "workdir": "WorkingDir",
    "stop-signal": "StopSignal",
}

_HOST_CONFIG = {
    "annotation": "Annotations",
    "cap-add": "CapAdd",
    "cap-drop": "CapDrop",
    "cgroup-parent": "CgroupParent",
    "cgroupns": "CgroupnsMode",
    "cidfile": "ContainerIDFile",
    "group-add": "GroupAdd",
    "add-host": "ExtraHosts",
    "ipc": "IpcMode",
    "isolation": "Isolation",
    "link": "Links",
    "mount": "Mounts",
    "oom-kill-disable": "OomKillDisable",
    "oom-score-adj": "OomScoreAdj",
    "pid": "PidMode",
    "privileged": "Privileged",
    "publish-all": "PublishAllPorts",
    "read-only": "ReadonlyRootfs",
    "rm": "AutoRemove",
    "runtime": "Runtime",
    "shm-size": "ShmSize",
    "sysctl": "Sysctls",
    "userns": "UsernsMode",
    "uts": "UTSMode",
    "volume-driver": "VolumeDriver",
    "volumes-from": "VolumesFrom",
    "blkio-weight-device": "BlkioWeightDevice",
    "device-cgroup-rule": "DeviceCgroupRules",
    "device-read-bps": "BlkioDeviceReadBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-write-iops": "BlkioDeviceWriteIOps",
}
"""Keys of the request by flags whose values it takes as they are."""

_HEALTH = {
    "health-interval": "Interval",
    "health-retries": "Retries",
    "health-start-interval": "StartInterval",
    "health-start-period": "StartPeriod",
    "health-timeout": "Timeout",
}

_NAMESPACES = (
    ("pid", ("host",), "--pid: invalid PID mode"),
    ("uts", ("host",), "--uts: invalid UTS mode"),
    ("userns", ("host", "private"), "--userns: invalid USER mode"),
    ("cgroupns", ("host", "private"), "--cgroupns: invalid CGROUP mode"),
)


def create_body(arguments: Arguments) -> dict[str, Any]:
    """The body for an image and perhaps a command, the operands, and the flags of `CREATE_FLAGS`.

    Raises InvalidParameter with Docker's words, also where a file that a flag names cannot be read.
    """
    _check(arguments)
    image, *command = arguments.operands
    binds, volumes = binds_and_volumes(arguments["volume"])
    bindings = port_bindings(arguments["publish"])
    body = {
        **_given(arguments, _CONFIG),
        "Image": image,
        "Cmd": command,
        "Env": environment(arguments),
        "Labels": _labels(arguments),
        "ExposedPorts": {port: {} for port in bindings} | exposed_ports(arguments["expose"]),
        "Volumes": volumes,
        "Healthcheck": _health(arguments),
        "MacAddress": arguments["mac-address"],
        **_attached(arguments),
    }
    body = {key: value for key, value in body.items() if value}
    if "entrypoint" in arguments.given:
        body["Entrypoint"] = [arguments["entrypoint"]]
    if "stop-timeout" in arguments.given:
        body["StopTimeout"] = arguments["stop-timeout"]
    body["HostConfig"] = _host_config(arguments, binds, bindings)
    if networks := endpoints(arguments):
        body["NetworkingConfig"] = {"EndpointsConfig": networks}
    return body


def _given(arguments: Arguments, keys: dict[str, str]) -> dict[str, Any]:
    return {key: arguments[flag] for flag, key in keys.items() if arguments[flag]}


def _check(arguments: Arguments) -> None:
    for flag, alone, refusal in _NAMESPACES:
        kind, colon, rest = arguments[flag].partition(":")
        shared = flag in ("pid", "uts") and kind == "container" and bool(rest)
        mapped = flag == "userns" and kind == "private" and bool(rest)
        if arguments[flag] and not shared and not mapped and (kind not in alone or colon):
            raise InvalidParameter(refusal)
    swappiness = arguments["memory-swappiness"]
    if not -1 <= swappiness <= 100:
        raise InvalidParameter(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    if arguments["rm"] and arguments["restart"] not in ("", "no"):
        raise InvalidParameter("conflicting options: cannot specify both --restart and --rm")
    if arguments["pull"] not in ("always", "missing", "never", ""):
        raise InvalidParameter(
            f'invalid pull option: \'{arguments["pull"]}\': must be one of "always", "missing" or "never"'
        )


def _attached(arguments: Arguments) -> dict[str, bool]:
    attach = arguments["attach"]
    stdin = arguments["interactive"] or "stdin" in attach
    return {
        "AttachStdin": stdin,
        "AttachStdout": not attach or "stdout" in attach,
        "AttachStderr": not attach or "stderr" in attach,
        "StdinOnce": stdin and arguments["interactive"],
    }


def _labels(arguments: Arguments) -> dict[str, str]:
    texts = [line for path in arguments["label-file"] for line in key_value_file.labels(path)]
    return _mapping([*texts, *arguments["label"]])


def _mapping(texts: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def _health(arguments: Arguments) -> dict[str, Any]:
    """Of times in nanoseconds."""
    found = _given(arguments, _HEALTH)
    if arguments["no-healthcheck"]:
        if found or arguments["health-cmd"]:
            raise InvalidParameter("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    for flag in _HEALTH:
        if arguments[flag] < 0:
            raise InvalidParameter(f"--{flag} cannot be negative")
    if arguments["health-cmd"]:
        found["Test"] = ["CMD-SHELL", arguments["health-cmd"]]
    return found


def _host_config(
    arguments: Arguments, binds: list[str], bindings: dict[str, list[dict[str, str]]]
) -> dict[str, Any]:
    networks = arguments["network"]
    security = _security_options(arguments["security-opt"])
    unconfined = "systempaths=unconfined" in security
    found = {
        **_given(arguments, _HOST_CONFIG),
        **_given(arguments, LIMITS),
        "Binds": binds,
        "Tmpfs": tmpfs(arguments["tmpfs"]),
        "PortBindings": bindings,
        "NetworkMode": networks[0][0] if networks else DEFAULT,
        "RestartPolicy": restart_policy(arguments["restart"]),
        "Devices": [device(spec) for spec in arguments["device"]],
        "Ulimits": [arguments["ulimit"][name] for name in sorted(arguments["ulimit"])],
        "SecurityOpt": [option for option in security if option != "systempaths=unconfined"],
        "StorageOpt": _storage_options(arguments["storage-opt"]),
        "LogConfig": _log_config(arguments),
    }
    found = {key: value for key, value in found.items() if value}
    # What the daemon keeps of these is an empty list, not null, for every container that Docker's client makes.
    found |= {"Dns": arguments["dns"], "DnsOptions": arguments["dns-option"]}
    found["DnsSearch"] = arguments["dns-search"]
    if arguments["memory-swappiness"] != -1:
        found["MemorySwappiness"] = arguments["memory-swappiness"]
    if "init" in arguments.given:
        found["Init"] = arguments["init"]
    return found | ({"MaskedPaths": [], "ReadonlyPaths": []} if unconfined else {})


def _security_options(options: list[str]) -> list[str]:
    return [_security_option(option) for option in options]


def _security_option(option: str) -> str:
    """A seccomp profile is read here: the daemon cannot be expected to have the file."""
    key, separator, value = option.partition("=" if "=" in option else ":")
    if key == "no-new-privileges":
        return option
    if not separator or not value:
        raise InvalidParameter(f'invalid --security-opt: "{option}"')
    if key != "seccomp" or value in ("unconfined", "builtin"):
        return option
    try:
        with open(os.fsencode(value), "rb") as file:
            profile = json.loads(file.read())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InvalidParameter(f"opening seccomp profile ({value}) failed: open {value}: {reason}") from None
    except ValueError as error:
        raise InvalidParameter(f"compacting json for seccomp profile ({value}) failed: {error}") from None
    return f"seccomp={json.dumps(profile, separators=(',', ':'), ensure_ascii=False)}"


def _storage_options(options: list[str]) -> dict[str, str]:
    if any("=" not in option for option in options):
        raise InvalidParameter("invalid storage option: use KEY=VALUE")
    return _mapping(options)


def _log_config(arguments: Arguments) -> dict[str, Any]:
    driver, options = arguments["log-driver"], arguments["log-opt"]
    if driver == "none" and options:
        raise InvalidParameter(f"invalid logging opts for driver {driver}")
    found = {"Type": driver, "Config": _mapping(options)}
    return {key: value for key, value in found.items() if value}
