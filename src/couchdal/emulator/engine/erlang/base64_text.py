"""Decode base64 as Erlang does, which is stricter about padding than Python."""

from __future__ import annotations

from base64 import b64decode

from couchdal.pace import paced

# How many characters are decoded at once: a multiple of four.
_PIECE = 1 << 20
_WITHOUT_SPACE = dict.fromkeys(map(ord, "\t\n\r "))


def decode_base64(text: str) -> bytes:
    """Return the bytes that a text encodes. White space is ignored. Raise ``ValueError`` for other characters.

    >>> decode_base64("aGk ="), decode_base64("")
    (b'hi', b'')
    >>> decode_base64("aGk==")
    Traceback (most recent call last):
    ValueError: not base64
    """
    data = text.translate(_WITHOUT_SPACE).encode("ascii")
    if len(data) % 4 or data.find(b"=", 0, max(0, len(data) - 2)) >= 0:
        raise ValueError("not base64")
    pieces = range(0, len(data), _PIECE)
    return b"".join([b64decode(data[start : start + _PIECE], validate=True) for start in paced(pieces, 1)])
