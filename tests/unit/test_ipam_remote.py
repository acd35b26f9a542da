"""Pools and addresses from another program's IPAM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.ipam import IpamCapabilities, PoolExhausted, RemoteIpam
from cnm.ipam.contract import GATEWAY, REQUEST_ADDRESS_TYPE, AddressSpaces, PoolLease
from cnm.wire.plugin_client import PluginAway, PluginRefused, Plugins
from cnm.wire.plugin_discovery import Places
from tests.support.clocks import FakeClock
from tests.support.scripted_plugin import Reply, ScriptedPlugin, answer, error, scripted_plugin

POOL = "here/10.77.1.0/24"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ScriptedPlugin]:
    with scripted_plugin(tmp_path / "x.sock", "IpamDriver") as made:
        yield made


@pytest.fixture
def ipam(tmp_path: Path, plugin: ScriptedPlugin) -> RemoteIpam:
    return RemoteIpam("x", Plugins(Places(socket_dirs=(str(tmp_path),), spec_dirs=()), FakeClock()))


def asked(plugin: ScriptedPlugin) -> list[str]:
    return [name.removeprefix("IpamDriver.") for name in plugin.asked() if name.startswith("IpamDriver.")]


# Capabilities and address spaces


def test_capabilities_are_asked_once(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.ipam_capabilities = {"RequiresMACAddress": True, "RequiresRequestReplay": True, "More": 1}

    for _ in range(2):
        assert ipam.capabilities() == IpamCapabilities(
            requires_mac_address=True, requires_request_replay=True
        )

    assert asked(plugin) == ["GetCapabilities"]


@pytest.mark.parametrize(
    "reply", [Reply(b"404 page not found", 404), error("what?"), Reply(b"{}"), Reply(b"null")]
)
def test_a_plugin_from_before_capabilities_has_none(
    ipam: RemoteIpam, plugin: ScriptedPlugin, reply: Reply
) -> None:
    plugin.script("IpamDriver.GetCapabilities", reply)

    assert ipam.capabilities() == IpamCapabilities()


def test_address_spaces_come_after_capabilities(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    assert ipam.default_address_spaces() == AddressSpaces("here", "everywhere")
    assert asked(plugin) == ["GetCapabilities", "GetDefaultAddressSpaces"]


# Pools


def test_a_pool_is_asked_for_in_dockers_words(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    lease = ipam.request_pool("here", "10.9.0.0/16", "10.9.5.0/24", {"k": "v"})

    assert lease == PoolLease("here/10.9.0.0/16", "10.9.0.0/16")
    assert plugin.last("RequestPool") == {
        "AddressSpace": "here", "Pool": "10.9.0.0/16", "SubPool": "10.9.5.0/24", "Options": {"k": "v"}, "V6": False,
    }  # fmt: skip


def test_a_pool_is_written_our_way(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.script(
        "IpamDriver.RequestPool", answer(PoolID="p", Pool="fd77:0::/64", Data={GATEWAY: "fd77::1/64"})
    )

    assert ipam.request_pool("here", v6=True) == PoolLease("p", "fd77::/64", {GATEWAY: "fd77::1/64"})


def test_chosen_pools_that_touch_the_host_are_kept_until_a_better_one_and_released(
    ipam: RemoteIpam, plugin: ScriptedPlugin
) -> None:
    lease = ipam.request_pool("here", exclude=("10.77.1.0/24", "10.77.2.128/25", "fd00::/8"))

    assert lease.subnet == "10.77.3.0/24"
    assert asked(plugin) == ["RequestPool"] * 3 + ["ReleasePool"] * 2
    assert plugin.kept.pools == {"here/10.77.3.0/24"}


def test_a_pool_that_was_asked_for_may_touch_the_host(ipam: RemoteIpam) -> None:
    assert ipam.request_pool("here", "10.9.0.0/16", exclude=("10.9.0.0/24",)).subnet == "10.9.0.0/16"


def test_a_pool_of_everything_touches_nothing(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.script("IpamDriver.RequestPool", answer(PoolID="all", Pool="0.0.0.0/0"))

    assert ipam.request_pool("here", exclude=("10.9.0.0/24",)).subnet == "0.0.0.0/0"


def test_a_plugin_that_offers_only_what_touches_is_given_up_and_all_is_released(
    ipam: RemoteIpam, plugin: ScriptedPlugin
) -> None:
    with pytest.raises(PoolExhausted, match="that all touch networks of this host: choose a subnet"):
        ipam.request_pool("here", exclude=("10.0.0.0/8",))

    assert plugin.kept.pools == set()


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer(PoolID="p"), "RequestPool: answered invalid CIDR address: '' as pool"),
        (
            answer(PoolID="p", Pool="10.1.0.0"),
            "RequestPool: answered invalid CIDR address: '10.1.0.0' as pool",
        ),
        (answer(PoolID="p", Pool="fd00::/64"), "fd00::/64 as pool, which is not the family asked for"),
        (
            answer(PoolID="p", Pool="10.1.0.0/16", Data={GATEWAY: "10.1.0.1"}),
            "invalid CIDR address: '10.1.0.1'",
        ),
    ],
)
def test_a_bad_pool_is_refused_and_released(
    ipam: RemoteIpam, plugin: ScriptedPlugin, reply: Reply, words: str
) -> None:
    plugin.script("IpamDriver.RequestPool", reply)

    with pytest.raises(PluginRefused, match=r"plugin x: IpamDriver\.") as refusal:
        ipam.request_pool("here")

    assert words in str(refusal.value)
    assert plugin.last("ReleasePool") == {"PoolID": "p"}


@pytest.mark.parametrize("reply", [error("full", "Error"), error("full", status=500), Reply(b"full", 500)])
def test_what_the_plugin_refuses_is_refused_in_its_words(
    ipam: RemoteIpam, plugin: ScriptedPlugin, reply: Reply
) -> None:
    plugin.script("IpamDriver.RequestPool", reply)

    with pytest.raises(PluginRefused, match=r"plugin x: IpamDriver\.RequestPool: full"):
        ipam.request_pool("here")


# Addresses


def test_an_address_is_asked_for_in_dockers_words(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    assert ipam.request_address(POOL, "", {REQUEST_ADDRESS_TYPE: GATEWAY}) == "10.77.1.1/24"
    assert plugin.last("RequestAddress") == {
        "PoolID": POOL, "Address": "", "Options": {"RequestAddressType": "com.docker.network.gateway"},
    }  # fmt: skip

    assert ipam.request_address(POOL, "10.77.1.9") == "10.77.1.9/24"
    assert plugin.last("RequestAddress") == {"PoolID": POOL, "Address": "10.77.1.9", "Options": None}

    ipam.release_address(POOL, "10.77.1.9")
    assert plugin.last("ReleaseAddress") == {"PoolID": POOL, "Address": "10.77.1.9"}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(b"{}"), "RequestAddress: answered no address returned"),
        (answer(Address="10.77.1.5"), "answered invalid CIDR address: '10.77.1.5'"),
        (answer(Address="10.77.1.6/24"), "answered 10.77.1.6/24 for 10.77.1.5, which was asked for"),
    ],
)
def test_a_bad_address_is_refused(ipam: RemoteIpam, plugin: ScriptedPlugin, reply: Reply, words: str) -> None:
    plugin.script("IpamDriver.RequestAddress", reply)

    with pytest.raises(PluginRefused) as refusal:
        ipam.request_address(POOL, "10.77.1.5")

    assert words in str(refusal.value)


def test_an_address_that_was_not_asked_for_is_given_back(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.script("IpamDriver.RequestAddress", answer(Address="10.77.1.6/24"))

    with pytest.raises(PluginRefused):
        ipam.request_address(POOL, "10.77.1.5")

    assert plugin.last("ReleaseAddress") == {"PoolID": POOL, "Address": "10.77.1.6"}


def test_an_empty_pool_is_known_by_dockers_words(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    """The next pool of the network is tried then."""
    plugin.script("IpamDriver.RequestAddress", error("no available addresses on this pool", "Error"))

    with pytest.raises(PoolExhausted):
        ipam.request_address(POOL)


# After a restart


def restore(ipam: RemoteIpam) -> None:
    ipam.restore_pool(POOL, "10.77.1.0/24", "10.77.1.128/25", {"k": "v"})
    ipam.restore_address(POOL, "10.77.1.1", {REQUEST_ADDRESS_TYPE: GATEWAY})
    ipam.restore_address(POOL, "10.77.1.5")


def test_restoring_contacts_nobody(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    restore(ipam)

    assert plugin.calls == []


def test_a_plugin_that_keeps_what_it_gave_is_told_nothing(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    restore(ipam)

    ipam.replay()

    assert asked(plugin) == ["GetCapabilities"]


def test_a_plugin_that_forgets_is_told_again_once(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    restore(ipam)

    ipam.replay()
    ipam.replay()

    assert asked(plugin) == [
        "GetCapabilities", "GetDefaultAddressSpaces", "RequestPool", "RequestAddress", "RequestAddress",
    ]  # fmt: skip
    assert plugin.kept.addresses == {f"{POOL} 10.77.1.1", f"{POOL} 10.77.1.5"}


def test_a_plugin_that_forgets_is_told_before_it_is_asked_for_more(
    ipam: RemoteIpam, plugin: ScriptedPlugin
) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    restore(ipam)

    assert ipam.request_address(POOL) == "10.77.1.2/24"


def test_what_was_released_before_is_not_held_again(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    restore(ipam)

    ipam.release_address(POOL, "10.77.1.5")
    ipam.replay()
    assert plugin.kept.addresses == {f"{POOL} 10.77.1.1"}

    restore(ipam)
    ipam.release_pool(POOL)
    before = len(plugin.calls)
    ipam.replay()
    assert len(plugin.calls) == before


def test_a_pool_may_have_another_name_after_a_replay(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    plugin.script("IpamDriver.RequestPool", answer(PoolID="new/10.77.1.0/24", Pool="10.77.1.0/24"))
    restore(ipam)
    ipam.replay()

    ipam.release_address(POOL, "10.77.1.5")

    assert plugin.last("ReleaseAddress")["PoolID"] == "new/10.77.1.0/24"


def test_a_plugin_that_refuses_a_replay_keeps_nothing_from_going_on(
    ipam: RemoteIpam, plugin: ScriptedPlugin
) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    plugin.script("IpamDriver.RequestAddress", error("in use", "Error"))
    restore(ipam)

    ipam.replay()

    assert plugin.kept.addresses == {f"{POOL} 10.77.1.5"}


def test_a_replay_waits_for_a_plugin_that_is_away(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    plugin.ipam_capabilities = {"RequiresRequestReplay": True}
    restore(ipam)
    plugin.stop()
    with pytest.raises(CnmError):
        ipam.replay()

    plugin.start()
    ipam.replay()

    assert plugin.kept.pools == {POOL}


def test_a_plugin_that_went_away_is_said(ipam: RemoteIpam, plugin: ScriptedPlugin) -> None:
    ipam.capabilities()
    plugin.stop()

    with pytest.raises(PluginAway, match=r"plugin x: IpamDriver\.RequestAddress: cannot be reached"):
        ipam.request_address(POOL)
