"""Seccomp profiles in Docker's form, and the OCI's form of what applies to one container."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from cnm.errors import InvalidParameter, Unavailable

_INSTALLED = (
    "/usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json",
    "/etc/containers/seccomp.json",
    "/usr/share/containers/seccomp.json",
)
"""Docker's own, of golang-github-docker-docker-dev; then the laxer one of containers-common."""

_ARCHITECTURES = {
    "386": "SCMP_ARCH_X86",
    "amd64": "SCMP_ARCH_X86_64",
    "arm": "SCMP_ARCH_ARM",
    "arm64": "SCMP_ARCH_AARCH64",
    "mips64": "SCMP_ARCH_MIPS64",
    "mips64le": "SCMP_ARCH_MIPSEL64",
    "ppc64le": "SCMP_ARCH_PPC64LE",
    "s390x": "SCMP_ARCH_S390X",
    "riscv64": "SCMP_ARCH_RISCV64",
}
"""By Go's names."""


def find_profile(configured: str) -> str:
    """Path of the profile to use: the configured one, or the first that a package brought; "" for none."""
    return configured or next((path for path in _INSTALLED if os.path.exists(path)), "")


def read_profile(path: str) -> dict[str, Any]:
    """Raises Unavailable naming the file."""
    try:
        with open(path, encoding="utf-8") as file:
            return decoded(file.read())
    except OSError as error:
        raise Unavailable(f"seccomp profile {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, InvalidParameter) as error:
        raise Unavailable(f"seccomp profile {path} cannot be read: {error}") from error


def decoded(text: str) -> dict[str, Any]:
    """A profile as a client sent it. Raises InvalidParameter in Docker's words."""
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: {error}") from error
    if not isinstance(profile, dict):
        raise InvalidParameter("Decoding seccomp profile failed: it is no JSON object")
    if profile.get("architectures") and profile.get("archMap"):
        raise InvalidParameter(
            "'architectures' and 'archMap' were specified in the seccomp profile, use either 'architectures' "
            "or 'archMap'"
        )
    for call in _calls(profile):
        if call.get("name") and call.get("names"):
            raise InvalidParameter(
                "'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'"
            )
    return profile


def applied(
    profile: Mapping[str, Any], *, capabilities: Collection[str], architecture: str, kernel: tuple[int, int]
) -> dict[str, Any] | None:
    """`linux.seccomp` of a container with these capabilities; None for a profile that says nothing.

    Rules for other architectures, capabilities and kernels are left out, as Docker does.
    """
    if not profile.get("defaultAction") and not profile.get("syscalls"):
        return None
    has = _Circumstances(capabilities, architecture, kernel)
    found: dict[str, Any] = {"defaultAction": profile.get("defaultAction", "")}
    found |= {key: profile[key] for key in _PASSED_ON if profile.get(key) is not None}
    if architectures := _architectures(profile, architecture):
        found["architectures"] = architectures
    found["syscalls"] = [_rule(call) for call in _calls(profile) if has.rule(call)]
    return found


_PASSED_ON = ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")


def _calls(profile: Mapping[str, Any]) -> list[dict[str, Any]]:
    return profile.get("syscalls") or []


def _architectures(profile: Mapping[str, Any], architecture: str) -> list[str]:
    native = _ARCHITECTURES.get(architecture)
    for entry in profile.get("archMap") or []:
        if native and entry.get("architecture") == native:
            return [native, *(entry.get("subArchitectures") or [])]
    return list(profile.get("architectures") or [])


class _Circumstances:
    """Of one container; Docker's rules about what a rule's `includes` and `excludes` mean."""

    def __init__(self, capabilities: Collection[str], architecture: str, kernel: tuple[int, int]) -> None:
        self._capabilities, self._kernel = capabilities, kernel
        # Docker writes ARM's and x86's names in profiles as libseccomp does.
        self._architecture = {"386": "x86", "mips64le": "mipsel64"}.get(architecture, architecture)

    def rule(self, call: Mapping[str, Any]) -> bool:
        """Whether it applies: everything that it includes is so, nothing that it excludes is."""
        includes, excludes = call.get("includes") or {}, call.get("excludes") or {}
        return all(self._facts(includes, all)) and not any(self._facts(excludes, any))

    def _facts(self, wanted: Mapping[str, Any], enough: Any) -> Iterator[bool]:
        if arches := wanted.get("arches"):
            yield self._architecture in arches
        if caps := wanted.get("caps"):
            yield enough(cap in self._capabilities for cap in caps)
        if least := wanted.get("minKernel"):
            yield self._kernel >= _version(least)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = str(text).partition(".")
    try:
        return int(major), int(minor)
    except ValueError as error:
        raise InvalidParameter(f"Decoding seccomp profile failed: invalid kernel version: {text}") from error


def _rule(call: Mapping[str, Any]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": [call["name"]] if call.get("name") else list(call.get("names") or [])}
    rule["action"] = call.get("action", "")
    if call.get("errnoRet") is not None:
        rule["errnoRet"] = call["errnoRet"]
    if arguments := call.get("args"):
        rule["args"] = [_argument(argument) for argument in arguments if argument]
    return rule


def _argument(argument: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "index": argument.get("index", 0),
        "value": argument.get("value", 0),
        "op": argument.get("op", ""),
    }
    return found | ({"valueTwo": argument["valueTwo"]} if argument.get("valueTwo") else {})
