"""The constant rules of our two nftables tables, `inet cnm` and `bridge cnm`, and the text that (re)writes them whole.

The number of chains and rules never changes: networks, endpoints and ports are elements of the sets in
`cnm.firewall.sets`. Anti-spoofing inside a bridge never passes the inet hooks, hence the second table.

What was weighed and not taken:
- `goto` from a base chain never comes back, so each `from` chain looks up `to` itself.
- `ct status != dnat` compares the whole bit field and is always true: the positive test comes first instead.
- Whether a packet stays on the bridge that it came from: a set of "br . br" elements would open where one is
  missing, and `fib daddr . iif oif exists` misses frames sent to a sibling's MAC with an address that is not its own
  (they are seen here under br_netfilter). So the packet writes the pair itself, and the next rule looks it up.
- Only a set of encrypted VNIs: without one of its elements, cleartext would pass. So every VNI of ours is in two sets,
  and one that nothing allows in the clear is dropped. The port is part of the key for the same reason.
"""

from __future__ import annotations

import re
import socket
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from cnm.firewall.sets import CLEAR_VNIS, ELEMENT_SETS, ENCRYPTED_VNIS, GUARD_NA, OVERLAY_VNIS
from cnm.kernel.nft import ADMIN_CHAIN
from cnm.kernel.nft_elements import TABLE
from cnm.kernel.state import ElementSet, FieldType, FirewallElement, Group

_INET_CHAINS = """
# The administrator's own rules come first; never flushed. `accept` here ends our filter, `drop` is final.
chain admin {
}

chain raw {
    type filter hook prerouting priority raw; policy accept;
    udp dport . @th,96,24 @clear_vnis goto overlay_clear
    udp dport . @th,96,24 @encrypted_vnis goto overlay_closed
    udp dport . @th,96,24 @overlay_vnis goto overlay_closed
    goto loopback
}

# VXLAN of the cluster's networks. Its socket listens at every address of the host, so that cleartext of an encrypted
# network, and frames of strangers, would be taken in. The VNI is 96 bits behind the start of the UDP header. What is
# in clear between nodes is not tracked: that costs each packet, and nobody translates it.
chain overlay_clear {
    ip saddr @nodes4 notrack accept
    ip6 saddr @nodes6 notrack accept
    goto overlay_closed
}
chain overlay_closed {
    iifgroup $TUNNEL accept
    fib daddr type { local, broadcast, multicast } counter drop
    goto loopback
}

# Loopback addresses mean this host alone. Answers still carry the bridge's address here, so they pass.
chain loopback {
    # loopback0 is the second loopback of WSL2's mirrored mode.
    ip daddr 127.0.0.0/8 iifname != { "lo", "loopback0" } counter drop
    ip6 daddr ::1 iifname != { "lo", "loopback0" } counter drop
    ip saddr 127.0.0.0/8 iifgroup $BRIDGE counter drop
    ip6 saddr ::1 iifgroup $BRIDGE counter drop
}

chain prerouting {
    type nat hook prerouting priority dstnat - 1; policy accept;
    fib daddr type local jump publish
}
chain output {
    type nat hook output priority -101; policy accept;
    # NATed under br_netfilter, the answer to ::1 would be lost: the host's own socket takes the connection.
    ip6 daddr ::1 meta nfproto != @loopback_nat accept
    fib daddr type local jump publish
}
# Passed by the first packet of a flow only.
chain publish {
    dnat ip to ip daddr . meta l4proto . th dport map @publish4
    dnat ip6 to ip6 daddr . meta l4proto . th dport map @publish6
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @publish_any4
    # A link-local source means nothing on the container's link.
    ip6 saddr != fe80::/10 dnat ip6 to meta l4proto . th dport map @publish_any6
}

# Networks differ in their MTU, and the path beyond them: what is too big may never be reported.
chain mss {
    type filter hook forward priority mangle; policy accept;
    iifgroup $BRIDGE tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
    oifgroup $BRIDGE tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
}

# Ahead of other people's filters by one, so that `admin` is asked first.
chain forward {
    type filter hook forward priority filter - 1; policy accept;
    jump admin
    ct state established,related accept
    # Siblings of a network without ICC answer each other's published ports directly under br_netfilter.
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } iifname . oifname @same accept
    meta nfproto . iifname vmap @from
    iifgroup $BRIDGE counter drop
    meta nfproto . oifname vmap @to
    oifgroup $BRIDGE counter drop
    # From here on nothing is ours. Where we switched forwarding on, the host must not become a router for others.
    meta nfproto @routing accept
    # Bridged by somebody else's bridge, not forwarded, and here only for br_netfilter.
    meta iifkind "bridge" update @itself { iifname . iifname }
    iifname . oifname @itself accept
    counter drop
}

chain from_nat {
    # Out of the connection tracking's window: it would leave with the container's own address.
    ct state invalid counter drop
    meta nfproto . oifname vmap @to
    oifgroup $BRIDGE counter drop
    accept
}
chain from_internal {
    iifname . oifname @icc accept
    counter drop
}

# A packet sent straight to a container's address was not translated: published ports are reached through the host.
chain to_nat {
    iifname . oifname @icc accept
    ct status dnat ip daddr . meta l4proto . th dport @open4 accept
    ct status dnat ip6 daddr . meta l4proto . th dport @open6 accept
    iifname . oifname @trusted accept
    counter drop
}
chain to_routed {
    iifname . oifname @icc accept
    iifgroup $BRIDGE jump siblings
    ip daddr . meta l4proto . th dport @open4 accept
    ip6 daddr . meta l4proto . th dport @open6 accept
    meta l4proto { icmp, ipv6-icmp } accept
    iifname . oifname @trusted accept
    counter drop
}
chain to_open {
    iifname . oifname @icc accept
    iifgroup $BRIDGE jump siblings
    accept
}
chain to_internal {
    iifname . oifname @icc accept
    counter drop
}
# Between two containers of ours without ICC: returns only if they are on different networks.
chain siblings {
    update @itself { iifname . iifname } goto compare
    counter drop
}
chain compare {
    iifname . oifname != @itself return
    ct status dnat accept
    counter drop
}

chain postrouting {
    type nat hook postrouting priority srcnat - 1; policy accept;
    # Hairpin: a container's answer to its sibling, or to itself, has to come back through here.
    ct status dnat iifname . oifname @same masquerade
    # The same under br_netfilter, where a bridged packet has no incoming interface any more.
    ip saddr . ip daddr @self4 masquerade
    ip6 saddr . ip6 daddr @self6 masquerade
    iifname . oifname @same accept
    # The host's own loopback to a published port.
    ip saddr 127.0.0.0/8 oifgroup $BRIDGE masquerade
    ip6 saddr ::1 oifgroup $BRIDGE masquerade
    snat ip to iifname map @snat4
    snat ip6 to iifname map @snat6
    meta nfproto . iifname @masq masquerade
}

chain leaving {
    type filter hook output priority raw; policy accept;
    udp dport . @th,96,24 @clear_vnis notrack accept
    # Hairpin makes the kernel tell containers of a shorter way, which there is not; IPv6 has no sysctl against it.
    oifgroup $BRIDGE icmp type redirect drop
    oifgroup $BRIDGE icmpv6 type nd-redirect drop
    oifgroup $TUNNEL accept
    udp dport . @th,96,24 @encrypted_vnis counter drop
    udp dport . @th,96,24 @overlay_vnis counter drop
}
"""

