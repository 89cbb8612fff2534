"""Scenarios are parsed, and texts that are not scenarios are refused."""

from __future__ import annotations

import json

import pytest

from couchdal.transcripts.scenario import parse_scenario

REQUEST = {"method": "GET", "path": "/a"}


def test_step_has_every_member_of_its_text() -> None:
    response = {"status": 200}
    step = {
        "request": REQUEST,
        "save": {"rev": "body._rev"},
        "wait_ms": 5,
        "ignore": ["body.a"],
        "unordered": ["body.b"],
    }
    scenario = parse_scenario(
        json.dumps({"name": "read", "steps": [{**step, "response": response}, {"request": REQUEST}]})
    )
    full, short = scenario.steps
    assert (scenario.name, full.request, full.save, full.response) == ("read", REQUEST, {"rev": "body._rev"}, response)
    assert (full.wait_ms, full.ignore, full.unordered) == (5, ("body.a",), ("body.b",))
    assert (short.save, short.wait_ms, short.ignore, short.unordered, short.response) == ({}, 0, (), (), None)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"name": "read"},
        {"name": 1, "steps": []},
        {"name": "read", "steps": {}},
        {"name": "read", "steps": [1]},
        {"name": "read", "steps": [{}]},
        {"name": "read", "steps": [], "create_query": "q=1"},
        *(
            {"name": "read", "steps": [{"request": REQUEST, **member}]}
            for member in (
                {"save": {"rev": 1}},
                {"wait_ms": "5"},
                {"ignore": "body"},
                {"unordered": [1]},
                {"response": 1},
            )
        ),
    ],
)
def test_other_text_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a scenario"):
        parse_scenario(json.dumps(document))
