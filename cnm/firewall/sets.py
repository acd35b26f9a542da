"""The sets and maps of the two tables: everything about networks, endpoints and ports is an element of one of them.

No interval sets: they cost milliseconds a change. A missing element never opens anything; what happens instead, and a
test that takes each away in turn holds it to that:

    from            `forward` drops what comes from a bridge of ours
    to              every way to a bridge of ours ends in a drop
    icc             siblings are strangers (their bridged frames are seen under br_netfilter only)
    same            no neighbour discovery between siblings under br_netfilter; hairpin answers bypass the translation
    trusted         the interface is a stranger
    masq, snat*     containers leave with their own address
    publish*        the host's own socket gets the packet: reserved, not listening
    open*           to_nat and to_routed drop
    self*           a container does not reach its own published port
    routing         what is not ours is not forwarded
    loopback_nat    the host's own socket at [::1] gets the packet
    overlay_vnis    the other two sets still say what their VNI may; only one that is in none of them is not ours
    encrypted_vnis  `overlay_vnis` drops what no element allows in the clear
    clear_vnis      the same: the network counts as encrypted
    nodes*          the host is a stranger
    ports           `bridge cnm` drops what enters by a port of ours
    guard*          the frame counts as forged
"""

from __future__ import annotations

from cnm.kernel.state import ElementSet, FieldType

_IFNAME = FieldType.IFNAME
_IPV4 = FieldType.IPV4
_IPV6 = FieldType.IPV6
_ETHER = FieldType.ETHER
_PROTOCOL = FieldType.INET_PROTO
_PORT = FieldType.INET_SERVICE
_FAMILY = FieldType.NF_PROTO
_VERDICT = FieldType.VERDICT

FROM = ElementSet("inet", "from", (_FAMILY, _IFNAME), (_VERDICT,))
"""Family and bridge that a packet comes from: the chain of its gateway mode."""
TO = ElementSet("inet", "to", (_FAMILY, _IFNAME), (_VERDICT,))
"""Family and bridge that a packet goes to: the chain of its gateway mode."""
SAME = ElementSet("inet", "same", (_IFNAME, _IFNAME))
"""Every bridge twice: matches what stays in one network."""
ICC = ElementSet("inet", "icc", (_IFNAME, _IFNAME))
"""Twice every bridge whose containers may talk to each other."""
TRUSTED = ElementSet("inet", "trusted", (_IFNAME, _IFNAME))
"""Interface of the host, and the bridge whose containers it may reach at any port."""
MASQ = ElementSet("inet", "masq", (_FAMILY, _IFNAME))
"""Family and bridge of containers that leave with the address of the interface they leave by."""
SNAT4 = ElementSet("inet", "snat4", (_IFNAME,), (_IPV4,))
SNAT6 = ElementSet("inet", "snat6", (_IFNAME,), (_IPV6,))
"""Bridge, and the one address of the host that its containers leave with."""
PUBLISH4 = ElementSet("inet", "publish4", (_IPV4, _PROTOCOL, _PORT), (_IPV4, _PORT))
PUBLISH6 = ElementSet("inet", "publish6", (_IPV6, _PROTOCOL, _PORT), (_IPV6, _PORT))
"""Port of one host address, and the container's address and port."""
PUBLISH_ANY4 = ElementSet("inet", "publish_any4", (_PROTOCOL, _PORT), (_IPV4, _PORT))
PUBLISH_ANY6 = ElementSet("inet", "publish_any6", (_PROTOCOL, _PORT), (_IPV6, _PORT))
"""Port of every host address of the family, and the container's address and port."""
SELF4 = ElementSet("inet", "self4", (_IPV4, _IPV4))
SELF6 = ElementSet("inet", "self6", (_IPV6, _IPV6))
"""Container address twice: its own published port under br_netfilter, where no interface is known."""
OPEN4 = ElementSet("inet", "open4", (_IPV4, _PROTOCOL, _PORT))
OPEN6 = ElementSet("inet", "open6", (_IPV6, _PROTOCOL, _PORT))
"""Published port of a container, at the container's own address."""
ROUTING = ElementSet("inet", "routing", (_FAMILY,))
"""Families that this host forwarded before we came: packets that are not ours are not ours to judge."""
LOOPBACK_NAT = ElementSet("inet", "loopback_nat", (_FAMILY,))
"""IPv6 while br_netfilter leaves it alone: only then can [::1] be translated."""

OVERLAY_VNIS = ElementSet("inet", "overlay_vnis", (_PORT, FieldType.RAW24))
"""UDP port of the cluster's VXLAN and VNI of each of its networks; other VNIs at that port are other people's."""
ENCRYPTED_VNIS = ElementSet("inet", "encrypted_vnis", (_PORT, FieldType.RAW24))
"""Those of encrypted networks: they come and go by tunnels only."""
CLEAR_VNIS = ElementSet("inet", "clear_vnis", (_PORT, FieldType.RAW24))
"""The others: they are let in from nodes of the cluster."""
NODES4 = ElementSet("inet", "nodes4", (_IPV4,))
NODES6 = ElementSet("inet", "nodes6", (_IPV6,))
"""Addresses that nodes of the cluster send VXLAN from."""

PORTS = ElementSet("bridge", "ports", (_IFNAME,), (_VERDICT,))
"""Bridge port of an endpoint: `goto guard`, or `accept` where the guard is off."""
GUARD4 = ElementSet("bridge", "guard4", (_IFNAME, _ETHER, _IPV4))
GUARD6 = ElementSet("bridge", "guard6", (_IFNAME, _ETHER, _IPV6))
"""Bridge port and the MAC and source addresses that it may send with."""
GUARD_NA = ElementSet("bridge", "guard_na", (_IFNAME, _ETHER, FieldType.RAW128))
"""Bridge port, MAC, and the addresses that it may claim in neighbour advertisements."""

ELEMENT_SETS = (
    *(FROM, TO, SAME, ICC, TRUSTED, MASQ, SNAT4, SNAT6),
    *(PUBLISH4, PUBLISH6, PUBLISH_ANY4, PUBLISH_ANY6, SELF4, SELF6, OPEN4, OPEN6, ROUTING, LOOPBACK_NAT),
    *(OVERLAY_VNIS, ENCRYPTED_VNIS, CLEAR_VNIS, NODES4, NODES6),
    *(PORTS, GUARD4, GUARD6, GUARD_NA),
)
"""All of them, in the order of the ruleset."""
