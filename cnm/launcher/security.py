"""`--security-opt`: what it says about privileges, seccomp and AppArmor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cnm.errors import InvalidParameter, Unavailable
from cnm.launcher import seccomp
from cnm.launcher.host import Feature, Host
from cnm.wire.containers import HostConfig

_UNCONFINED, _BUILTIN = "unconfined", "builtin"


class SecurityOptions(NamedTuple):
    """SELinux labels are read and have no effect, as on every host without SELinux."""

    no_new_privileges: bool = False
    seccomp: str = ""
    """A profile's JSON, "unconfined", or "" for the default one."""
    apparmor: str = ""
    writable_cgroups: bool = False
    labels: tuple[str, ...] = ()


def security_options(options: Sequence[str]) -> SecurityOptions:
    """Raises InvalidParameter for an option that Docker does not have. The last of a kind holds."""
    found = SecurityOptions()
    for option in options:
        found = _with_option(found, option)
    return found


def _with_option(found: SecurityOptions, option: str) -> SecurityOptions:
    if option == "no-new-privileges":
        return found._replace(no_new_privileges=True)
    if option == "disable":
        return found._replace(labels=(*found.labels, option))
    # "key:value" is Docker's older way to write it.
    key, separator, value = option.partition("=" if "=" in option else ":")
    if not separator:
        raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
    match key:
        case "label":
            return found._replace(labels=(*found.labels, value))
        case "apparmor":
            return found._replace(apparmor=value)
        case "seccomp":
            return found._replace(seccomp="" if value == _BUILTIN else value)
        case "no-new-privileges":
            return found._replace(no_new_privileges=_boolean(value, option))
        case "writable-cgroups":
            return found._replace(writable_cgroups=_boolean(value, option))
    raise InvalidParameter(f'invalid --security-opt 2: "{option}"')


_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
"""Go's strconv.ParseBool."""


def _boolean(value: str, option: str) -> bool:
    if value not in _BOOLEANS:
        raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return _BOOLEANS[value]


def seccomp_rules(host_config: HostConfig, capabilities: Sequence[str], host: Host) -> dict[str, Any] | None:
    """`linux.seccomp`, None for a container that is not confined.

    A privileged container has no profile but one that was asked for. Raises Unavailable where the default profile is
    needed and none is installed: a container never runs with less than it seems to have.
    """
    asked = security_options(host_config.security_opt or ()).seccomp
    if asked == _UNCONFINED or (host_config.privileged and not asked):
        return None
    if Feature.SECCOMP not in host.features:
        if asked:
            raise Unavailable("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")
        return None
    profile = seccomp.decoded(asked) if asked else host.seccomp
    if profile is None:
        raise Unavailable(
            "no seccomp profile is installed: install golang-github-containers-common, say in the launcher's settings "
            "where one is, or run the container with --security-opt seccomp=unconfined"
        )
    return seccomp.applied(
        profile, capabilities=capabilities, architecture=host.architecture, kernel=host.kernel
    )


def apparmor_profile(host_config: HostConfig, host: Host) -> str:
    """A profile that was asked for and that the host has a use for, or ""."""
    asked = security_options(host_config.security_opt or ()).apparmor
    return asked if Feature.APPARMOR in host.features else ""
