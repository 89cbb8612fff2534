"""Parse a pattern of PCRE, keep PCRE's limits, and translate it for the ``regex`` package.

This module follows the syntax of PCRE 8, which Erlang uses. Syntax that the package reads in another way, such as its
own extensions, is escaped or refused. Sizes are those of PCRE's compiled form, which has a limit.
"""

from __future__ import annotations

import re

from couchdal.emulator.engine.mango.pcre_escapes import (
    LITERAL_LETTERS,
    PLACES,
    TYPES,
    CharacterClass,
    check_outside_class,
    read_character,
    read_set,
)
from couchdal.emulator.engine.mango.pcre_parts import (
    CAPTURE,
    CHARACTER,
    CLASS_SIZE,
    GROUP,
    Open,
    Part,
    emit,
    finished,
    length_of,
    size_of_group,
    size_of_item,
)
from couchdal.errors import NotSupported

# PCRE's limit for the compiled pattern, and the size of the smallest one.
_LARGEST, _SMALLEST = 65536, 7
_MAX_COUNT = 65535
_LONGEST_NAME = 32
# For a repetition of n times, the package makes n copies. More parts than this take too long to compile.
_MAX_PARTS = 100_000
# PCRE accepts some 800 open groups. The package calls itself for each.
_DEEPEST = 100
# In a pattern with more literal characters than this, strings are searched for in pieces.
_MOST_LITERALS = 256

_QUANTIFIER = re.compile(r"([*+?]|\{(\d+)(?:(,)(\d*))?\})([?+]?)")
_START_VERB = re.compile(r"\(\*(UTF8|UTF|LF|NO_START_OPT|NO_AUTO_POSSESS|BSR_UNICODE)\)")
_OTHER_START_VERB = re.compile(r"\(\*(UCP|CR|CRLF|ANY|ANYCRLF|BSR_ANYCRLF|LIMIT_MATCH=\d+|LIMIT_RECURSION=\d+)\)")
_VERB = re.compile(r"\(\*(?:(F|FAIL)|(PRUNE|SKIP)|ACCEPT|COMMIT|THEN|(?:(?:MARK|PRUNE|SKIP|THEN)?:[^)]*))\)")
_RECURSION = re.compile(r"\(\?(?:R|[+-]?\d+|&\w+|P>\w+)\)|\\g(?:<[+-]?\w+>|'[+-]?\w+')")
_FLAGS = re.compile(r"\(\?([imsxJUX]*)(-[imsxJUX]*)?([:)])")
_NAMED = re.compile(r"\(\?(?:P?<([A-Za-z_]\w*)>|'([A-Za-z_]\w*)')", re.ASCII)
_OPENING = re.compile(r"\(\?(?:[:>|=!]|<[=!])")
_CONDITION = re.compile(r"\(\?\((?:(\d+)|<(\w+)>|'(\w+)'|(\w+))\)", re.ASCII)
_CALLOUT = re.compile(r"\(\?C\d*\)")
_REFERENCE = re.compile(
    r"\\g(?:\{(-?\d+)\}|(-?\d+)|\{(\w+)\})|\\k(?:<(\w+)>|'(\w+)'|\{(\w+)\})|\(\?P=(\w+)\)", re.ASCII
)
_DIGITS = re.compile(r"[1-9]\d*")


