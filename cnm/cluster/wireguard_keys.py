"""A node's WireGuard keys: made, kept in a file of mode 0600, and replaced without losing a packet.

WireGuard has one private key an interface, and an address belongs to one peer of it. Whoever changes the key of an
interface is not understood until the others give its address to the new key: of a stream of 1,000 packets a second, 0
to 3 were lost where they did so at once, 5 to 10 after 5 ms, 101 after 100 ms, and all while etcd is away. Hence a key
is never changed. Keys have generations, and each generation has an interface and a port of its own; for the time of a
rotation a node has two of them, and nothing is lost:

1. One node makes the key of the next generation, and announces it beside the current one. Whoever sees a generation
   that it lacks follows.
2. Every pair of nodes that both have the next generation shakes hands on it. As soon as that is done, each side by
   itself sends that way; both ways are listened at, so that it does not matter who is first.
3. A node that sends to all others by the next generation announces that one alone. It listens to the old one on.
4. When all others have announced that they do not send by the old generation any more, its key and interface go.

A node that nobody reaches is no obstacle once its old session is dead, and one that is away is not waited for: it
follows when it is back. Where etcd is away everything stays as it is. So a rotation of one is a rotation of all.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from cnm.errors import CnmError

SLOTS = (0, 1)
"""What tells the interfaces and ports of two generations apart."""
GRACE_SECONDS = 5.0
"""An old interface is kept at least so long after this node sends by the next: packets may be on their way."""


class OwnKey(msgspec.Struct, frozen=True, kw_only=True):
    generation: int
    slot: int
    private_key: str
    """Base64."""
    made: float
    """Seconds since the epoch."""

    def __repr__(self) -> str:
        return f"OwnKey(generation={self.generation}, slot={self.slot})"


class KeyRing(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node's keys: of `next` and `previous` there is at most one."""

    current: OwnKey
    next: OwnKey | None = None
    previous: OwnKey | None = None
    promoted: float = 0.0
    """When `current` became that; seconds since the epoch."""

    @property
    def keys(self) -> tuple[OwnKey, ...]:
        """The oldest generation first."""
        return tuple(key for key in (self.previous, self.current, self.next) if key is not None)


class Announced(NamedTuple):
    """The generations of another node that is alive and can encrypt; `next` 0 where it has none."""

    current: int
    next: int = 0


def generate_private_key() -> str:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()).decode()


def public_key(private_key: str) -> str:
    """Both base64. Raises ValueError for what is no key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    raw = base64.b64decode(private_key, validate=True)
    public = X25519PrivateKey.from_private_bytes(raw).public_key()
    return base64.b64encode(public.public_bytes_raw()).decode()


def first_ring(others: Mapping[str, Announced], now: float) -> KeyRing:
    """Of a node that joins: the newest generation that others send by, so that it is reached at once."""
    generation = max((other.current for other in others.values()), default=1)
    return KeyRing(current=_key(generation, SLOTS[0], now), promoted=now)


def advance(
    ring: KeyRing,
    others: Mapping[str, Announced],
    reached: Collection[str],
    now: float,
    *,
    rotate: bool = False,
) -> KeyRing:
    """The next step of a rotation, the same ring where there is none to make now.

    `others` are all nodes that are alive and can encrypt, by name; `reached` those among them that this node sends to
    by its newest generation; with `rotate` it begins a rotation by itself, unless one is going on.
    """
    newest = max((max(other) for other in others.values()), default=0)
    if ring.previous is not None:
        unused = all(other.current >= ring.current.generation for other in others.values())
        if not unused or now < ring.promoted + GRACE_SECONDS:
            return ring
        ring = KeyRing(current=ring.current, promoted=ring.promoted)
    if ring.next is not None:
        if newest > ring.next.generation and not any(
            ring.next.generation in other for other in others.values()
        ):
            return KeyRing(
                current=ring.current, next=_key(newest, ring.next.slot, now), promoted=ring.promoted
            )
        if others.keys() <= set(reached):
            return KeyRing(current=ring.next, previous=ring.current, promoted=now)
        return ring
    if rotate or newest > ring.current.generation:
        generation = max(newest, ring.current.generation + 1)
        return KeyRing(
            current=ring.current, next=_key(generation, 1 - ring.current.slot, now), promoted=ring.promoted
        )
    return ring


def load(path: str) -> KeyRing | None:
    """None where there is no file. Raises CnmError for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=KeyRing)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CnmError(f"WireGuard keys in {path} cannot be read: {(error.strerror or '').lower()}") from None
    except msgspec.DecodeError:
        raise CnmError(f"{path} holds no WireGuard keys: delete it, and new ones are made") from None


def save(path: str, ring: KeyRing) -> None:
    """All or nothing, on the disk when this returns: another key than the announced one reaches nobody."""
    interim = f"{path}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(interim)
        descriptor = os.open(interim, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(ring))
            file.flush()
            os.fsync(descriptor)
        os.rename(interim, path)
        _sync_directory(os.path.dirname(path) or ".")
    except OSError as error:
        raise CnmError(
            f"WireGuard keys cannot be written to {path}: {(error.strerror or '').lower()}"
        ) from None


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _key(generation: int, slot: int, now: float) -> OwnKey:
    return OwnKey(generation=generation, slot=slot, private_key=generate_private_key(), made=now)
