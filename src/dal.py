"""The name that applications import: ``from dal import CouchDAL`` is ``couchdal.CouchDAL``, as for every public name.

It is a single module, so that removing couchdal never touches the folder of another distribution's package ``dal``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import couchdal
from couchdal import __all__

if TYPE_CHECKING:
    from couchdal import *  # noqa: F403 - every public name, for type checkers
else:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'dal' has no attribute {name!r}")
        return getattr(couchdal, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
