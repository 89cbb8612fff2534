"""The length of a value's JSON text as CouchDB estimates it for limits and sizes. Source: ``couch_ejson_size``."""

from __future__ import annotations

from math import log10

from couchdal.pace import give_way_for

_FEW = 16


def encoded_size(value: object) -> int:
    """Return the estimated length in bytes. It ignores escapes, and all digits of a fraction after the first.

    >>> encoded_size({"a": [1, 2.5, None]}), encoded_size({}), encoded_size("é")
    (18, 2, 4)
    """
    kind = type(value)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass")) + 2
    if isinstance(value, (dict, list)) and len(value) > _FEW:
        give_way_for(value)
    if isinstance(value, dict):
        members = sum(
            len(name.encode("utf-8", "surrogatepass")) + 4 + encoded_size(item) for name, item in value.items()
        )
        return 1 + members if value else 2
    if isinstance(value, list):
        return 1 + sum(1 + encoded_size(item) for item in value) if value else 2
    if kind is bool or value is None:
        return 5 if value is False else 4
    if isinstance(value, int):
        return _integer_size(value)
    return _float_size(value) if isinstance(value, float) else 0


def _integer_size(number: int) -> int:
    if number < 0:
        return 1 + _integer_size(-number)
    return len(str(number)) if number < 10_000 else int(log10(number)) + 1


def _float_size(number: float) -> int:
    if number < 0:
        return 1 + _float_size(-number)
    if number < 1:
        limits = ((1e-300, 3), (1e-100, 6), (1e-10, 5), (0.01, 4))
        return next((size for most, size in limits if number <= most), 3)
    return 5 if number >= 1e100 else 4 if number >= 1e10 else 3
