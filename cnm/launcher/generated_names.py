"""Names for containers that were given none: an adjective and somebody who made networks or computing what they are."""

from __future__ import annotations

import secrets

_LEFT = (
    *("able", "agile", "amber", "ardent", "brave", "bright", "brisk", "calm", "candid", "clever", "cosmic", "crisp"),
    *("daring", "deft", "eager", "earnest", "fair", "fleet", "fond", "frank", "gentle", "glad", "golden", "grand"),
    *("happy", "hardy", "honest", "humble", "ideal", "jolly", "keen", "kind", "lively", "loyal", "lucid", "mellow"),
    *("merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "polite", "prime", "proud", "quick"),
    *("quiet", "ready", "robust", "serene", "sharp", "silent", "sober", "solid", "steady", "sunny", "swift", "tidy"),
    *("tough", "upbeat", "vivid", "warm", "wise", "witty", "young", "zesty"),
)
_RIGHT = (
    *("abramson", "baran", "bartik", "bellman", "boggs", "boole", "borg", "bush", "cerf", "church", "clark", "cray"),
    *("dahl", "davies", "dijkstra", "eckert", "engelbart", "estrin", "feinler", "floyd", "goldberg", "gray", "hamming"),
    *("hoare", "holberton", "hopper", "iverson", "jacobson", "jennings", "kahn", "karels", "keldysh", "kernighan"),
    *("kleinrock", "knuth", "lamport", "lamarr", "leibniz", "licklider", "liskov", "lovelace", "mauchly", "mccarthy"),
    *("metcalfe", "milner", "minsky", "mockapetris", "morse", "naur", "neumann", "noether", "nygaard", "pascal"),
    *("perlis", "perlman", "pnueli", "pouzin", "postel", "rado", "ritchie", "roberts", "sammet", "scott", "shannon"),
    *("stibitz", "sutherland", "tarjan", "thompson", "torvalds", "turing", "wilkes", "wirth", "yao", "zimmermann"),
    "zuse",
)


def generated_name(attempt: int) -> str:
    """As `swift_hopper`; with a digit behind it when the first tries were taken."""
    name = f"{secrets.choice(_LEFT)}_{secrets.choice(_RIGHT)}"
    return f"{name}{secrets.randbelow(10)}" if attempt > 5 else name
