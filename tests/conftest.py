"""Every test process leaves the machine's namespaces before anything else; most rungs need root for it."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from netns_fixtures import IsolationError, isolate
from tests.support.forked import end_fork_server
from tests.support.machine import Machine, processes_left
from tests.support.thorough import SAMPLED

_LONG = (
    "faults/test_crash_points.py",
    "docker/test_plugin_restarts.py",
    "docker/test_neighbour_firewall.py",
    "kernel/test_plugin_dockerd.py",
    "cluster/test_membership_leaving.py",
    "docker/test_overlay_networks.py",
    "packet/test_fails_closed.py",
    "cluster/test_overlay_faults.py",
    "docker/test_plugin_crash_points.py",
    "kernel/test_neighbours_resolved.py",
    "cluster/test_membership_faults.py",
    "kernel/test_resolver_process.py",
    "cluster/test_overlay_refusals.py",
    "docker/test_cli_shown_containers.py",
    "docker/test_plugin_networks.py",
    "kernel/test_firewall_ruleset_packets.py",
    "packet/test_table.py",
    "docker/test_plugin_ports.py",
    "docker/test_cli_copied_files.py",
    "cluster/test_adopted_refused.py",
    "kernel/test_tunnels.py",
    "packet/test_restart.py",
    "launcher/test_images.py",
    "launcher/test_cluster_networks.py",
)
"""Files that take most of a minute or more, the longest first."""
_SAMPLED = {
    "cluster/test_adopted_etcd.py": 2,
    "cluster/test_adopted_refused.py": 2,
    "cluster/test_adopted_shared.py": 3,
    "cluster/test_etcd_failover.py": 2,
    "cluster/test_membership_certificates.py": 2,
    "cluster/test_membership_faults.py": 2,
    "cluster/test_membership_leaving.py": 2,
    "cluster/test_overlay_clock.py": 4,
    "cluster/test_overlay_faults.py": 2,
    "cluster/test_overlay_refusals.py": 2,
    "docker/test_cli_containers.py": 6,
    "docker/test_cli_copied_files.py": 8,
    "docker/test_cli_shown_containers.py": 12,
    "docker/test_cli_snapshots.py": 4,
    "docker/test_cli_streams.py": 4,
    "docker/test_neighbour_firewall.py": 3,
    "docker/test_neighbour_packets.py": 3,
    "docker/test_overlay_names.py": 2,
    "docker/test_overlay_networks.py": 14,
    "docker/test_overlay_shown.py": 2,
    "docker/test_plugin_activation.py": 2,
    "docker/test_plugin_direct.py": 2,
    "docker/test_plugin_networks.py": 2,
    "docker/test_plugin_ports.py": 2,
    "docker/test_volume_plugin_words.py": 3,
    "docker/test_volume_snapshots.py": 4,
    "faults/test_crash_points.py": 5,
    "faults/test_crash_starts.py": 2,
    "kernel/test_firewall_ruleset_packets.py": 3,
    "kernel/test_kernel_repair.py": 2,
    "kernel/test_neighbours_resolved.py": 3,
    "kernel/test_nft.py": 2,
    "kernel/test_plugin_dockerd.py": 3,
    "kernel/test_reservations.py": 3,
    "kernel/test_resolver_process.py": 2,
    "kernel/test_tunnels.py": 2,
    "launcher/test_api_versions.py": 3,
    "launcher/test_archive.py": 9,
    "launcher/test_archives_like_docker.py": 16,
    "launcher/test_build.py": 4,
    "launcher/test_build_at_once.py": 3,
    "launcher/test_build_faults.py": 4,
    "launcher/test_build_full_disk.py": 4,
    "launcher/test_build_killed.py": 6,
    "launcher/test_build_like_docker.py": 12,
    "launcher/test_build_networks.py": 4,
    "launcher/test_build_options.py": 18,
    "launcher/test_build_power_cut.py": 3,
    "launcher/test_build_registry.py": 5,
    "launcher/test_cli_copied_files.py": 36,
    "launcher/test_cli_run.py": 8,
    "launcher/test_cli_shown.py": 36,
    "launcher/test_clients.py": 4,
    "launcher/test_cluster_networks.py": 11,
    "launcher/test_cnmd_killed.py": 4,
    "launcher/test_compose.py": 6,
    "launcher/test_confinement.py": 4,
    "launcher/test_crash_points.py": 4,
    "launcher/test_crash_points_of_restarts.py": 3,
    "launcher/test_damaged_images.py": 5,
    "launcher/test_docker_py.py": 3,
    "launcher/test_execs.py": 3,
    "launcher/test_fetching.py": 2,
    "launcher/test_following_clis.py": 3,
    "launcher/test_images.py": 6,
    "launcher/test_images_full_disk.py": 4,
    "launcher/test_images_killed.py": 9,
    "launcher/test_images_like_docker.py": 20,
    "launcher/test_images_of_builds.py": 3,
    "launcher/test_images_power_cut.py": 10,
    "launcher/test_lifecycle.py": 3,
    "launcher/test_limits.py": 4,
    "launcher/test_links.py": 3,
    "launcher/test_lists_and_logs.py": 4,
    "launcher/test_loaded_images.py": 4,
    "launcher/test_namespaces.py": 3,
    "launcher/test_networks.py": 3,
    "launcher/test_newest_cli.py": 5,
    "launcher/test_pruning.py": 3,
    "launcher/test_recovery.py": 4,
    "launcher/test_registry.py": 6,
    "launcher/test_registry_clients.py": 5,
    "launcher/test_registry_faults.py": 4,
    "launcher/test_registry_like_docker.py": 8,
    "launcher/test_registry_mirrors.py": 4,
    "launcher/test_registry_replies.py": 3,
    "launcher/test_registry_tokens.py": 3,
    "launcher/test_registry_trust.py": 5,
    "launcher/test_requests_like_docker.py": 3,
    "launcher/test_restarts_of_daemons.py": 8,
    "launcher/test_rootfs.py": 4,
    "launcher/test_run_flags.py": 4,
    "launcher/test_runtime_faults.py": 6,
    "launcher/test_search_hub.py": 6,
    "launcher/test_streams_of_clients.py": 3,
    "launcher/test_userns.py": 4,
    "launcher/test_volume_move.py": 4,
    "launcher/test_volume_move_faults.py": 20,
    "launcher/test_volume_plugins.py": 4,
    "launcher/test_volume_plugins_faults.py": 12,
    "launcher/test_volume_plugins_run.py": 6,
    "launcher/test_volumes.py": 6,
    "launcher/test_volumes_across_hosts.py": 4,
    "launcher/test_volumes_killed.py": 4,
    "launcher/test_volumes_like_docker.py": 4,
    "launcher/test_volumes_mounted.py": 3,
    "packet/test_fails_closed.py": 4,
    "packet/test_forwarding.py": 2,
    "packet/test_macvlan.py": 2,
    "packet/test_restart.py": 2,
    "packet/test_table.py": 5,
    "unit/test_cli_run_requests.py": 8,
    "unit/test_cli_run_verbs.py": 2,
    "unit/test_ipam_pools.py": 3,
    "unit/test_verbs_remote_atomicity.py": 2,
}
"""Files whose tests are many and need nothing of each other: `make test` plays the first of every so many."""
_LEFT_OUT = (
    "cluster/test_overlay_chaos.py",
    "docker/test_plugin_crash_points.py",
    "docker/test_plugin_restarts.py",
    "launcher/test_joined_like_docker.py",
    "launcher/test_like_docker.py",
    "launcher/test_ocispec_like_docker.py",
    "launcher/test_stress.py",
    "packet/test_br_netfilter_repeated.py",
    "unit/test_plugin_calls.py",
)
"""Files that only `make test-thorough` plays: what others show too, in more combinations and for longer."""
_NEED_ROOT = ("kernel", "packet", "docker", "cluster", "faults", "launcher")
_MACHINE = pytest.StashKey[Machine]()


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not _only_directs_workers(config):
        config.stash[_MACHINE] = Machine()
        try:
            isolate()
        except IsolationError as error:
            raise pytest.UsageError(str(error)) from error


def _only_directs_workers(config: pytest.Config) -> bool:
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if any(item.path.is_relative_to(here / rung) for rung in _NEED_ROOT):
            item.add_marker(pytest.mark.root)
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))
    if SAMPLED:
        _sample(items, here)
    places = _places(dict.fromkeys(str(item.path.relative_to(here.parent)) for item in items))
    items.sort(key=lambda item: places[str(item.path.relative_to(here.parent))])


def _sample(items: list[pytest.Item], here: Path) -> None:
    """Leave out what `make test-thorough` plays too."""
    seen: Counter[str] = Counter()
    kept, left = [], []
    for item in items:
        file = str(item.path.relative_to(here)) if item.path.is_relative_to(here) else ""
        is_left = file in _LEFT_OUT or seen[file] % _SAMPLED.get(file, 1)
        (left if is_left else kept).append(item)
        seen[file] += 1
    if left:
        items[0].config.hook.pytest_deselected(items=left)
        items[:] = kept


def _places(files: Collection[str]) -> dict[str, int]:
    """Each file's place in a run: rungs are mixed, long files are spread among short ones, and short ones come last.

    So processes that run side by side have no load at the same time, and none ends long after the others.
    """
    here = Path(__file__).parent
    named = (*_LONG, *_SAMPLED, *_LEFT_OUT)
    assert not (gone := [name for name in named if not (here / name).exists()]), (
        f"named here, and gone: {gone}"
    )
    long = [f"tests/{name}" for name in _LONG if f"tests/{name}" in files]
    short = sorted((name for name in files if name not in long), key=lambda name: zlib.crc32(name.encode()))
    every = max(1, len(short) // (len(long) + 1))
    order = []
    for number, name in enumerate(short):
        if number % every == 0 and long:
            order.append(long.pop(0))
        order.append(name)
    return {name: place for place, name in enumerate([*order, *long])}


@pytest.fixture(autouse=True)
def thread_stays_where_it_was() -> Iterator[None]:
    """A test that forgot to leave a namespace would have those after it fail."""
    before = _namespaces()
    yield
    assert _namespaces() == before


def _namespaces() -> tuple[str, ...]:
    """Of the calling thread."""
    return tuple(os.readlink(f"/proc/thread-self/ns/{kind}") for kind in ("net", "mnt"))


@pytest.fixture(scope="session", autouse=True)
def machine_is_left_as_it_was(pytestconfig: pytest.Config) -> Iterator[None]:
    """Nothing of ours is outside the test's own namespaces at the end, and no process inside them."""
    yield
    end_fork_server()
    if machine := pytestconfig.stash.get(_MACHINE, None):
        assert processes_left() == []
        assert machine.changes() == []
