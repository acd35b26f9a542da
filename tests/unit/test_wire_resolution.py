"""Hostname, DNS settings and extra hosts of a new sandbox, checked by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.errors import InvalidParameter
from cnm.sandbox import ExtraHost, Resolution
from cnm.wire import control
from cnm.wire.resolution import resolution


def asked(**settings: Any) -> Resolution:
    return resolution(control.SandboxCreate(name="box", **settings))


def test_nothing_is_asked_for_by_default() -> None:
    assert asked() == Resolution()
    assert asked(hostname=None, dns=None, extra_hosts=[]) == Resolution()


def test_all_settings_are_carried_over_in_their_canonical_form() -> None:
    found = asked(
        hostname="web.Example.org",
        dns=["10.0.0.1", " 2001:DB8::0:53 ", "::ffff:10.0.0.2"],
        dns_search=["example.org.", " a.example ", "."],
        dns_options=["ndots:2", "timeout:1"],
        extra_hosts=[
            "db:10.0.0.9",
            "six:fd00::9",
            "other=fd00::A",
            "b=[::1]",
            "c:[::1]",
            "gate:host-gateway",
        ],
    )

    assert found == Resolution(
        hostname="web.Example.org",
        servers=("10.0.0.1", "2001:db8::53", "10.0.0.2"),
        search=("example.org", "a.example", "."),
        options=("ndots:2", "timeout:1"),
        extra_hosts=(
            ExtraHost("db", "10.0.0.9"),
            ExtraHost("six", "fd00::9"),
            ExtraHost("other", "fd00::a"),
            ExtraHost("b", "::1"),
            ExtraHost("c", "::1"),
            ExtraHost("gate", "host-gateway"),
        ),
    )


@pytest.mark.parametrize("hostname", ["a", "my_app", "9lives", "a-b.c--d", "x" * 63, f"{'x' * 60}.abc"])
def test_hostnames_that_the_kernel_takes_are_taken(hostname: str) -> None:
    assert asked(hostname=hostname).hostname == hostname


@pytest.mark.parametrize(
    "hostname", ["-a", "a-", "a..b", ".a", "a.", "a b", "a\n", "ä", "x" * 64, "a." * 32 + "b"]
)
def test_other_hostnames_are_refused(hostname: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid hostname '"):
        asked(hostname=hostname)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dns": ["1.2.3"]}, "IP address is not correctly formatted: 1.2.3"),
        ({"dns": ["10.0.0.1", ""]}, "IP address is not correctly formatted: "),
        ({"dns": ["fe80::1%eth0"]}, "IP address is not correctly formatted: fe80::1%eth0"),
        ({"dns": ["a\nb"]}, r"IP address is not correctly formatted: 'a\nb'"),
        ({"dns_search": ["1.2"]}, "1.2 is not a valid domain"),
        ({"dns_search": [""]}, " is not a valid domain"),
        ({"dns_search": ["a b"]}, "a b is not a valid domain"),
        ({"dns_search": ["-a.example"]}, "-a.example is not a valid domain"),
        ({"dns_search": ["a..example"]}, "a..example is not a valid domain"),
        ({"dns_search": ["a\nnameserver 1.1.1.1"]}, r"'a\nnameserver 1.1.1.1' is not a valid domain"),
        (
            {"dns_options": ["a b"]},
            "invalid DNS option 'a b': one word as in resolv.conf(5), such as ndots:2",
        ),
        ({"dns_options": [""]}, "invalid DNS option '': one word as in resolv.conf(5), such as ndots:2"),
        ({"extra_hosts": ["db10.0.0.1"]}, 'bad format for add-host: "db10.0.0.1"'),
        ({"extra_hosts": [":10.0.0.1"]}, 'bad format for add-host: ":10.0.0.1"'),
        ({"extra_hosts": ["a b:10.0.0.1"]}, 'bad format for add-host: "a b:10.0.0.1"'),
        ({"extra_hosts": ["#a:10.0.0.1"]}, 'bad format for add-host: "#a:10.0.0.1"'),
        ({"extra_hosts": ["db:"]}, 'invalid IP address in add-host: ""'),
        ({"extra_hosts": ["db=10.0.0"]}, 'invalid IP address in add-host: "10.0.0"'),
        ({"extra_hosts": ["db=::1]"]}, 'invalid IP address in add-host: "::1]"'),
        ({"extra_hosts": ["db=[::1"]}, 'invalid IP address in add-host: "[::1"'),
    ],
)
def test_wrong_values_are_refused_in_dockers_words(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        asked(**settings)

    assert str(refused.value) == message


def test_a_long_domain_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="is not a valid domain"):
        asked(dns_search=[".".join(["abc"] * 64)])
