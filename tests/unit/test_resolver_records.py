"""Who is called what: scopes see their networks' names in order, and nothing else."""

from __future__ import annotations

import ipaddress

import pytest

from cnm.resolver.records import Book, Found, Link, Member, Record, Scope


def v4(*addresses: str) -> Found:
    return Found(ipv4=tuple(ipaddress.ip_address(address).packed for address in addresses))


def name_of(book: Book, scope: str, address: str) -> str:
    return book.name_of(scope, ipaddress.ip_address(address).packed)


@pytest.fixture
def book() -> Book:
    """Networks web and db; `box` is on both, `lone` on db only."""
    made = Book()
    made.set_zone("w", "web")
    made.set_zone("d", "db")
    made.set_member("w", Member("w1", ("front", "www", "a.b"), "10.1.0.2", "fd01::2"))
    made.set_member("w", Member("w2", ("back", "www"), "10.1.0.3", ""))
    made.set_member("d", Member("d1", ("store", "front"), "10.2.0.2", ""))
    made.set_scope(Scope("box", ("w", "d")))
    made.set_scope(Scope("lone", ("d",)))
    return made


def test_a_name_is_known_on_the_networks_of_the_scope_only(book: Book) -> None:
    assert book.find("box", "back") == v4("10.1.0.3")
    assert book.find("lone", "back") is None


def test_the_first_network_that_knows_a_name_answers(book: Book) -> None:
    assert book.find("box", "front") == Found(*v4("10.1.0.2")[:1], (ipaddress.ip_address("fd01::2").packed,))
    assert book.find("lone", "front") == v4("10.2.0.2")


def test_all_that_share_an_alias_are_found(book: Book) -> None:
    assert book.find("box", "www") == Found(
        v4("10.1.0.2", "10.1.0.3").ipv4, (ipaddress.ip_address("fd01::2").packed,)
    )


@pytest.mark.parametrize(
    ("name", "found"), [("front.db", "10.2.0.2"), ("store.db", "10.2.0.2"), ("back.web", "10.1.0.3")]
)
def test_a_network_can_be_named(book: Book, name: str, found: str) -> None:
    assert book.find("box", name) == v4(found)


def test_a_network_that_the_scope_is_not_on_cannot_be_named(book: Book) -> None:
    assert book.find("lone", "back.web") is None


def test_names_may_hold_dots(book: Book) -> None:
    assert book.find("box", "a.b") == book.find("box", "a.b.web") == book.find("box", "front")


def test_a_network_s_name_may_hold_dots(book: Book) -> None:
    book.set_zone("d", "b.c")

    assert book.find("box", "front.b.c") == v4("10.2.0.2")
    assert book.find("box", "front.db") is None


def test_who_left_is_not_found_and_others_with_the_name_are(book: Book) -> None:
    book.drop_member("w", "w1")

    assert book.find("box", "www") == v4("10.1.0.3")
    assert book.find("box", "front") == v4("10.2.0.2")
    assert name_of(book, "box", "10.1.0.2") == ""


def test_a_member_told_again_is_replaced(book: Book) -> None:
    book.set_member("w", Member("w2", ("rear",), "10.1.0.9", ""))

    assert book.find("box", "back") is None
    assert book.find("box", "rear") == v4("10.1.0.9")


def test_an_address_has_its_first_name_and_its_network(book: Book) -> None:
    assert name_of(book, "box", "10.1.0.3") == "back.web"
    assert name_of(book, "box", "fd01:0:0::2") == "front.web"
    assert name_of(book, "lone", "10.1.0.3") == ""


def test_a_link_is_an_alias_for_one_scope(book: Book) -> None:
    book.set_scope(Scope("box", ("w", "d"), links=(Link("d", "back", "store"),)))

    assert book.find("box", "back") == v4("10.2.0.2")
    assert book.find("box", "back.db") == v4("10.2.0.2")
    assert book.find("box", "back.web") == v4("10.1.0.3")
    assert book.find("lone", "back") is None


def test_a_link_to_nobody_means_nothing(book: Book) -> None:
    book.set_scope(Scope("box", ("w", "d"), links=(Link("d", "gone", "nobody"),)))

    assert book.find("box", "gone") is None


def test_a_link_whose_target_is_away_does_not_mean_another_of_its_network(book: Book) -> None:
    book.set_scope(Scope("box", ("w", "d"), links=(Link("w", "front", "gone"),)))

    assert book.find("box", "front") == v4("10.2.0.2")
    assert book.find("box", "front.web") is None
    assert book.find("box", "back") == v4("10.1.0.3")


@pytest.mark.parametrize(
    ("name", "address"),
    [("x.shop", "10.1.0.4"), ("x.y.shop", "10.1.0.4"), ("till.shop", "10.1.0.5"), ("x.shop.web", "10.1.0.4")],
)
def test_a_wildcard_stands_for_everything_below_it(book: Book, name: str, address: str) -> None:
    book.set_member("w", Member("w3", ("any", "*.shop"), "10.1.0.4", ""))
    book.set_member("w", Member("w4", ("till.shop",), "10.1.0.5", ""))

    assert book.find("box", name) == v4(address)


