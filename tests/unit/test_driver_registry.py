"""Drivers are checked when they are registered; those of other programs are made by name and told apart."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.driver import ActiveDriver, Capabilities, Registry
from cnm.drivers.bridge import BridgeDriver
from cnm.drivers.remote import RemoteDriver
from cnm.errors import InvalidParameter, NotFound
from cnm.wire.plugin_client import Plugins
from cnm.wire.plugin_discovery import Places
from tests.support.clocks import FakeClock


def remote(name: str) -> RemoteDriver:
    return RemoteDriver(name, Plugins(Places(socket_dirs=(), spec_dirs=()), FakeClock()))


class Changed:
    """A driver with attributes of its own, None for one that it lacks."""

    def __init__(self, inner: Any, **attributes: Any) -> None:
        self._inner = inner
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize(
    ("driver", "words"),
    [
        (Changed(BridgeDriver(), name=""), "has no name"),
        (Changed(BridgeDriver(), capabilities=Capabilities(scope="planet")), "scope 'local' or 'global'"),
        (Changed(BridgeDriver(), gateways=None), "driver bridge: gateways"),
        (Changed(BridgeDriver(), gateways=lambda network: ("", "")), "driver bridge: gateways"),
        (Changed(remote("lp"), leave=None), "driver lp: leave"),
        (Changed(remote("lp"), join=lambda network: None), "driver lp: join"),
        (Changed(BridgeDriver(), leave=lambda network_id, endpoint_id: None), "driver bridge: introduce"),
    ],
)
def test_a_driver_that_lacks_something_is_refused_by_it(driver: Any, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words):
        Registry([driver])


def test_a_name_belongs_to_one_driver() -> None:
    with pytest.raises(InvalidParameter, match="driver bridge is registered already"):
        Registry([BridgeDriver(), BridgeDriver()])


def test_only_drivers_of_other_programs_are_active() -> None:
    registry = Registry([BridgeDriver(), remote("lp")])

    assert registry.active("bridge") is None
    assert isinstance(registry.active("lp"), ActiveDriver)


def test_a_driver_for_a_new_network_must_be_there() -> None:
    with pytest.raises(NotFound, match='could not find network driver "lp": known are bridge'):
        Registry([BridgeDriver()], remote).get("lp")


def test_the_driver_of_a_network_that_exists_is_made_without_asking_anybody() -> None:
    registry = Registry([BridgeDriver()], remote)

    driver = registry.of_network("lp")

    assert driver.name == "lp"
    assert registry.of_network("lp") is registry.active("lp") is driver


def test_without_other_programs_an_unknown_name_stays_unknown() -> None:
    for ask in (Registry().get, Registry().of_network, Registry().active):
        with pytest.raises(NotFound):
            ask("lp")
