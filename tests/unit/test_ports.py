"""The algebra of published ports: ranges taken apart and put together again, and what a withdrawal takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm import ports
from cnm.endpoint import PortMapping, PortRequest, Protocol
from cnm.errors import NotFound
from tests.unit.strategies import port_mappings

TCP = Protocol.TCP


def mapping(container: int, host: int = 0, count: int = 1, address: str = "") -> PortMapping:
    return PortMapping(
        protocol=TCP, container_port=container, host_port=host, count=count, host_address=address
    )


def request(container: int, end: int = 0, host: int = 0, host_end: int = 0, address: str = "") -> PortRequest:
    return PortRequest(
        container_port=container,
        container_port_end=end,
        host_port=host,
        host_port_end=host_end,
        host_address=address,
    )


@given(st.lists(port_mappings(), max_size=6))
def test_joining_ranges_loses_and_invents_no_port(mappings: list[PortMapping]) -> None:
    assert list(ports.singles(ports.ranges(mappings))) == list(ports.singles(mappings))


@given(st.lists(port_mappings(), max_size=6))
def test_ranges_that_are_joined_are_joined_as_far_as_they_can_be(mappings: list[PortMapping]) -> None:
    joined = ports.ranges(mappings)

    assert ports.ranges(joined) == joined
    assert len(joined) <= len(mappings)


@given(port_mappings())
def test_a_range_is_as_many_single_ports_as_it_counts(published: PortMapping) -> None:
    singles = list(ports.singles([published]))

    assert [single.container_port for single in singles] == [
        published.container_port + offset for offset in range(published.count)
    ]
    assert all(single.count == 1 for single in singles)
    assert {bool(single.host_port) for single in singles} == {bool(published.host_port)}


@given(st.lists(port_mappings(), max_size=4, unique_by=lambda m: m.protocol))
def test_asking_for_what_is_published_asks_for_the_same_ports(mappings: list[PortMapping]) -> None:
    assert ports.as_mappings(ports.as_requests(mappings)) == tuple(mappings)


@given(st.lists(port_mappings(), max_size=4, unique_by=lambda m: m.protocol))
def test_withdrawing_everything_leaves_nothing(mappings: list[PortMapping]) -> None:
    going, staying = ports.withdraw(mappings, ports.as_requests(mappings))

    assert staying == ()
    assert set(ports.singles(going)) == set(ports.singles(mappings))


@given(port_mappings(), st.data())
def test_withdrawing_a_part_leaves_the_rest(published: PortMapping, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, published.count - 1))
    last = data.draw(st.integers(first, published.count - 1))
    asked = PortRequest(
        protocol=published.protocol,
        container_port=published.container_port + first,
        container_port_end=published.container_port + last,
    )

    going, staying = ports.withdraw([published], [asked])

    every = list(ports.singles([published]))
    assert list(ports.singles(going)) == every[first : last + 1]
    assert set(ports.singles(staying)) == set(every[:first] + every[last + 1 :])


@pytest.mark.parametrize(
    ("asked", "goes"),
    [
        (request(80), [(80, 8080, ""), (80, 9090, "127.0.0.1")]),
        (request(80, host=8080), [(80, 8080, "")]),
        (request(80, address="127.0.0.1"), [(80, 9090, "127.0.0.1")]),
        (request(80, host=9000, host_end=9100), [(80, 9090, "127.0.0.1")]),
    ],
)
def test_what_a_withdrawal_leaves_open_matches_any(
    asked: PortRequest, goes: list[tuple[int, int, str]]
) -> None:
    published = [mapping(80, 8080), mapping(80, 9090, address="127.0.0.1"), mapping(81, 8081)]

    going, _ = ports.withdraw(published, [asked])

    assert [(m.container_port, m.host_port, m.host_address) for m in going] == goes


@pytest.mark.parametrize(
    "asked", [request(81), request(80, host=1), request(80, end=81), request(80, address="::1")]
)
def test_withdrawing_what_is_not_published_names_it(asked: PortRequest) -> None:
    with pytest.raises(NotFound, match=r"^port 8[01]/tcp is not published as asked: cnmctl port ls$"):
        ports.withdraw([mapping(80, 8080)], [asked])


def test_withdrawing_one_port_twice_is_refused() -> None:
    with pytest.raises(NotFound):
        ports.withdraw([mapping(80, 8080)], [request(80), request(80)])


def test_ports_of_different_addresses_protocols_and_gaps_stay_apart() -> None:
    apart = (
        mapping(80, 8080),
        mapping(81, 8082),
        mapping(82, 8083, address="127.0.0.1"),
        PortMapping(protocol=Protocol.UDP, container_port=83, host_port=8084),
        mapping(84),
        mapping(85),
    )

    assert ports.ranges(apart) == apart
