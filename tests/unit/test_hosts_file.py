"""/etc/hosts of sandboxes: made as Docker makes it, and revised without touching what somebody else wrote there."""

from __future__ import annotations

import pytest

from cnm import hosts_file
from cnm.hosts_file import Line

BOTH = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)
DB, OWN, OWN6 = Line("10.0.0.9", "db"), Line("172.18.0.2", "box"), Line("fd00::2", "box")


def test_a_file_has_the_loopbacks_then_its_lines_in_their_order() -> None:
    assert hosts_file.build([DB, OWN, OWN6], ipv6=True) == (
        BOTH + "10.0.0.9\tdb\n172.18.0.2\tbox\nfd00::2\tbox\n"
    )


def test_without_ipv6_no_line_is_of_that_family() -> None:
    assert hosts_file.build([DB, OWN, OWN6], ipv6=False) == (
        "127.0.0.1\tlocalhost\n10.0.0.9\tdb\n172.18.0.2\tbox\n"
    )


@pytest.mark.parametrize(
    ("hostname", "names"),
    [("box", "box"), ("box.example.org", "box.example.org box"), ("a.b", "a.b a")],
)
def test_a_host_with_a_domain_is_known_by_both_names(hostname: str, names: str) -> None:
    assert hosts_file.own_names(hostname) == names


def test_lines_are_added_at_the_end_and_taken_away_from_wherever_they_are() -> None:
    joined = hosts_file.revise(BOTH, {"box"}, [OWN, OWN6], ipv6=True)
    left = hosts_file.revise(joined, {"box"}, [OWN6], ipv6=True)

    assert joined == BOTH + "172.18.0.2\tbox\nfd00::2\tbox\n"
    assert left == BOTH + "fd00::2\tbox\n"
    assert hosts_file.revise(left, {"box"}, [], ipv6=True) == BOTH


def test_a_file_that_is_right_stays_as_it_is() -> None:
    text = "172.18.0.2\tbox\n# mine\n10.0.0.9  db\n\n10.0.0.9\tdb\n"

    assert hosts_file.revise(text, {"box"}, [OWN], ipv6=True) == text


def test_what_others_wrote_stays_even_if_it_is_about_the_same_address_or_name() -> None:
    text = "172.18.0.2\tother\n172.18.0.2 box\n172.18.0.2\tbox mine\n#172.18.0.2\tbox\n172.18.0.2\tbox\n"

    assert hosts_file.revise(text, {"box"}, [], ipv6=True) == (
        "172.18.0.2\tother\n172.18.0.2 box\n172.18.0.2\tbox mine\n#172.18.0.2\tbox\n"
    )


def test_an_own_line_of_an_address_that_is_gone_goes() -> None:
    assert hosts_file.revise("172.18.0.7\tbox\n", {"box"}, [OWN], ipv6=True) == "172.18.0.2\tbox\n"


def test_two_networks_may_give_the_same_address_and_one_of_them_goes() -> None:
    twice = hosts_file.revise("x\ty\n", {"box"}, [OWN, OWN], ipv6=True)

    assert twice == "x\ty\n172.18.0.2\tbox\n172.18.0.2\tbox\n"
    assert hosts_file.revise(twice, {"box"}, [OWN], ipv6=True) == "x\ty\n172.18.0.2\tbox\n"


def test_a_last_line_without_its_end_gets_it() -> None:
    assert hosts_file.revise("10.0.0.9\tdb", {"box"}, [OWN], ipv6=True) == "10.0.0.9\tdb\n172.18.0.2\tbox\n"


def test_where_ipv6_was_switched_off_its_lines_go_and_do_not_come_back_by_themselves() -> None:
    without = hosts_file.revise(BOTH, {"box"}, [OWN, OWN6], ipv6=False)

    assert without == "127.0.0.1\tlocalhost\n172.18.0.2\tbox\n"
    assert hosts_file.revise(without, {"box"}, [OWN, OWN6], ipv6=True) == without + "fd00::2\tbox\n"
