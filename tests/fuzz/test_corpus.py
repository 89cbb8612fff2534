"""The inputs that fuzzing has kept, and the faults that it has found: each parser still handles all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(file for file in CORPUS.rglob("*") if file.is_file())


def test_corpus_is_small_and_names_known_parsers() -> None:
    assert {file.parent.name for file in FILES} == set(TARGETS)
    assert 20 <= len(FILES) <= 200
    assert sum(file.stat().st_size for file in FILES) <= 300_000


@pytest.mark.parametrize("parser", TARGETS)
def test_kept_inputs_show_no_fault(parser: str, figure: Callable[[str, int], None]) -> None:
    for file in FILES:
        # Other parsers' inputs cost little, and some find something.
        TARGETS[parser](file.read_bytes())
    figure("kept inputs of the fuzzer, each for each parser", len(FILES))
