"""`cnmctl search`: repositories of Docker Hub, or of another registry."""

from __future__ import annotations

from cnm.cli import registry_logins
from cnm.cli.client import Client, filters
from cnm.cli.flags import BOOLEAN, FILTER, INTEGER, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.output import LIST_FORMAT, Listing

_HEADINGS = {
    "Description": "DESCRIPTION",
    "IsAutomated": "AUTOMATED",
    "IsOfficial": "OFFICIAL",
    "Name": "NAME",
    "StarCount": "STARS",
}
_WIDTH = 45


def search(client: Client, arguments: Arguments) -> int:
    term = arguments.operands[0]
    query = {"term": term, **filters(arguments["filter"])}
    if "limit" in arguments.given:
        query["limit"] = str(arguments["limit"])
    found = launcher(client).request(
        "GET", "/images/search", query=query, headers=registry_logins.headers(term)
    )
    rows = [
        {
            "Name": each["name"],
            "Description": _short(each["description"], arguments["no-trunc"]),
            "StarCount": str(each["star_count"]),
            "IsOfficial": "[OK]" if each["is_official"] else "",
            "IsAutomated": "[OK]" if each["is_automated"] else "",
        }
        for each in sorted(found or (), key=lambda each: -each["star_count"])
    ]
    columns = ("Name", "Description", "StarCount", "IsOfficial")
    return Listing("*formatter.searchContext", columns, _HEADINGS, quiet="Name").show(rows, arguments)


def _short(description: str, whole: bool) -> str:
    text = description.replace("\n", " ").replace("\r", "")
    return text if whole or len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


SEARCH = Command(
    "search",
    "Look for images: on Docker Hub, or in another registry where HOST[:PORT]/ comes before the term",
    search,
    "TERM",
    (
        Flag("filter", FILTER, 'Show only what matches NAME=VALUE (e.g. "is-official=true")', "f"),
        LIST_FORMAT,
        Flag("limit", INTEGER, "Show at most so many, 1 to 100"),
        Flag("no-trunc", BOOLEAN, "Do not shorten the output"),
    ),
)
