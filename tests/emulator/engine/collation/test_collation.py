"""The order of JSON values, with the system's ICU and with the bundled table, checked against CouchDB's answers."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from couchdal.emulator.engine.collation import collation, icu
from couchdal.emulator.engine.collation.collation import compare_json, compare_strings, json_key
from couchdal.emulator.engine.collation.icu import find_icu
from couchdal.emulator.engine.collation.root_collation import load_collator

RECORDED = Path(__file__).parents[3] / "parity/transcripts/collation"
SortKey = Callable[[str], bytes]

ICU = find_icu()
TABLE_NAME, TABLE_VERSION, TABLE = load_collator()
# ICU 70 to 72 implement the table's version of Unicode or the next one. The table contains the corrections of the next.
ICU_VERSION = int(re.sub(r"\D", "", ICU[0]) or 0) if ICU else 0


@pytest.fixture(params=["ICU", "the bundled table"])
def collator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sort all strings with one of the two collators."""
    if request.param == "ICU" and ICU is None:
        pytest.skip("this system has no ICU")
    if request.param != "ICU":
        monkeypatch.setattr(icu, "find_icu", lambda: None)
    monkeypatch.setattr(collation, "_kept", None)
    monkeypatch.setattr(collation, "_keys", {})
    return str(request.param)


def recorded_keys() -> Iterator[tuple[str, bool, list[Any]]]:
    """Yield the name of each recorded view query, True for a descending one, and the keys in the order of the rows."""
    for file in sorted(RECORDED.glob("*.json")):
        for number, step in enumerate(json.loads(file.read_text("utf-8"))["steps"]):
            request, body = step["request"], step["response"].get("body")
            query = request.get("query", {})
            # Other rows have another order: _all_docs by id, raw views by Erlang's terms, keys by the request.
            ordered = "/_view/" in request["path"] and "raw" not in file.name and "keys" not in query
            if ordered and isinstance(body, dict) and len(body.get("rows", ())) > 1:
                keys = [row["key"] for row in body["rows"] if "key" in row]
                yield f"{file.stem}/{number}", query.get("descending") == "true", keys


RECORDED_KEYS = list(recorded_keys())


@pytest.mark.usefixtures("collator")
@pytest.mark.parametrize(
    ("descending", "keys"), [row[1:] for row in RECORDED_KEYS], ids=[row[0] for row in RECORDED_KEYS]
)
def test_recorded_rows_are_in_order(descending: bool, keys: list[Any]) -> None:
    for one, other in pairwise(reversed(keys) if descending else keys):
        assert compare_json(one, other) <= 0, (one, other)


@pytest.mark.usefixtures("collator")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e\u0301"),
        ("\uac00", "\u1100\u1161"),
        ("K", "\u212a"),
        ("a\u200db", "ab"),
        ("a\0", "a"),
        ("\u0344", "\u0308\u0301"),
    ],
)
def test_different_strings_can_be_equal(one: str, other: str) -> None:
    assert compare_strings(one, other) == 0
    assert compare_json([one], [other]) == 0


@pytest.mark.usefixtures("collator")
def test_strings_sort_in_this_order() -> None:
    # Punctuation counts. Lower case comes first. Accents sort before the next letter, Thai vowels after consonants.
    ordered = [
        "",
        " ",
        "_",
        "-",
        ",",
        "$",
        "0",
        "9",
        "a",
        "A",
        "á",
        "a b",
        "a-b",
        "ab",
        "aB",
        "Ab",
        "z",
        "я",
        "\u0e01",
        "เก",
        "一",
    ]
    for at, one in enumerate(ordered):
        for other in ordered[at + 1 :]:
            assert compare_strings(one, other) < 0, (one, other)
            assert compare_strings(other, one) > 0


def test_collator_name_names_the_collation_in_use() -> None:
    assert collation.collator_name() == (ICU[0] if ICU else TABLE_NAME)


@pytest.mark.usefixtures("collator")
def test_time_for_a_text_of_sequences_is_linear() -> None:
    text = "เก" * 200_000
    assert compare_strings(text, text + "a") < 0