_BRIDGE_CHAINS = """
chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname vmap @ports
    iifgroup $PORT counter drop
    # Left by a container of dockerd's, and not deleted yet.
    iifgroup { $LEFT, $REAP } counter drop
}
chain guard {
    # A tag is stripped before this hook, so that addresses would be compared with those of the frame inside.
    ether type { 8021q, 8021ad } counter drop
    # 0.0.0.0 is among the elements for ARP probes; as a source of IPv4 nobody needs it.
    ip saddr != 0.0.0.0 iifname . ether saddr . ip saddr @guard4 accept
    iifname . ether saddr . ip6 saddr @guard6 goto guard_ip6
    ether type arp iifname . ether saddr . arp saddr ip @guard4 iifname . arp saddr ether . arp saddr ip @guard4 accept
    counter drop
}
chain guard_ip6 {
    icmpv6 type { nd-router-advert, nd-redirect } counter drop
    icmpv6 type nd-neighbor-advert goto guard_na
    # The unspecified address is for duplicate address detection and the reports that go with it.
    ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld2-listener-report } accept
    ip6 saddr :: counter drop
    accept
}
chain guard_na {
    # The target address, by offset: nft 1.0.6 has no name for it.
    iifname . ether saddr . @th,64,128 @guard_na accept
    counter drop
}
"""

_ITSELF = """
# "br . br", written by packets of that bridge: what `iifname . oifname` is compared with. Not for elements of ours.
set itself {
    type ifname . ifname
    size 65536
    flags dynamic,timeout
    timeout 1m
}
"""

