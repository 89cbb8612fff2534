"""An extension of mkdocstrings: examples are shown as code, and the keys of typed dictionaries as a list."""

from __future__ import annotations

import re
from typing import Any

import griffe

# From the first prompt to the next empty line.
_EXAMPLE = re.compile(r"^>>> (?:.+\n?)+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Bring docstrings into the form that Markdown needs."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[str, str] = {"TypedDict": ""}

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Put each ``>>>`` example between fences."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(r"```pycon\n\g<0>\n```\n", obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Move the keys of a typed dictionary from its members into its docstring, after those of its bases."""
        inherited = [self._keys[str(base)] for base in cls.bases if str(base) in self._keys]
        # Another class may have the name of a typed dictionary, and be the base of a class with methods.
        if not inherited or cls.docstring is None or "__slots__" in cls.members:
            return
        keys = list(cls.attributes.values())
        listed = "".join([*inherited, *(f"- `{key.name}`: `{key.annotation}`\n" for key in keys)])
        self._keys[cls.name] = listed
        cls.docstring.value = f"{cls.docstring.value}\n\n{listed}"
        for key in keys:
            cls.del_member(key.name)
