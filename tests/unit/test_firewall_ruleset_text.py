"""The script that writes our tables, as text."""

from __future__ import annotations

import re

import pytest

from cnm.firewall import ruleset, sets
from cnm.kernel.state import ElementSet, FirewallElement


def test_everything_but_the_admin_chain_is_flushed() -> None:
    text = ruleset.start_text(())

    chains = set(re.findall(r"^chain (\w+)", text, re.MULTILINE))
    flushed = set(re.findall(r"^flush chain \w+ cnm (\w+)$", text, re.MULTILINE))
    assert chains - flushed == {"admin"}


@pytest.mark.parametrize("element_set", sets.ELEMENT_SETS, ids=lambda each: each.name)
def test_every_set_is_declared_flushed_and_used_by_a_rule(element_set: ElementSet) -> None:
    text = ruleset.start_text(())
    kind = "map" if element_set.is_map else "set"

    assert text.count(f"\n{kind} {element_set.name} {{") == 1
    assert f"flush {kind} {element_set.family} cnm {element_set.name}\n" in text
    assert re.search(rf"@{element_set.name}\b", text)


def test_no_chain_is_left_without_a_rule_that_leads_to_it() -> None:
    text = ruleset.start_text(())
    based = re.findall(r"^chain (\w+) \{\n(?:    #.*\n)*    type", text, re.MULTILINE)
    led_to = re.findall(r"(?:goto|jump) (\w+)", text)
    by_element = {"from_nat", "from_internal", "to_nat", "to_routed", "to_open", "to_internal", "guard"}

    assert set(re.findall(r"^chain (\w+)", text, re.MULTILINE)) == {*based, *led_to, *by_element}


def test_elements_are_written_in_one_command_a_set() -> None:
    text = ruleset.start_text(
        [
            FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp", 80)),
            FirewallElement(sets.TO, ("ipv4", "cnm-1"), ("goto to_nat",)),
            FirewallElement(sets.OPEN4, ("10.0.0.2", "udp", 53)),
        ]
    )

    assert "add element inet cnm open4 {\n10.0.0.2 . tcp . 80,\n10.0.0.2 . udp . 53\n}\n" in text
    assert 'add element inet cnm to {\nipv4 . "cnm-1" : goto to_nat\n}\n' in text


def test_no_set_has_intervals() -> None:
    assert "interval" not in ruleset.start_text(())
