"""GET /events: the past on request, the present without gaps, and an end where one is asked for."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from cnm.events import Event
from tests.unit.api_client import Api


def _told(api: Api, query: str) -> list[dict[str, Any]]:
    response = api.http.get(f"/events?{query}")
    assert response.status_code == 200
    return [json.loads(line) for line in response.data.splitlines()]


def _now() -> str:
    return f"{time.time():.9f}"


def test_the_past_is_told_from_the_time_asked() -> None:
    api = Api()
    api.network("early")
    since = _now()
    api.network("late")

    told = _told(api, f"since={since}&until={_now()}")

    assert [(event["Type"], event["Action"], event["Actor"]["Attributes"]["name"]) for event in told] == [
        ("network", "create", "late")
    ]


def test_without_a_beginning_the_past_is_not_told() -> None:
    api = Api()
    api.network("early")

    assert _told(api, f"until={_now()}") == []


def test_what_happens_after_the_end_is_not_told() -> None:
    api = Api()
    api.network("early")
    until = _now()
    api.network("late")

    assert [event["Actor"]["Attributes"]["name"] for event in _told(api, f"since=0&until={until}")] == [
        "early"
    ]


def test_what_happens_between_subscription_and_look_back_is_told_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = Api()
    remembered = api.backend.past_events

    def busy(since: int = 0) -> list[Event]:
        api.backend.bus.publish("network", "create", "4", name="meanwhile")
        return remembered(since)

    monkeypatch.setattr(api.backend, "past_events", busy)

    told = _told(api, f"since=0&until={time.time() + 0.2:.9f}")

    assert [event["Actor"]["Attributes"]["name"] for event in told] == ["meanwhile"]


def test_events_are_filtered() -> None:
    api = Api()
    api.network("web")
    api.sandbox("app")
    api.post("/networks/web/connect", {"Container": "app"})

    told = _told(api, f'since=0&until={_now()}&filters={{"type":["network"],"event":["connect"]}}')

    assert [(event["Action"], event["Actor"]["Attributes"]["type"]) for event in told] == [
        ("connect", "bridge")
    ]


@pytest.mark.parametrize("query", ["since=soon", "until=later", 'filters={"colour":["red"]}', "filters=7"])
def test_malformed_questions_are_refused(query: str) -> None:
    assert Api().get(f"/events?{query}").status == 400


def test_a_finished_stream_leaves_no_subscription() -> None:
    api = Api()

    _told(api, f"since=0&until={_now()}")

    assert not api.backend.bus._listeners


def test_head_tells_the_type_and_ends() -> None:
    api = Api()

    response = api.http.head("/events")

    assert response.content_type == "application/json"
    assert not api.backend.bus._listeners
