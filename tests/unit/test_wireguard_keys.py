"""Keys, their file, and the steps of a rotation, in every order by nodes that hear of each other late."""

from __future__ import annotations

import base64
import os
import random
import stat
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnm.cluster.wireguard_keys import (
    GRACE_SECONDS,
    Announced,
    KeyRing,
    OwnKey,
    advance,
    first_ring,
    generate_private_key,
    load,
    public_key,
    save,
)
from cnm.errors import CnmError


def test_the_public_key_is_that_of_rfc_7748() -> None:
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    wanted = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"

    assert base64.b64decode(public_key(base64.b64encode(bob).decode())).hex() == wanted


def test_every_key_is_another() -> None:
    keys = {generate_private_key() for _ in range(20)}

    assert len(keys) == 20
    assert {len(base64.b64decode(key)) for key in keys} == {32}


# The file


def test_a_ring_comes_back_from_its_file_that_nobody_else_reads(tmp_path: Path) -> None:
    path = str(tmp_path / "wireguard.json")
    ring = first_ring({}, 7.0)
    before = os.umask(0)
    try:
        save(path, ring)
        save(path, ring)
    finally:
        os.umask(before)

    assert load(path) == ring
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["wireguard.json"]


def test_no_file_is_no_ring(tmp_path: Path) -> None:
    assert load(str(tmp_path / "none")) is None


def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "wireguard.json"
    path.write_text("{")

    with pytest.raises(CnmError, match=r"wireguard\.json holds no WireGuard keys: delete it"):
        load(str(path))


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CnmError, match=r"cannot be written to .*/none/ring: no such file or directory"):
        save(str(tmp_path / "none" / "ring"), first_ring({}, 0.0))


def test_a_ring_shows_no_key() -> None:
    ring = first_ring({}, 0.0)

    assert ring.current.private_key not in repr(ring)


# Rotations, step by step


def ring_of(current: int, following: int = 0, previous: int = 0, promoted: float = 0.0) -> KeyRing:
    def key(generation: int, slot: int) -> OwnKey | None:
        return OwnKey(generation=generation, slot=slot, private_key="", made=0.0) if generation else None

    now = key(current, 0)
    assert now is not None
    return KeyRing(current=now, next=key(following, 1), previous=key(previous, 1), promoted=promoted)


def generations(ring: KeyRing) -> tuple[int, ...]:
    return tuple(key.generation for key in ring.keys)


def test_a_node_that_joins_takes_the_generation_that_others_send_by() -> None:
    ring = first_ring({"a": Announced(3), "b": Announced(4, 5)}, 0.0)

    assert generations(ring) == (4,)


def test_nothing_happens_unless_somebody_begins() -> None:
    ring = ring_of(3)

    assert advance(ring, {"a": Announced(3)}, {"a"}, 0.0) is ring


def test_a_rotation_begins_with_the_next_generation_on_the_other_slot() -> None:
    ring = advance(ring_of(3), {"a": Announced(3)}, {"a"}, 9.0, rotate=True)

    assert generations(ring) == (3, 4)
    assert ring.next is not None
    assert (ring.next.slot, ring.next.made) == (1, 9.0)
    assert ring.next.private_key


def test_a_newer_generation_of_another_node_is_followed() -> None:
    assert generations(advance(ring_of(3), {"a": Announced(3, 7)}, (), 0.0)) == (3, 7)
    assert generations(advance(ring_of(3), {"a": Announced(7)}, (), 0.0)) == (3, 7)


def test_the_next_key_becomes_the_current_one_when_all_others_are_reached_by_it() -> None:
    others = {"a": Announced(3, 4), "b": Announced(4)}

    assert generations(advance(ring_of(3, 4), others, {"a"}, 9.0)) == (3, 4)
    promoted = advance(ring_of(3, 4), others, {"a", "b"}, 9.0)

    assert (promoted.current.generation, promoted.previous and promoted.previous.generation) == (4, 3)
    assert promoted.promoted == 9.0


def test_the_old_key_goes_when_nobody_sends_by_it_and_nothing_is_on_its_way() -> None:
    ring = ring_of(4, previous=3, promoted=10.0)
    late = 10.0 + GRACE_SECONDS

    assert advance(ring, {"a": Announced(3, 4)}, {"a"}, late) is ring
    assert advance(ring, {"a": Announced(4)}, {"a"}, late - 0.1) is ring
    assert generations(advance(ring, {"a": Announced(4)}, {"a"}, late)) == (4,)


