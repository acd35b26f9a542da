"""Which endpoint carries the default route: Docker's order, whatever the order in which endpoints came."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.endpoint import Endpoint
from cnm.gateway import Candidate, choose, default_routes
from cnm.kernel.state import Route
from cnm.network import Network, NetworkState


def candidate(
    name: str, ipv4: str = "", ipv6: str = "", *, priority: int = 0, internal: bool = False
) -> Candidate:
    network = Network(
        id=name, name=name, driver="bridge", created="", state=NetworkState.ACTIVE, internal=internal
    )
    endpoint = Endpoint(id=f"e-{name}", name=name, network_id=name, ifname=f"if-{name}", gw_priority=priority)
    return Candidate(endpoint, network, ipv4, ipv6)


V4, V6 = "192.0.2.1", "2001:db8::1"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (candidate("z", V4, priority=1), candidate("a", V4, V6)),
        (candidate("z", V4, priority=-1), candidate("a", V4, priority=-2)),
        (candidate("z", V4), candidate("a", V4, V6, internal=True)),
        (candidate("z", V4, V6), candidate("a", V4)),
        (candidate("a", V4), candidate("b", V4)),
        (candidate("A", V4), candidate("a", V4)),
    ],
    ids=["priority", "negative priority", "not internal", "both families", "name", "name by its bytes"],
)
def test_the_better_endpoint_carries_the_route(better: Candidate, worse: Candidate) -> None:
    for order in permutations((better, worse)):
        assert choose(order).ipv4 is better
        assert choose(order).endpoint_id == better.endpoint.id


def test_each_family_is_chosen_by_itself() -> None:
    four, six = candidate("four", V4), candidate("six", ipv6=V6, priority=5)

    chosen = choose([four, six])

    assert (chosen.ipv4, chosen.ipv6) == (four, six)
    assert chosen.endpoint_id == "e-four"  # ports are published on IPv4's
    assert default_routes(chosen) == (Route("0.0.0.0/0", "if-four", V4), Route("::/0", "if-six", V6))


def test_an_endpoint_without_a_next_hop_carries_nothing_whatever_its_priority() -> None:
    chosen = choose([candidate("none", priority=9), candidate("web", V4)])

    assert chosen.endpoint_id == "e-web"


def test_where_nobody_offers_a_next_hop_there_is_no_way_out() -> None:
    chosen = choose([candidate("none")])

    assert (chosen.ipv4, chosen.ipv6, chosen.endpoint_id, default_routes(chosen)) == (None, None, "", ())


def candidates() -> st.SearchStrategy[Candidate]:
    return st.builds(
        candidate,
        st.text("abc", min_size=1, max_size=3),
        st.sampled_from(["", V4]),
        st.sampled_from(["", V6]),
        priority=st.integers(-1, 1),
        internal=st.booleans(),
    )


@given(
    st.lists(candidates(), max_size=5, unique_by=lambda c: c.network.name), st.randoms(use_true_random=False)
)
def test_the_order_in_which_endpoints_came_does_not_matter(found: list[Candidate], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert choose(shuffled) == choose(found)