SCRIPTS = {
    "Latin": (0x20, 0x250),
    "Latin, composed": (0x1E00, 0x1F00),
    "Greek": (0x370, 0x400),
    "Cyrillic": (0x400, 0x530),
    "Hebrew": (0x591, 0x5F5),
    "Arabic": (0x600, 0x700),
    "Devanagari": (0x900, 0x980),
    "Thai": (0xE00, 0xE60),
    "Lao": (0xE80, 0xEE0),
    "Tibetan": (0xF00, 0xF70),
    "Hangul letters": (0x1100, 0x1200),
    "Hangul": (0xAC00, 0xD7A4),
    "kana": (0x3041, 0x3100),
    "half and full width": (0xFF01, 0xFFEF),
    "CJK": (0x4E00, 0xA000),
    "CJK, rare": (0x20000, 0x2A6D7),
    "symbols": (0x2000, 0x2C00),
    "mathematical": (0x1D400, 0x1D800),
    "emoji": (0x1F300, 0x1F650),
    "control": (0x0, 0x20),
}
# ICU 72 sorts these differently: ideographs whose strokes were corrected, and one letter.
ELSEWHERE = set("奔㚔奟㚜𦚹𪱞㬺䶽汷㲽𫠉𩡧𪏯𬓸ⱹᶉ")
# Python 3.12 and later know characters that the table, of Unicode 14, does not have.
ELSEWHERE.add("\u0ece")
MARKS = [chr(code) for code in range(0x300, 0x370)] + list(
    "\u0591\u05bc\u064b\u093c\u0e38\u0e48\u3099\u20d0\ufe0f\u200d"
)


def alphabet(start: int, end: int) -> list[str]:
    return [c for c in map(chr, range(start, end)) if unicodedata.category(c) != "Cn" and c not in ELSEWHERE]


def random_pairs(count: int) -> Iterator[tuple[str, str]]:
    """Yield pairs of strings. Most differ only in an accent or in case."""
    chance = random.Random(1)
    alphabets = [alphabet(*block) for block in SCRIPTS.values()]
    changes: list[Callable[[str], str]] = [
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: unicodedata.normalize("NFC", text),
        str.swapcase,
        lambda text: text + chance.choice(MARKS),
        lambda text: chance.choice(MARKS) + text,
        lambda text: text[::-1],
        lambda text: text[:-1] + chance.choice(chance.choice(alphabets)),
        lambda text: word(chance, alphabets),
    ]
    for _ in range(count):
        one = word(chance, alphabets)
        yield one, chance.choice(changes)(one)


def word(chance: random.Random, alphabets: list[list[str]]) -> str:
    letters, text = chance.choice(alphabets), ""
    for _ in range(chance.randint(1, 6)):
        text += chance.choice(letters if chance.random() < 0.9 else chance.choice(alphabets))
        if chance.random() < 0.3:
            text += chance.choice(MARKS)
    return text


def sign(one: bytes, other: bytes) -> int:
    return (one > other) - (one < other)


@pytest.mark.skipif(ICU is None, reason="this system has no ICU")
def test_bundled_table_sorts_as_icu_does() -> None:
    assert ICU is not None
    differing = [
        (one, other)
        for one, other in random_pairs(10_000)
        if sign(ICU.sort_key(one), ICU.sort_key(other)) != sign(TABLE(one), TABLE(other))
    ]
    # Each version of Unicode moves a few characters.
    assert len(differing) <= (0 if 70 <= ICU_VERSION <= 72 else 50), differing[:10]


integers = st.integers(-5, 5) | st.sampled_from((2**53, 2**53 + 1, -(2**53) - 1, 10**30))
floats = st.sampled_from((0.0, -0.0, 0.5, 1.0, -1.0, 1.5, float(2**53), 1e30, 5e-324, 1.7e308))
texts = st.text(st.sampled_from("aAbáé\u0301\u0000 _-一ก"), max_size=3)
scalars = st.none() | st.booleans() | integers | floats | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@given(values, values, values)
def test_order_is_total(a: object, b: object, c: object) -> None:
    assert compare_json(a, a) == 0
    assert compare_json(a, b) == -compare_json(b, a)
    one, two, three = sorted((a, b, c), key=json_key)
    assert compare_json(one, two) <= 0
    assert compare_json(two, three) <= 0
    assert compare_json(one, three) <= 0
    # Equal values compare alike with every other value.
    if compare_json(a, b) == 0:
        assert compare_json(a, c) == compare_json(b, c)


@given(st.lists(values, max_size=6))
def test_values_sort_by_type_first(mixed: list[object]) -> None:
    kinds = (type(None), bool, (int, float), str, list, dict)
    ranks = [
        next(rank for rank, kind in enumerate(kinds) if isinstance(value, kind))
        for value in sorted(mixed, key=json_key)
    ]
    assert ranks == sorted(ranks)


def test_numbers_compare_by_value() -> None:
    assert compare_json(1, 1.0) == 0
    assert compare_json(2**53, float(2**53)) == 0
    assert compare_json(2**53 + 1, float(2**53)) == 1
    assert compare_json(10**400, 1.7e308) == 1
    assert compare_json(0.1, 1) == -1