_FORMER_CHAINS = ("redirects", "overlay_in", "overlay_out", "overlay_nodes")
_CHAINS = {"inet": _INET_CHAINS, "bridge": _BRIDGE_CHAINS}
_MORE_SETS = {"inet": _ITSELF, "bridge": ""}
_CHAIN_NAME = re.compile(r"^chain (\w+)", re.MULTILINE)
_BASE_CHAIN = re.compile(r"^chain (\w+) \{\n(?:    #.*\n)*    (type .*)", re.MULTILINE)


def start_text(elements: Iterable[FirewallElement]) -> str:
    """A script for nft(8), one transaction: our tables with exactly `elements`; the `admin` chain keeps its rules.

    There is no moment without a firewall: everything is flushed and written anew before packets see any of it.
    """
    by_set: dict[ElementSet, list[FirewallElement]] = defaultdict(list)
    for element in elements:
        by_set[element.set].append(element)
    parts = [_skeleton(family) + _flushes(family) for family in _CHAINS] + [_without_former()]
    parts += [f"table {family} {TABLE} {{\n{_substitute(text)}}}\n" for family, text in _CHAINS.items()]
    parts += [
        _additions(element_set, by_set[element_set]) for element_set in ELEMENT_SETS if by_set[element_set]
    ]
    return "".join(parts)


def _skeleton(family: str) -> str:
    """Sets and chains without rules: flushing needs them to exist, and adding one that exists changes nothing."""
    headers = dict(_BASE_CHAIN.findall(_CHAINS[family]))
    chains = "".join(f"chain {name} {{ {headers.get(name, '')} }}\n" for name in _chain_names(family))
    sets = "".join(_declaration(s) for s in ELEMENT_SETS if s.family == family)
    return f"table {family} {TABLE} {{\n{sets}{_MORE_SETS[family]}{chains}}}\n"


_TYPEOF = {GUARD_NA: "typeof iifname . ether saddr . @th,64,128"} | dict.fromkeys(
    (OVERLAY_VNIS, ENCRYPTED_VNIS, CLEAR_VNIS), "typeof udp dport . @th,96,24"
)
"""Of sets with raw fields, which nft 1.0.6 has no type for."""


def _declaration(element_set: ElementSet) -> str:
    key = " . ".join(t.value for t in element_set.key)
    if not element_set.is_map:
        kind = _TYPEOF.get(element_set, f"type {key}")
        return f"set {element_set.name} {{ {kind}; }}\n"
    value = " . ".join(t.value for t in element_set.value)
    return f"map {element_set.name} {{ type {key} : {value}; }}\n"


def _flushes(family: str) -> str:
    chains = [
        f"flush chain {family} {TABLE} {name}\n" for name in _chain_names(family) if name != ADMIN_CHAIN
    ]
    sets = [
        f"flush {'map' if s.is_map else 'set'} {family} {TABLE} {s.name}\n"
        for s in ELEMENT_SETS
        if s.family == family
    ]
    return "".join(chains + sets)


def _without_former() -> str:
    """Chains that earlier versions of cnm had."""
    return "".join(
        f"add chain inet {TABLE} {name}\nflush chain inet {TABLE} {name}\ndelete chain inet {TABLE} {name}\n"
        for name in _FORMER_CHAINS
    )


def _chain_names(family: str) -> list[str]:
    return _CHAIN_NAME.findall(_CHAINS[family])


def _substitute(text: str) -> str:
    return (
        text.replace("$BRIDGE", str(int(Group.BRIDGE)))
        .replace("$PORT", str(int(Group.PORT)))
        .replace("$LEFT", str(int(Group.LEFT)))
        .replace("$REAP", str(int(Group.REAP)))
        .replace("$TUNNEL", str(int(Group.TUNNEL)))
    )


def _additions(element_set: ElementSet, elements: Sequence[FirewallElement]) -> str:
    listed = ",\n".join(_element(element) for element in elements)
    return f"add element {element_set.family} {TABLE} {element_set.name} {{\n{listed}\n}}\n"


def _element(element: FirewallElement) -> str:
    key = _fields(element.set.key, element.key)
    return f"{key} : {_fields(element.set.value, element.value)}" if element.value else key


def _fields(types: Sequence[FieldType], values: Sequence[str | int]) -> str:
    return " . ".join(_FIELDS.get(kind, str)(value) for kind, value in zip(types, values, strict=True))


def _quoted(name: str | int) -> str:
    return f'"{name}"'


def _hexadecimal(address: str | int) -> str:
    return "0x" + socket.inet_pton(socket.AF_INET6, str(address)).hex()


_FIELDS: dict[FieldType, Callable[[str | int], str]] = {
    FieldType.IFNAME: _quoted,
    FieldType.RAW128: _hexadecimal,
    FieldType.RAW24: lambda number: hex(int(number)),
}