def test_a_node_alone_rotates_by_itself() -> None:
    ring = advance(ring_of(1), {}, (), 0.0, rotate=True)
    ring = advance(ring, {}, (), 1.0)
    ring = advance(ring, {}, (), 1.0 + GRACE_SECONDS)

    assert generations(ring) == (2,)


def test_a_next_key_that_nobody_else_has_is_given_up_for_a_newer_one() -> None:
    assert generations(advance(ring_of(3, 4), {"a": Announced(9)}, (), 0.0)) == (3, 9)
    assert generations(advance(ring_of(3, 4), {"a": Announced(9), "b": Announced(3, 4)}, (), 0.0)) == (3, 4)


# All orders of events


@dataclass
class Node:
    """One of several that rotate: what it has, what it knows of others, and which way it sends to each."""

    name: str
    ring: KeyRing
    known: dict[str, Announced] = field(default_factory=dict)
    ways: dict[str, int] = field(default_factory=dict)

    @property
    def announced(self) -> Announced:
        return Announced(self.ring.current.generation, self.ring.next.generation if self.ring.next else 0)

    def knows(self, other: Node, generation: int) -> bool:
        return generation in generations(self.ring) and generation in self.known.get(other.name, ())


class World:
    """Nodes and the events among them; `check` holds the promise of a rotation."""

    def __init__(self, starts: list[int]) -> None:
        self.nodes = [Node(str(number), ring_of(start)) for number, start in enumerate(starts)]
        self.now = 100.0

    def hear(self, hearer: Node, speaker: Node) -> None:
        hearer.known[speaker.name] = speaker.announced
        self.look(hearer)

    def step(self, node: Node, rotate: bool = False) -> None:
        newest = generations(node.ring)[-1]
        reached = {name for name, way in node.ways.items() if way == newest}
        node.ring = advance(node.ring, node.known, reached, self.now, rotate=rotate)
        self.look(node)

    def look(self, one: Node) -> None:
        """A node sees its sessions when it does something: there is one on each key that both know of each other."""
        for other in self.nodes:
            shared = [g for g in generations(one.ring) if one.knows(other, g) and other.knows(one, g)]
            if one is not other and shared:
                one.ways[other.name] = max(shared)

    def check(self) -> None:
        """Who is sent to by a generation has its key."""
        for one in self.nodes:
            for name, way in one.ways.items():
                assert way in generations(self.nodes[int(name)].ring), (
                    f"{one.name} loses what it sends to {name}"
                )

    def meet(self) -> None:
        """Everybody hears everybody."""
        for one in self.nodes:
            for other in self.nodes:
                if one is not other:
                    self.hear(one, other)

    def come_to_rest(self) -> None:
        for _ in range(12):
            self.now += GRACE_SECONDS + 1
            self.meet()
            for one in self.nodes:
                self.step(one)
                self.check()


@pytest.mark.parametrize("seeds", [range(start, start + 50) for start in range(0, 200, 50)], ids=str)
def test_in_whatever_order_nodes_hear_of_each_other_nothing_is_lost_and_all_end_with_one_key(
    seeds: range,
) -> None:
    """By plain chance: what Hypothesis draws hardly ever lets a node sleep as long as it takes to lose something."""
    for seed in seeds:
        chance = random.Random(seed)
        world = World([1] * chance.choice((2, 3, 4)))
        world.meet()
        world.meet()
        world.step(world.nodes[0], rotate=True)

        for _ in range(60):
            world.now += 1.5
            one, other = chance.choices(world.nodes, k=2)
            what = chance.choice(("hear", "hear", "step", "step", "rotate"))
            if what != "hear":
                world.step(one, rotate=what == "rotate")
            elif one is not other:
                world.hear(one, other)
            world.check()

        world.come_to_rest()
        rings = [generations(node.ring) for node in world.nodes]
        assert (len(set(rings)), len(rings[0])) == (1, 1), f"seed {seed} ends with {rings}"


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_nodes_that_were_apart_for_generations_find_a_common_one(starts: list[int]) -> None:
    world = World(starts)

    world.come_to_rest()

    assert {generations(node.ring) for node in world.nodes} == {(max(starts),)}
