"""Where one character of a text ends as a reader sees it, with its accents: what ``$beginsWith`` goes by.

It knows nothing of selectors. Source: Unicode's annex 29 as Erlang's ``string:prefix`` applies it.
"""

from __future__ import annotations

import re
import unicodedata

_JOINER = "\u200d"
# What belongs to the character before it, beside nonspacing and enclosing marks, and most spacing ones.
_EXTENDING = re.compile("[\u0e33\u0eb3\u200c\u200d\uff9e\uff9f\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
# Spacing marks that stand by themselves.
_NOT_EXTENDING = re.compile(
    "[\u102b\u102c\u1038\u1062-\u1064\u1067-\u106d\u1083\u1087-\u108c\u108f\u109a-\u109c\u1a61\u1a63\u1a64\uaa7b\uaa7d"
    "\U00011720\U00011721]"
)
# What belongs to the character behind it.
_PREPENDED = re.compile(
    "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3\U0001193f\U00011941"
    "\U00011a3a\U00011a84-\U00011a89\U00011d46]"
)
# Controls that are not assigned yet.
_RESERVED = re.compile("[\u2065\ufff0-\ufff8\U000e0000-\U000e0fff]")
_FLAG = re.compile("[\U0001f1e6-\U0001f1ff]")
_LEADING_JAMO = re.compile("[\u1100-\u115f\ua960-\ua97c]")
_VOWEL_JAMO = re.compile("[\u1160-\u11a7\ud7b0-\ud7c6]")
_TRAILING_JAMO = re.compile("[\u11a8-\u11ff\ud7cb-\ud7fb]")
_FIRST_SYLLABLE, _LAST_SYLLABLE, _SYLLABLES_PER_VOWEL = 0xAC00, 0xD7A3, 28


def begins_with(text: str, prefix: str) -> bool:
    """Whether a text begins with a prefix that ends where a character ends: "é" written as two does not with "e".

    Erlang looks only from the last code point of the prefix onwards, so a flag of two letters can be cut in two.
    """
    if not text.startswith(prefix):
        return False
    size = len(prefix)
    return not prefix or size == len(text) or not belongs_together(text[size - 1], text[size])


def belongs_together(letter: str, following: str) -> bool:
    """Whether two code points are shown as one character, where ``letter`` begins it."""
    if letter.isascii() and following.isascii():
        return letter == "\r" and following == "\n"
    if _is_control(letter) or _is_control(following):
        return False
    if _extends(following) or _PREPENDED.match(letter):
        return True
    if _FLAG.match(letter):
        return _FLAG.match(following) is not None
    return _is_one_syllable(letter, following)


def _is_control(letter: str) -> bool:
    if letter.isascii():
        return letter < " " or letter == "\x7f"
    category = unicodedata.category(letter)
    if category in ("Cc", "Zl", "Zp"):
        return True
    if category not in ("Cf", "Cn"):
        return False
    if category == "Cn" and not _RESERVED.match(letter):
        return False
    return not _EXTENDING.match(letter) and not _PREPENDED.match(letter) and not unicodedata.combining(letter)


def _extends(letter: str) -> bool:
    if letter.isascii():
        return False
    category = unicodedata.category(letter)
    if category == "Mc":
        return not _NOT_EXTENDING.match(letter)
    return category in ("Mn", "Me") or _EXTENDING.match(letter) is not None


def _is_one_syllable(letter: str, following: str) -> bool:
    """Whether two pieces of Hangul are one syllable, or part of one."""
    if _LEADING_JAMO.match(letter):
        return _is_syllable(following) or any(
            kind.match(following) is not None for kind in (_LEADING_JAMO, _VOWEL_JAMO)
        )
    if _VOWEL_JAMO.match(letter) or (_is_syllable(letter) and _is_open(letter)):
        return any(kind.match(following) is not None for kind in (_VOWEL_JAMO, _TRAILING_JAMO))
    if _TRAILING_JAMO.match(letter) or _is_syllable(letter):
        return _TRAILING_JAMO.match(following) is not None
    return False


def _is_syllable(letter: str) -> bool:
    return _FIRST_SYLLABLE <= ord(letter) <= _LAST_SYLLABLE


def _is_open(letter: str) -> bool:
    """Whether a syllable ends with its vowel."""
    return (ord(letter) - _FIRST_SYLLABLE) % _SYLLABLES_PER_VOWEL == 0