@pytest.mark.parametrize("name", ["shop", "x.till.shop", "shop.x", "*.shop.x"])
def test_a_wildcard_stands_for_nothing_else(book: Book, name: str) -> None:
    book.set_member("w", Member("w3", ("any", "*.shop"), "10.1.0.4", ""))
    book.set_member("w", Member("w4", ("till.shop",), "10.1.0.5", ""))

    assert book.find("box", name) is None


def test_records_are_names_of_their_network(book: Book) -> None:
    book.set_records(
        "d",
        [
            Record("api", "A", "192.0.2.1"),
            Record("api", "A", "192.0.2.2"),
            Record("out", "CNAME", "example.com"),
        ],
    )

    assert book.find("lone", "api") == v4("192.0.2.1", "192.0.2.2")
    assert book.find("lone", "out.db") == Found(alias="example.com")
    book.set_records("d", [])
    assert book.find("lone", "api") is None


def test_records_stand_beside_members_of_their_name(book: Book) -> None:
    book.set_records("d", [Record("store", "A", "192.0.2.1"), Record("store", "CNAME", "example.com")])
    assert book.find("lone", "store") == v4("10.2.0.2")

    book.set_records("d", [Record("store", "A", "192.0.2.1"), Record("store", "A", "10.2.0.2")])
    assert book.find("lone", "store") == v4("10.2.0.2", "192.0.2.1")


@pytest.mark.parametrize("address", ["10.1.0.300", "10.1.0.2/24", "fd01::x", "fe80::1%eth0", "nowhere"])
def test_what_is_no_address_changes_nothing(book: Book, address: str) -> None:
    with pytest.raises(ValueError, match="no address"):
        book.set_member("w", Member("w2", ("rear",), address, ""))
    with pytest.raises(ValueError, match="no address"):
        book.set_records("w", [Record("rear", "A", address)])

    assert book.find("box", "back") == v4("10.1.0.3")
    assert book.find("box", "rear") is None


@pytest.mark.parametrize("names", [(), ("*.shop",)])
def test_who_has_no_name_of_its_own_has_none_by_its_address(book: Book, names: tuple[str, ...]) -> None:
    book.set_member("w", Member("w2", names, "10.1.0.3", ""))
    assert name_of(book, "box", "10.1.0.3") == ""

    book.set_member("w", Member("w2", ("back",), "10.1.0.4", ""))
    assert name_of(book, "box", "10.1.0.3") == ""
    assert name_of(book, "box", "10.1.0.4") == "back.web"


def test_the_host_finds_names_with_their_network_only(book: Book) -> None:
    book.set_scope(Scope("host", (), everywhere=True, alone=True))

    assert book.find("host", "front") is None
    assert book.find("host", "front.db") == v4("10.2.0.2")
    assert book.find("host", "back.web") == v4("10.1.0.3")
    assert name_of(book, "host", "10.2.0.2") == "store.db"


def test_the_host_knows_the_target_of_an_alias_by_its_network_too(book: Book) -> None:
    book.set_records("d", [Record("api", "CNAME", "store"), Record("out", "CNAME", "example.com")])
    book.set_scope(Scope("host", (), everywhere=True, alone=True))

    assert book.find("host", "api.db") == Found(alias="store.db")
    assert book.find("host", "out.db") == Found(alias="example.com")
    assert book.find("box", "api.db") == Found(alias="store")


def test_the_stamps_of_those_who_see_a_change_are_others_then(book: Book) -> None:
    book.set_scope(Scope("host", (), everywhere=True, alone=True))
    before = stamps(book, "box", "lone", "host")

    book.set_member("w", Member("w9", ("new",), "10.1.0.9", ""))
    assert changed(book, before) == {"box", "host"}
    book.drop_member("d", "d1")
    assert changed(book, before) == {"box", "lone", "host"}
    book.set_scope(Scope("lone", ("d",), ndots=1))
    assert changed(book, before) == {"lone", "host"}
    book.drop_zone("d")
    assert changed(book, before) == {"box", "lone", "host"}
    book.set_zone("d", "db")
    assert changed(book, before) == {"box", "lone", "host"}
    assert changed(book, before) == set()


def stamps(book: Book, *scopes: str) -> dict[str, tuple[int, ...]]:
    return {scope: book.stamp(scope) for scope in scopes}


def changed(book: Book, before: dict[str, tuple[int, ...]]) -> set[str]:
    """Scopes whose stamps are others than `before`, which is brought up to date."""
    now = stamps(book, *before)
    found = {scope for scope in now if now[scope] != before[scope]}
    before.update(now)
    return found
