"""Capabilities, security options, seccomp profiles, sysctls and namespaces: what may be asked, and what comes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnm.errors import CnmError, InvalidParameter, Unavailable
from cnm.launcher.capabilities import DEFAULT, NAMES, capability_sets, granted, named
from cnm.launcher.host import Feature
from cnm.launcher.modes import DEFAULT_MAPPING, UserMapping, user_mapping
from cnm.launcher.seccomp import applied, decoded
from cnm.launcher.security import SecurityOptions, seccomp_rules, security_options
from cnm.launcher.signals import signal_number
from cnm.launcher.validation import check, settled, warnings
from cnm.wire.containers import Config, HostConfig
from tests.support.launcher_hosts import a_host

_CLIPPED = tuple(name for name in NAMES if name != "CAP_SYS_RESOURCE")


def test_docker_s_default_is_the_mask_it_is_known_by() -> None:
    assert set(named(0xA80425FB)) == set(DEFAULT)
    assert named((1 << 41) - 1) == NAMES


def test_all_means_all_that_the_host_allows() -> None:
    assert granted((), (), privileged=True, available=_CLIPPED) == _CLIPPED
    assert granted(["ALL"], ["KILL"], privileged=False, available=_CLIPPED) == tuple(
        name for name in _CLIPPED if name != "CAP_KILL"
    )


def test_a_default_that_the_host_lacks_is_left_out() -> None:
    without = tuple(name for name in NAMES if name != "CAP_MKNOD")

    assert "CAP_MKNOD" not in granted((), (), privileged=False, available=without)


def test_what_the_host_lacks_cannot_be_added_but_dropped() -> None:
    granted((), ["SYS_RESOURCE"], privileged=False, available=_CLIPPED)

    with pytest.raises(
        InvalidParameter, match='not available in the current environment: "CAP_SYS_RESOURCE"'
    ):
        granted(["sys_resource"], (), privileged=False, available=_CLIPPED)


def test_a_user_other_than_root_has_only_a_bounding_set() -> None:
    assert capability_sets(("CAP_KILL",), 5) == {"bounding": ["CAP_KILL"]}


def test_a_privileged_container_that_gets_less_is_warned_of() -> None:
    assert warnings(HostConfig(privileged=True), a_host(capabilities=_CLIPPED)) == [
        "This host does not allow CAP_SYS_RESOURCE: the privileged container runs without."
    ]
    assert warnings(HostConfig(privileged=True), a_host()) == []


def test_the_last_security_option_of_a_kind_holds() -> None:
    found = security_options(
        ["no-new-privileges", "no-new-privileges=0", "seccomp:unconfined", "label=disable", "apparmor=mine"]
    )

    assert found == SecurityOptions(False, "unconfined", "mine", False, ("disable",))


def test_the_built_in_profile_is_the_default_one() -> None:
    assert security_options(["seccomp=builtin"]).seccomp == ""


_RULES: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["always"], "action": "A", "args": [{"index": 1, "value": 2, "valueTwo": 0, "op": "EQ"}]},
        {"names": ["with cap"], "action": "A", "includes": {"caps": ["CAP_KILL", "CAP_CHOWN"]}},
        {
            "names": ["without cap"],
            "action": "A",
            "excludes": {"caps": ["CAP_KILL", "CAP_CHOWN"]},
            "errnoRet": 38,
        },
        {"names": ["x86"], "action": "A", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["other"], "action": "A", "excludes": {"arches": ["amd64"]}},
        {"names": ["new"], "action": "A", "includes": {"minKernel": "5.10"}},
        {"names": ["old"], "action": "A", "excludes": {"minKernel": "5.10"}},
        {"name": "single", "action": "A"},
    ],
}


@pytest.mark.parametrize(
    ("capabilities", "architecture", "kernel", "names"),
    [
        (("CAP_KILL", "CAP_CHOWN"), "amd64", (5, 10), "always, with cap, x86, new, single"),
        (("CAP_KILL",), "amd64", (5, 9), "always, x86, old, single"),
        ((), "arm64", (6, 0), "always, without cap, other, new, single"),
    ],
)
def test_rules_apply_to_those_they_are_for(
    capabilities: tuple[str, ...], architecture: str, kernel: tuple[int, int], names: str
) -> None:
    found = applied(_RULES, capabilities=capabilities, architecture=architecture, kernel=kernel)

    assert found is not None
    assert [rule["names"] for rule in found["syscalls"]] == [[name] for name in names.split(", ")]


def test_a_profile_keeps_what_it_says_otherwise() -> None:
    found = applied(_RULES, capabilities=(), architecture="arm64", kernel=(6, 0))

    assert found is not None
    assert found["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert (found["defaultAction"], found["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", 1)
    assert found["syscalls"][0]["args"] == [{"index": 1, "value": 2, "op": "EQ"}]
    assert found["syscalls"][1]["errnoRet"] == 38


def test_a_profile_that_says_nothing_confines_nothing() -> None:
    assert applied(decoded("{}"), capabilities=(), architecture="amd64", kernel=(6, 0)) is None


def test_a_container_is_not_left_unconfined_for_want_of_a_profile() -> None:
    host = a_host(seccomp=None)

    with pytest.raises(Unavailable, match="no seccomp profile is installed"):
        seccomp_rules(HostConfig(), DEFAULT, host)
    assert seccomp_rules(HostConfig(security_opt=["seccomp=unconfined"]), DEFAULT, host) is None
    assert seccomp_rules(HostConfig(privileged=True), DEFAULT, host) is None


def test_a_privileged_container_has_the_profile_it_asks_for() -> None:
    asked = HostConfig(privileged=True, security_opt=[f"seccomp={json.dumps(_RULES)}"])

    assert seccomp_rules(asked, NAMES, a_host()) is not None


def test_a_kernel_without_seccomp_takes_no_profile() -> None:
    host = a_host(without=(Feature.SECCOMP,))

    assert seccomp_rules(HostConfig(), DEFAULT, host) is None
    assert "seccomp is not enabled" in warnings(HostConfig(), host)[0]
    with pytest.raises(Unavailable, match="cannot run a custom seccomp profile"):
        seccomp_rules(HostConfig(security_opt=[f"seccomp={json.dumps(_RULES)}"]), DEFAULT, host)


@pytest.mark.parametrize(
    ("mode", "mapping"),
    [
        (None, None),
        ("host", None),
        ("private", DEFAULT_MAPPING),
        ("private:200000:1000", UserMapping(200_000, 1000)),
    ],
)
def test_a_user_namespace_maps_root_to_who_was_asked_for(
    mode: str | None, mapping: UserMapping | None
) -> None:
    assert user_mapping(mode) == mapping


def _refusal(config: Config | None = None, **asked: Any) -> str:
    with pytest.raises(CnmError) as refused:
        check(config or Config(), HostConfig(**asked), a_host(oom_score_floor=0, init=""))
    return str(refused.value)


@pytest.mark.parametrize(
    "mode", ["private:0:10", "private:10:0", "private:4294967290:10", "private:a:b", "weird"]
)
def test_a_mapping_that_cannot_be_is_refused(mode: str) -> None:
    assert f"invalid userns mode: {mode}" in _refusal(userns_mode=mode)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"privileged": True}, "privileged mode is incompatible with user namespaces."),
        (
            {"network_mode": "host"},
            "cannot share the host's network namespace when user namespaces are enabled",
        ),
        ({"pid_mode": "host"}, "cannot share the host PID namespace when user namespaces are enabled"),
    ],
)
def test_a_user_namespace_goes_not_with_the_host_s(asked: dict[str, Any], words: str) -> None:
    assert words in _refusal(userns_mode="private", **asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"ipc_mode": "weird"}, "invalid IPC mode: weird"),
        ({"ipc_mode": "container:"}, "invalid IPC mode: container:"),
        ({"pid_mode": "private"}, "invalid PID mode: private"),
        ({"uts_mode": "container:x"}, "invalid UTS mode: container:x"),
        ({"oom_score_adj": -1}, "oom score adj -1 cannot be set: the launcher lacks CAP_SYS_RESOURCE"),
        ({"cpu_shares": -1}, "invalid CPU shares (-1): value must be a positive integer"),
        ({"init": True}, "--init needs docker-init"),
        (
            {"annotations": {"": "x"}},
            "invalid Annotations: the empty string is not permitted as an annotation key",
        ),
        (
            {"device_requests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]},
            'could not select device driver "" with capabilities: [[gpu]]',
        ),
    ],
)
def test_what_docker_28_refuses_is_refused(asked: dict[str, Any], words: str) -> None:
    assert words in _refusal(**asked)


@pytest.mark.parametrize(
    ("sysctl", "modes", "words"),
    [
        ("vm.swappiness", {}, 'sysctl "vm.swappiness" is not in a separate kernel namespace'),
        ("net.core.somaxconn", {"network_mode": "host"}, "is not allowed in the hosts network namespace"),
        ("kernel.shmmax", {"ipc_mode": "host"}, "is not allowed in the hosts ipc namespace"),
        ("fs.mqueue.msg_max", {"ipc_mode": "host"}, "is not allowed in the hosts ipc namespace"),
        ("kernel.hostname", {}, 'conflicts with the OCI "hostname" field'),
        ("kernel.domainname", {"uts_mode": "host"}, "is not in a separate kernel namespace"),
    ],
)
def test_a_sysctl_of_the_host_is_refused(sysctl: str, modes: dict[str, Any], words: str) -> None:
    assert words in _refusal(sysctls={sysctl: "1"}, **modes)


def test_sysctls_of_the_container_s_own_namespaces_are_taken() -> None:
    names = ("net.core.somaxconn", "kernel.shmmax", "fs.mqueue.msg_max", "kernel.domainname")

    check(Config(), HostConfig(sysctls=dict.fromkeys(names, "1")), a_host())


def test_cgroup_namespaces_are_the_default_of_cgroup_v2() -> None:
    assert settled(HostConfig(), a_host(version=2)).cgroupns_mode == "private"
    assert settled(HostConfig(), a_host(version=1)).cgroupns_mode == "host"
    assert settled(HostConfig(cgroupns_mode="host"), a_host(version=2)).cgroupns_mode == "host"


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("kill", 9), ("15", 15), ("SIGRTMIN+3", 37), ("rtmax-1", 63), ("SIGCHLD", 17)],
)
def test_a_signal_is_named_in_many_ways(text: str, number: int) -> None:
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "SIGWEIRD", "RTMIN+31", "RTMIN-1", "-9"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=f"^invalid signal: {text.replace('+', '.')}$"):
        signal_number(text)
