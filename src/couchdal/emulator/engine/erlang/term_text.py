"""JSON values as Erlang prints them. CouchDB prints values this way in the reasons of errors.

Source: ``io_lib:write`` and ``io_lib_pretty`` of Erlang's standard library, whose ``~w`` and ``~p`` CouchDB uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


class Atom(str):
    """A string that is printed without quotes, as an atom is."""


class TupleTerm(tuple[object, ...]):
    """Values that are printed as an Erlang tuple.

    >>> pretty_term(TupleTerm((Atom("code"), 500, "a")))
    '{code,500,<<"a">>}'
    """


def print_term(value: object) -> str:
    """Return a value as ``~w`` prints it. Binaries appear as bytes.

    >>> print_term({"a": [1, None]})
    '{[{<<97>>,[1,null]}]}'
    """
    if isinstance(value, str):
        return _bytes(value)
    if isinstance(value, dict):
        members = ",".join(f"{{{_bytes(name)},{print_term(member)}}}" for name, member in value.items())
        return f"{{[{members}]}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(print_term, value))}]"
    return _number_or_word(value)


def _number_or_word(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return print_float(value) if isinstance(value, float) else str(value)


def _bytes(text: str) -> str:
    return f"<<{','.join(map(str, text.encode()))}>>"


def iolist(value: object) -> bytes:
    """Return the bytes of an ``iolist``: a string, or an array of bytes, strings and further arrays.

    Raise ``ValueError`` for other values.

    >>> iolist(["a", 98, ["c"]])
    b'abc'
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return b"".join(bytes((one,)) if type(one) is int and 0 <= one <= 255 else iolist(one) for one in value)
    raise ValueError(f"{type(value).__name__} is neither a string nor an array")


def print_reason(value: object) -> object:
    """Return a value as the ``reason`` of an error. Arrays become text, as in ``couch_util:to_binary``."""
    if not isinstance(value, list):
        return value
    try:
        return iolist(value).decode("utf-8", "replace")
    except ValueError:
        return pretty_term(value)


def pretty_term(value: object, column: int = 1) -> str:
    """Return a value as ``~p`` prints it. Printable binaries and arrays of small integers appear as text.

    Lines end before column 80. The first line begins at ``column``.

    >>> pretty_term({"a": ["b", [72, 105]]})
    '{[{<<"a">>,[<<"b">>,"Hi"]}]}'
    """
    return _laid_out(_node(value), column)


def pretty_members(value: Mapping[str, object], column: int = 1) -> str:
    """Return the members of an object as ``~p`` prints a list of pairs.

    >>> pretty_members({"a": 1})
    '[{<<"a">>,1}]'
    """
    return _laid_out(_node(dict(value)).items[0], column)


def _laid_out(node: _Node, column: int) -> str:
    if not node.brackets and not node.is_bytes:
        return _decoded(node.inline)
    text = None
    for tag_indent in (None, 4):
        try:
            text = _Layout(len(node.inline), tag_indent).show(node, column, " " * (column - 1), 0, 0)
            break
        except _TooWide:
            pass
    else:
        text = _Layout(len(node.inline), 1, is_last=True).show(node, column, " " * (column - 1), 0, 0)
    return _decoded(text)


def _decoded(text: str) -> str:
    # The layout counts bytes, as Erlang does: so far each character represents one byte.
    return text.encode("latin-1").decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Node:
    """A value to lay out: its text on one line and, for an array or a tuple, its brackets and items."""

    inline: str
    brackets: str = ""
    items: tuple[_Node, ...] = ()
    is_bytes: bool = False
    #: Whether it is a tuple that begins with an atom. Its further lines begin behind the atom.
    is_tagged: bool = False

    @property
    def is_plain(self) -> bool:
        return not self.brackets and not self.is_bytes


def _node(value: object) -> _Node:
    if isinstance(value, Atom):
        return _Node(value)
    if isinstance(value, TupleTerm):
        node = _nested("{}", map(_node, value))
        return _Node(node.inline, node.brackets, node.items, is_tagged=isinstance(value[0], Atom))
    if isinstance(value, (str, bytes)):
        return _binary(value)
    if isinstance(value, dict):
        members = [_nested("{}", (_binary(name), _node(member))) for name, member in value.items()]
        return _nested("{}", [_nested("[]", members) if members else _Node("[]")])
    if isinstance(value, (list, tuple)):
        if value and all(type(item) is int for item in value) and _PRINTABLE.issuperset(value):
            return _Node(_quoted(bytes(value).decode("latin-1")))
        return _nested("[]", map(_node, value)) if value else _Node("[]")
    return _Node(_number_or_word(value))


def _nested(brackets: str, nodes: Iterable[_Node]) -> _Node:
    items = tuple(nodes)
    return _Node(f"{brackets[0]}{','.join(item.inline for item in items)}{brackets[1]}", brackets, items)


def _binary(value: str | bytes) -> _Node:
    # Erlang decides by the bytes, as if they were Latin-1. A byte of a UTF-8 sequence can be unprintable there.
    data = value.encode() if isinstance(value, str) else value
    if data and _PRINTABLE.issuperset(data):
        return _Node(f"<<{_quoted(data.decode('latin-1'))}>>")
    return _Node(f"<<{','.join(map(str, data))}>>", is_bytes=bool(data))