class Pattern:
    """A translated pattern. Raise ``ValueError`` if PCRE refuses it, and ``NotSupported`` if only the emulator does."""

    def __init__(self, pattern: str, *, utf: bool) -> None:
        self._pattern = pattern
        self._utf = utf
        self._flags: frozenset[str] = frozenset()
        self._open = [Open("", self._flags, 0)]
        self._groups = 0
        self._names: dict[str, int] = {}
        self._references: set[int | str] = set()
        # Whether a quantifier may follow.
        self._is_repeatable = False
        self._literals = 0
        #: The most groups in a repeated one. A search may need some 60 bytes for each of them and each character.
        self.repeated_groups: int = 0
        at = 0
        while at < len(pattern):
            at = self._read(at)
        if len(self._open) > 1:
            raise ValueError("missing )")
        if any(name > self._groups if isinstance(name, int) else name not in self._names for name in self._references):
            raise ValueError("reference to non-existent subpattern")
        whole = self._close(self._open[0])
        if whole.size + _SMALLEST - 6 > _LARGEST:
            raise ValueError("regular expression is too large")
        if whole.cost > _MAX_PARTS:
            raise NotSupported("the emulator does not support this many repetitions in a $regex")
        #: The number of parts in the package's compiled pattern.
        self.cost: int = whole.cost
        #: The pattern for the package.
        self.text: str = finished(whole.text, captures=bool(self._references), long=self._literals > _MOST_LITERALS)

    def _read(self, at: int) -> int:
        """Read one item, and return its end."""
        character = self._pattern[at]
        if "x" in self._flags and character in " \t\n\v\f\r#":
            end = self._pattern.find("\n", at) if character == "#" else at
            return len(self._pattern) if end < 0 else end + 1
        if match := _QUANTIFIER.match(self._pattern, at):
            self._repeat(match)
            return match.end()
        if character == "\\":
            return self._escape(at)
        if character == "(":
            return self._group(at)
        if character == "|":
            group = self._open[-1]
            group.branches.append([])
            if group.opening == "(?|":
                group.most_number, self._groups = max(group.most_number, self._groups), group.first_number
            self._is_repeatable = False
        elif character == ")":
            if len(self._open) == 1:
                raise ValueError("unmatched parentheses")
            closed = self._open.pop()
            self._flags = closed.flags
            self._add(self._close(closed))
        elif character == "[":
            return self._class(at)
        elif character in "^$":
            many = "m" in self._flags
            if character == "^":
                place = r"(?:\A|(?<=\n)(?!\Z))" if many else r"\A"
            else:
                place = r"(?=\n|\Z)" if many else r"(?=\n?\Z)"
            self._add(Part(place, 1, 0), repeatable=False)
        elif character == ".":
            self._add(Part("(?s:.)" if "s" in self._flags else r"[^\n]", 1, 1))
        else:
            self._literal(character)
        return at + 1

    def _add(self, part: Part, *, repeatable: bool = True) -> None:
        self._open[-1].branches[-1].append(part)
        self._is_repeatable = repeatable

    def _literal(self, character: str) -> None:
        self._literals += 1
        bytes_ = len(character.encode()) if self._utf else 1
        # The text is the bare character: strings are joined first and escaped then.
        self._add(Part(character, 1 + bytes_, 1, f"{CHARACTER}{'i' in self._flags}"))

    def _cased(self, text: str) -> str:
        return f"(?i:{text})" if "i" in self._flags else text

    def _class(self, at: int) -> int:
        check_outside_class(self._pattern, at)
        found = CharacterClass(self._pattern, at, utf=self._utf)
        if found.only is not None and not found.negated:
            self._literal(found.only)
            return found.end
        size = 2 if found.only is not None else CLASS_SIZE + (5 + found.wide if found.wide else 0)
        self._add(Part(self._cased(found.text), size, 1))
        return found.end

    def _escape(self, at: int) -> int:
        pattern, letter = self._pattern, self._pattern[at + 1 : at + 2]
        if letter == "Q":
            end = pattern.find("\\E", at + 2)
            for character in pattern[at + 2 : None if end < 0 else end]:
                self._literal(character)
            return len(pattern) if end < 0 else end + 2
        if letter == "E":
            return at + 2
        if letter in PLACES and letter:
            self._add(Part(PLACES[letter], 1, 0), repeatable=False)
            return at + 2
        if letter == "N" and pattern.startswith("{", at + 2) and not _QUANTIFIER.match(pattern, at + 2):
            raise ValueError("PCRE does not support \\N{name}")
        if letter in TYPES and letter:
            text, is_one = TYPES[letter]
            # A byte of a character has no length in characters.
            self._add(Part(text, 1, 1 if is_one and not (letter == "C" and self._utf) else None))
            return at + 2
        if found := read_set(pattern, at + 1):
            self._add(Part(f"[{found[0]}]", 3 if letter in "pP" else 1, 1))
            return found[1]
        number = _DIGITS.match(pattern, at + 1)
        if number and ((len(number.group()) == 1 and letter < "8") or 0 < int(number.group()[:9]) <= self._groups):
            self._refer(int(number.group()))
            return number.end()
        if letter in ("g", "k"):
            return self._named_reference(at)
        read = read_character(pattern, at + 1, utf=self._utf)
        if read is None or (letter in LITERAL_LETTERS and "X" in self._flags):
            raise ValueError(f"unrecognized escape \\{letter}")
        self._literal(read[0])
        return read[1]

    def _named_reference(self, at: int) -> int:
        if _RECURSION.match(self._pattern, at):
            raise NotSupported("the emulator does not support recursion in a $regex")
        match = _REFERENCE.match(self._pattern, at)
        if match is None:
            raise ValueError("malformed reference")
        number = match[1] or match[2]
        if number is None:
            self._refer(next(filter(None, match.groups())))
        else:
            absolute = int(number[:9]) if number[0] != "-" else self._groups + 1 + int(number[:9])
            if absolute <= 0:
                raise ValueError("reference to non-existent subpattern")
            self._refer(absolute)
        return match.end()

    def _refer(self, to: int | str) -> None:
        self._references.add(to)
        self._add(Part(self._cased(f"(?:\\{to})" if isinstance(to, int) else f"(?P={to})"), 3, None))

    def _group(self, at: int) -> int:
        pattern = self._pattern
        if pattern.startswith("(*", at):
            return self._verb(at)
        if pattern.startswith("(?#", at):
            end = pattern.find(")", at)
            if end < 0:
                raise ValueError("missing ) after comment")
            return end + 1
        if _RECURSION.match(pattern, at):
            raise NotSupported("the emulator does not support recursion in a $regex")
        if not pattern.startswith("(?", at):
            self._groups += 1
            return self._begin(f"({CAPTURE})", at + 1, size=8)
        if match := _CALLOUT.match(pattern, at):
            self._is_repeatable = False
            return match.end()
        if match := _OPENING.match(pattern, at):
            return self._begin(match.group(), match.end())
        if match := _NAMED.match(pattern, at):
            return self._begin_named(match[1] or match[2], match.end())
        if match := _FLAGS.match(pattern, at):
            return self._set_flags(match)
        if pattern.startswith("(?P=", at):
            return self._named_reference(at)
        if pattern.startswith("(?(", at):
            return self._condition(at)
        raise ValueError("unrecognized character after (?")

    def _begin(self, opening: str, at: int, *, size: int = 6) -> int:
        if len(self._open) > _DEEPEST:
            raise NotSupported(f"the emulator does not support more than {_DEEPEST} open groups in a $regex")
        self._open.append(Open(opening, self._flags, self._groups, size))
        self._is_repeatable = False
        return at

    def _begin_named(self, name: str, at: int) -> int:
        self._groups += 1
        if len(name) > _LONGEST_NAME or self._names.get(name, self._groups) != self._groups:
            raise ValueError("the name is too long, or two groups have it")
        self._names[name] = self._groups
        return self._begin(f"({CAPTURE}{name})", at, size=8)

    def _set_flags(self, match: re.Match[str]) -> int:
        added, removed, end = match.groups()
        if "J" in added:
            raise NotSupported("the emulator does not support (?J) in a $regex")
        flags = (self._flags | set(added)) - set(removed or "")
        if end == ":":
            self._begin("(?:", match.end())
        self._flags = flags
        self._is_repeatable = False
        return match.end()

    def _condition(self, at: int) -> int:
        match = _CONDITION.match(self._pattern, at)
        if match is None:
            if re.compile(r"\(\?\(\?<?[=!]").match(self._pattern, at):
                return self._begin("(?", at + 2)
            if re.compile(r"\(\?\([+-]\d+\)").match(self._pattern, at):
                raise NotSupported("the emulator does not support relative conditions in a $regex")
            raise ValueError("malformed condition")
        number, name = match[1], next(filter(None, match.groups()[1:]), None)
        if match[4] is not None and (match[4] == "DEFINE" or match[4].startswith("R")):
            raise NotSupported("the emulator does not support recursion in a $regex")
        self._references.add(int(number[:9]) if number else str(name))
        return self._begin(f"(?({number or name})", match.end(), size=9)

    def _verb(self, at: int) -> int:
        if match := _VERB.match(self._pattern, at):
            if not (match[1] or match[2]):
                raise NotSupported("the emulator supports only the verbs FAIL, PRUNE and SKIP in a $regex")
            self._add(Part("(?!)" if match[1] else f"(*{match[2]})", 1, 0), repeatable=False)
            return match.end()
        raise ValueError("(*VERB) not recognized or malformed")

    def _repeat(self, match: re.Match[str]) -> None:
        sign, low, comma, high, suffix = match.groups()
        least = int(low[:9]) if low is not None else int(sign == "+")
        most = least if sign[0] == "{" and not comma else int(high[:9]) if high else 1 if sign == "?" else None
        if max(least, most or 0) > _MAX_COUNT or (most is not None and most < least):
            raise ValueError("numbers in a quantifier are too large or out of order")
        if not self._is_repeatable:
            raise ValueError("nothing to repeat")
        self._is_repeatable = False
        part = self._open[-1].branches[-1].pop()
        text, cost = emit([part]), part.cost
        if part.kind == GROUP:
            size = size_of_group(part.size, least, most)
            if most != 1:
                self.repeated_groups = max(self.repeated_groups, text.count("("))
            text = f"(?:{text})" if text.startswith(("(?=", "(?!", "(?<=", "(?<!")) else text
        else:
            size = size_of_item(part.size, least, most)
        cost *= least + 1 if least and most != 1 else 1
        if suffix != "+" and "U" in self._flags:
            suffix = "" if suffix else "?"
        length = 0 if most == 0 else part.length * least if part.length is not None and most == least else None
        self._add(Part(f"{text}{sign}{suffix}", size, length, "", cost), repeatable=False)

    def _close(self, group: Open) -> Part:
        parts = [part for branch in group.branches for part in branch]
        lengths = {length_of(branch) for branch in group.branches}
        size = group.size + 3 * (len(group.branches) - 1) + sum(part.size for part in parts)
        cost = 1 + sum(part.cost for part in parts)
        self._groups = max(self._groups, group.most_number)
        text = "|".join(emit(branch) for branch in group.branches)
        length = lengths.pop() if len(lengths) == 1 else None
        if group.opening.startswith("(?<") and group.opening[3:4] in "=!":
            # Alternatives of a lookbehind may have different lengths.
            if None in lengths or (not lengths and length is None):
                raise ValueError("lookbehind assertion is not fixed length")
            size += 3 * len(group.branches)
        if (group.opening.startswith("(?(") or group.opening == "(?") and len(group.branches) > 2:
            raise ValueError("a condition has at most two branches")
        if group.opening.endswith(("=", "!")):
            length = 0
        return Part(f"{group.opening}{text}{')' if group.opening else ''}", size, length, GROUP, cost)


def split_verbs(pattern: str) -> tuple[str, bool]:
    """Return a pattern without the verbs at its start, and whether it matches characters instead of bytes."""
    utf, at = False, 0
    while match := _START_VERB.match(pattern, at):
        utf, at = utf or match[1].startswith("UTF"), match.end()
    if _OTHER_START_VERB.match(pattern, at):
        raise NotSupported("the emulator supports only the verb UTF8 at the start of a $regex")
    return pattern[at:], utf
