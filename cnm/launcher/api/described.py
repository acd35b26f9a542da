"""What the launcher serves of Docker's API, for docs/launcher.md: `python -m cnm.launcher.api.described`."""

from __future__ import annotations

from cnm.api.routes import Route
from cnm.launcher.api.app import declared_routes

_REFUSES = "Always "
"""How the descriptions of requests begin that only say why they are not served."""


def text() -> str:
    """Markdown: a row for what is served, and a line for each reason that requests are refused for."""
    served: dict[tuple[str, str], list[str]] = {}
    refused: dict[str, list[str]] = {}
    for route in declared_routes():
        said = _description(route)
        request = f"`{route.name}`"
        if said.startswith(_REFUSES):
            refused.setdefault(said.removeprefix(_REFUSES), []).append(request)
        else:
            served.setdefault((said, _parameters(route)), []).append(request)
    head = ["| request | what it does | query |", "|---|---|---|"]
    rows = [f"| {', '.join(requests)} | {said} | {query} |" for (said, query), requests in served.items()]
    lines = [f"- **{reason}**: {', '.join(requests)}" for reason, requests in refused.items()]
    return "\n".join([*head, *rows, "", "Refused:", "", *lines, ""])


def _description(route: Route) -> str:
    return (route.handler.__doc__ or "").partition("\n\n")[0].strip().rstrip(".")


def _parameters(route: Route) -> str:
    return ", ".join(f"`{name}`" for name in route.query or ())


if __name__ == "__main__":
    print(text(), end="")
