"""Percent-encoding, compared with urllib where both follow one rule."""

from __future__ import annotations

from urllib.parse import quote as urllib_quote, unquote as urllib_unquote, unquote_plus

import pytest

from couchdal.errors import BadRequest
from couchdal.http.urls import (
    check_encoding,
    parse_query,
    quote,
    quote_like_couchdb,
    quote_path,
    quote_unsendable,
    split_path,
    unquote,
    unquote_form,
    unquote_userinfo,
)

TEXTS = ["", "a", "a b", "a+b", "ä/ö", "100%", "%41", "a%2Fb", "~:_.-", "%zz%", "\U0001f600", "%ff%41", "a;b&c=d"]


@pytest.mark.parametrize("text", TEXTS)
def test_quote_is_that_of_urllib_and_unquote_its_reverse(text: str) -> None:
    assert quote(text) == urllib_quote(text, safe="")
    assert unquote(quote(text)) == text


@pytest.mark.parametrize(("segment", "quoted"), [(".", "%2E"), ("..", "%2E%2E"), ("...", "..."), ("a.", "a.")])
def test_quote_escapes_dot_segments(segment: str, quoted: str) -> None:
    assert quote(segment) == quoted


def test_quote_keeps_bytes_that_are_not_utf8() -> None:
    assert quote("a\udcff", "surrogateescape") == "a%FF"
    with pytest.raises(UnicodeEncodeError):
        quote("a\udcff")


@pytest.mark.parametrize("text", TEXTS)
def test_quote_like_couchdb_keeps_colons_and_escapes_tildes(text: str) -> None:
    assert quote_like_couchdb(text) == urllib_quote(text, safe=":").replace("~", "%7E")


def test_quote_path_keeps_slashes() -> None:
    assert quote_path("/a b/ä/") == "/a%20b/%C3%A4/"


def test_quote_unsendable_keeps_what_a_request_line_can_carry() -> None:
    assert quote_unsendable("/a b#ä%2F?x=\"'\n") == "/a%20b%23%C3%A4%2F?x=\"'%0A"


@pytest.mark.parametrize("text", TEXTS)
def test_unquote_form_is_that_of_urllib(text: str) -> None:
    assert unquote_form(text) == unquote_plus(text, errors="surrogateescape")
    assert unquote_form(text, "replace") == unquote_plus(text)
    assert unquote_userinfo(text) == urllib_unquote(text)


@pytest.mark.parametrize("text", ["%", "%4", "%zz", "a%4gb", "%41%"])
def test_bad_escape_is_a_bad_request(text: str) -> None:
    for decode in (check_encoding, unquote, split_path, parse_query):
        with pytest.raises(BadRequest, match="invalid_url_encoding"):
            decode(text)


def test_split_path_drops_empty_segments_and_decodes_after_splitting() -> None:
    assert split_path("//db/a%2Fb/c+d/") == ["db", "a/b", "c d"]
    assert split_path("/") == []


def test_parse_query_keeps_order_and_repeated_names() -> None:
    assert parse_query("a=1&b=%22x%22;a=2&&c&d=e=f") == [("a", "1"), ("b", '"x"'), ("a", "2"), ("c", ""), ("d", "e=f")]
