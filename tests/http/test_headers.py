"""Rules about headers."""

from __future__ import annotations

import pytest

from couchdal.http.headers import (
    FRAMING,
    HOP_BY_HOP,
    effective_method,
    has_control_character,
    mask_sessions,
    without_control_characters,
)


def test_all_lists_are_lower_case() -> None:
    assert FRAMING < HOP_BY_HOP
    assert all(name == name.lower() for name in HOP_BY_HOP)


@pytest.mark.parametrize(
    ("method", "override", "effective"),
    [
        ("POST", "PUT", "PUT"),
        ("POST", "COPY", "COPY"),
        ("POST", "put", "POST"),
        ("POST", "PATCH", "POST"),
        ("POST", None, "POST"),
        ("GET", "DELETE", "GET"),
    ],
)
def test_only_a_post_may_name_another_method(method: str, override: str | None, effective: str) -> None:
    headers = {} if override is None else {"x-http-method-override": override}
    assert effective_method(method, headers) == effective


def test_control_characters_are_found_and_replaced() -> None:
    assert has_control_character("a\r\nb")
    assert not has_control_character("a\tb")
    assert without_control_characters("a\r\nb\tc\x7f") == "a  b\tc "


def test_sessions_are_masked() -> None:
    assert mask_sessions("'cookie': 'AuthSession=abc; x=1'") == "'cookie': 'AuthSession=***; x=1'"
