"""Names of a network that are no endpoint's: somebody adds them, and the resolver answers them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

import msgspec

from cnm import clustered
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound
from cnm.naming import is_nameable
from cnm.network import NameRecord, Network, Owner
from cnm.resources import Resources

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_LONGEST = 253
"""Characters of a name (RFC 1035: 255 bytes with lengths)."""
_MOST = 1000
"""Records of a network: all of them are told the resolver at once."""


class RecordVerbs:
    """Takes the network's lock itself; callers hold `locks.verbs` shared."""

    def __init__(self, resources: Resources) -> None:
        self._r = resources

    def add(self, network_ref: str, name: str, value: str) -> NameRecord:
        """Raises Conflict for a record that is there, or cannot stand beside those that are."""
        record = _record(name, value)

        def added(network: Network) -> tuple[NameRecord, ...]:
            _check_beside(network, record)
            return (*network.records, record)

        self._change(network_ref, added)
        return record

    def remove(self, network_ref: str, name: str, value: str = "") -> None:
        """All records of the name, or the one with this value. Raises NotFound where there is none."""
        wanted = name.lower().rstrip(".")
        kept_value = _record(name, value).value if value else ""

        def removed(network: Network) -> tuple[NameRecord, ...]:
            going = [r for r in network.records if r.name == wanted and kept_value in ("", r.value)]
            if not going:
                what = f"{wanted} with value {value}" if value else wanted
                raise NotFound(f"network {network.name} has no record {what}: cnmctl dns ls {network.name}")
            return tuple(r for r in network.records if r not in going)

        self._change(network_ref, removed)

    def _known(self, network_ref: str) -> Network:
        network = self._r.model.network(network_ref)
        if network.owner is not Owner.CNM:
            raise Forbidden(f"network {network.name} is dockerd's, which answers its names itself")
        if not is_nameable(network):
            raise InvalidParameter(f"names are known on user-defined networks only, not on {network.name}")
        return network

    def _change(self, network_ref: str, change: Callable[[Network], tuple[NameRecord, ...]]) -> None:
        """`change` is asked for the records that a network is to have, where others change them too more than once."""
        with self._r.locks.network(self._known(network_ref).id).exclusive():
            network = self._known(network_ref)
            records = clustered.change_records(self._r, network, change)
            changed = msgspec.structs.replace(network, records=records)
            self._r.store.commit(put=[changed], durable=True)
            self._r.model.replace(changed)
            self._r.naming.records_changed(changed)


def _record(name: str, value: str) -> NameRecord:
    """Raises InvalidParameter naming what is no name, or neither an address nor a name."""
    checked = _checked(name, wildcard=True)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return NameRecord(name=checked, kind="CNAME", value=_checked(value))
    if "%" in value:
        raise InvalidParameter(f"invalid address {value!r}: a zone means nothing elsewhere")
    return NameRecord(name=checked, kind="AAAA" if address.version == 6 else "A", value=str(address))


def _checked(text: str, *, wildcard: bool = False) -> str:
    name = text.lower().rstrip(".")
    labels = (name.removeprefix("*.") if wildcard else name).split(".")
    if len(name) > _LONGEST or not all(_LABEL.match(label) for label in labels):
        raise InvalidParameter(f"invalid name {text[:80]!r}: letters, digits and hyphens between dots")
    return name


def _check_beside(network: Network, record: NameRecord) -> None:
    same = [other for other in network.records if other.name == record.name]
    if record in same:
        raise Conflict(f"network {network.name} has this record already: {record.name} {record.value}")
    alone = [other for other in same if "CNAME" in (other.kind, record.kind)]
    if alone:
        raise Conflict(
            f"{record.name} is {alone[0].value} on network {network.name} already, and a name that stands for another "
            f"has nothing else: cnmctl dns rm {network.name} {record.name}"
        )
    if len(network.records) >= _MOST:
        raise Conflict(f"network {network.name} has {_MOST} records already")
