"""A second name for couchdal: ``from dal import CouchDAL`` gives ``couchdal.CouchDAL``, and so for every public name.

It is a single module, so removing couchdal never touches a package ``dal`` that another distribution installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from couchdal import *  # noqa: F403
    from couchdal import __version__ as __version__
else:
    import couchdal
    from couchdal import __all__

    def __dir__() -> list[str]:
        return __all__.copy()

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'dal' has no attribute {name!r}")
        return getattr(couchdal, name)