# The control characters that ``~p`` considers printable, and how it escapes them.
_ESCAPES = str.maketrans(
    {
        "\\": "\\\\",
        '"': '\\"',
        "\b": "\\b",
        "\t": "\\t",
        "\n": "\\n",
        "\v": "\\v",
        "\f": "\\f",
        "\r": "\\r",
        "\x1b": "\\e",
    }
)
_PRINTABLE = frozenset((*range(8, 14), 27, *range(32, 127), *range(160, 256)))


def _quoted(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


_LINE_LENGTH = 80


class _TooWide(Exception):
    """A line of this layout would begin too far to the right."""


class _Layout:
    """Breaks a term into lines. No line becomes longer than ``room``, the length of the whole term.

    Parameters of the methods: a term begins at ``column``, with ``indent`` before its further lines. ``closing``
    brackets follow it, and its line already contains ``used`` characters after the indentation.

    Further lines of a tuple that begins with an atom begin behind the atom, or at ``tag_indent`` if that would be too
    far to the right.
    """

    def __init__(self, room: int, tag_indent: int | None, *, is_last: bool = False) -> None:
        self._room = room
        self._tag_indent = tag_indent
        self._is_last = is_last

    def _fits(self, length: int, column: int, closing: int, used: int) -> bool:
        return length < _LINE_LENGTH - column - closing and length + used + closing <= self._room

    def show(self, node: _Node, column: int, indent: str, closing: int, used: int) -> str:
        if self._fits(len(node.inline), column, closing, used):
            return node.inline
        if node.is_tagged:
            return self._tagged(node, column, indent, closing, used)
        if node.brackets:
            items = self._items(node.items, column + 1, indent + " ", closing, used + 1)
            return node.brackets[0] + items + node.brackets[1]
        return self._bytes(node.inline, column + 2, indent + "  ", closing, used) if node.is_bytes else node.inline

    def _tagged(self, node: _Node, column: int, indent: str, closing: int, used: int) -> str:
        tag, rest = node.items[0].inline, node.items[1:]
        width = len(tag) + 2
        is_behind = self._tag_indent is None or width <= self._tag_indent
        begin = column + (width if is_behind or self._tag_indent is None else self._tag_indent)
        is_narrow = self._room + begin <= _LINE_LENGTH or begin < _LINE_LENGTH // 2 + (not is_behind)
        if not (is_narrow or self._is_last):
            raise _TooWide
        further = indent + " " * (begin - column)
        if is_behind:
            return f"{{{tag},{self._items(rest, begin, further, closing, used + width)}}}"
        # The atom and the first item are separated like two items.
        return "{" + self._items((node.items[0], *rest), begin, further, closing, used + 1, first_at=column + 1) + "}"

    def _items(
        self,
        items: tuple[_Node, ...],
        column: int,
        indent: str,
        closing: int,
        used: int,
        *,
        first_at: int | None = None,
    ) -> str:
        """Fill lines with plain items. Every other item ends its line."""
        text = ""
        at = column if first_at is None else first_at
        for place, item in enumerate(items):
            following = closing + 1 if place == len(items) - 1 else 0
            length = len(item.inline) + 1
            room = 0 if following else 1
            if place and item.is_plain and self._fits(length + room, at, following, used):
                text += "," + item.inline
                at, used = at + length, used + length
                continue
            if place:
                text += ",\n" + indent
                used = 0
            begin = at if first_at is not None and not place else column
            if item.is_plain and self._fits(len(item.inline), begin, following, used):
                text += item.inline
                at, used = begin + len(item.inline), used + len(item.inline)
            else:
                text += self.show(item, column, indent, following, used)
                at, used = column + _LINE_LENGTH, used + _LINE_LENGTH
        return text

    def _bytes(self, inline: str, column: int, indent: str, closing: int, used: int) -> str:
        width = max(8, min(_LINE_LENGTH - column, self._room - 4 - used) - closing)
        text, left = "", width
        numbers = inline[2:-2].split(",")
        for place, number in enumerate(numbers):
            piece = number if place == len(numbers) - 1 else number + ","
            if len(piece) > left:
                text += "\n" + indent
                left = width
            text += piece
            left -= len(piece)
        return f"<<{text}>>"


# From here on, consecutive doubles differ by more than 1.
_FIRST_SPARSE = 2.0**53


def print_float(value: float) -> str:
    """Return a float as Erlang prints it: the fewest digits that identify it, with an exponent if that is shorter.

    >>> print_float(1500.0), print_float(100.0), print_float(2.5e-7)
    ('1.5e3', '100.0', '2.5e-7')
    """
    sign, digits, exponent = _split_float(value)
    scientific = f"{sign}{digits[0]}.{digits[1:] or '0'}e{exponent}"
    if abs(value) >= _FIRST_SPARSE:
        return scientific
    if exponent < 0:
        plain = f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    else:
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        plain = f"{sign}{whole}.{digits[exponent + 1 :] or '0'}"
    return scientific if len(scientific) < len(plain) else plain


def _split_float(value: float) -> tuple[str, str, int]:
    """Return the sign, the significant digits, and the power of ten of the first digit."""
    mantissa, _, power = repr(value).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits:
        return sign, "0", 0
    exponent = len(whole) - 1 - (len(whole + fraction) - len(digits)) + int(power or 0)
    return sign, digits.rstrip("0"), exponent
