"""Sample documents of about 300 bytes, the same in every run."""

from __future__ import annotations

import random
import string

Document = dict[str, object]
Documents = list[Document]


def make_documents(count: int, seed: int = 1) -> Documents:
    """Return documents with texts, numbers, a flag, a list and a nested object."""
    chance = random.Random(seed)
    word = lambda size: "".join(chance.choices(string.ascii_lowercase, k=size))  # noqa: E731 - shorter than a def
    return [
        {
            "_id": f"doc{index:06d}",
            "type": chance.choice(("task", "note", "person", "event")),
            "title": word(40),
            "number": index,
            "done": index % 2 == 0,
            "owner": f"user{index % 100}",
            "tags": ["red", "green", "blue"],
            "address": {"street": word(30), "zip": 12345},
            "score": index / 7,
            "note": word(60),
        }
        for index in range(count)
    ]
