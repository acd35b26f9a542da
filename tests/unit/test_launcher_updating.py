"""What `update` changes, and what contradicts what was set before."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.errors import Conflict
from cnm.launcher.updating import updated
from cnm.wire.containers import ContainerUpdate, HostConfig, RestartPolicy

_BEFORE: dict[str, Any] = {"memory": 1 << 30, "memory_swap": 2 << 30, "cpu_shares": 5, "cpuset_cpus": "0"}


def test_what_is_not_named_stays() -> None:
    before = HostConfig(**_BEFORE, binds=["/a:/b"])

    after = updated(before, ContainerUpdate(cpu_shares=7, pids_limit=0))

    assert (after.cpu_shares, after.pids_limit) == (7, 0)
    assert (after.memory, after.cpuset_cpus, after.binds) == (1 << 30, "0", ["/a:/b"])
    assert before.cpu_shares == 5


def test_the_restart_policy_changes_where_it_is_named() -> None:
    before = HostConfig(restart_policy=RestartPolicy(name="always"))

    assert updated(before, ContainerUpdate()).restart_policy == RestartPolicy(name="always")
    changed = updated(before, ContainerUpdate(restart_policy=RestartPolicy(name="no")))
    assert changed.restart_policy == RestartPolicy(name="no")


@pytest.mark.parametrize(
    ("before", "change", "words"),
    [
        (
            {"cpu_period": 1000},
            {"nano_cpus": 1},
            "Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            {"cpu_quota": 1000},
            {"nano_cpus": 1},
            "Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            {"nano_cpus": 1},
            {"cpu_period": 1000},
            "CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            {"nano_cpus": 1},
            {"cpu_quota": 1000},
            "CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            _BEFORE,
            {"memory": 3 << 30},
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
        (
            {"auto_remove": True},
            {"restart_policy": RestartPolicy(name="always")},
            "Restart policy cannot be updated because AutoRemove is enabled for the container",
        ),
    ],
)
def test_a_change_that_contradicts_is_refused(
    before: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    with pytest.raises(Conflict) as refused:
        updated(HostConfig(**before), ContainerUpdate(**change))

    assert words in str(refused.value)


def test_memory_and_swap_change_together() -> None:
    after = updated(HostConfig(**_BEFORE), ContainerUpdate(memory=3 << 30, memory_swap=4 << 30))

    assert (after.memory, after.memory_swap) == (3 << 30, 4 << 30)
