"""Configurations of containers and images as Docker's answers have them: what is empty is left out, or filled in.

Source: the JSON tags of moby's api/types/container (Config, HostConfig).
"""

from __future__ import annotations

from typing import Any

import msgspec

from cnm.launcher.log_options import JSON_FILE
from cnm.wire.containers import Config, HostConfig

_NO_LOG = {"Type": JSON_FILE, "Config": {}}
_NO_POLICY = {"Name": "", "MaximumRetryCount": 0}
_OF_WINDOWS = {"CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0}
_OMITTED_IF_EMPTY = (
    *("ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "Shell"),
    *("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Runtime", "Mounts"),
)
_OMITTED_IF_NULL = ("StopTimeout", "Init")


def config(record: Config) -> dict[str, Any]:
    """`Config` of a container or an image."""
    return _without_empty(msgspec.to_builtins(record))


def host_config(record: HostConfig) -> dict[str, Any]:
    """`HostConfig` of a container."""
    shown = _without_empty(msgspec.to_builtins(record))
    log = shown["LogConfig"] or _NO_LOG
    shown["LogConfig"] = {"Type": log["Type"] or JSON_FILE, "Config": log["Config"] or {}}
    shown["RestartPolicy"] = shown["RestartPolicy"] or _NO_POLICY
    shown["ConsoleSize"] = shown["ConsoleSize"] or [0, 0]
    if (record.pids_limit or 0) <= 0:
        shown["PidsLimit"] = None
    return {**shown, **_OF_WINDOWS}


def _without_empty(shown: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in shown.items()
        if (value or key not in _OMITTED_IF_EMPTY) and (value is not None or key not in _OMITTED_IF_NULL)
    }
