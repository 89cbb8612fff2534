"""Install the seams: replace methods of HTTP clients while an interception is on, and restore them afterwards.

This never imports a client. If the process imports one later, its methods are replaced then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TypeAlias

# The modules whose classes are changed, and for each the module here that changes them.
_SEAMS = {
    "http.client": "couchdal.interception.http_client",
    "urllib3.connection": "couchdal.interception.http_client",
    "requests.adapters": "couchdal.interception.requests_client",
    "requests.models": "couchdal.interception.requests_client",
    "requests.sessions": "couchdal.interception.requests_client",
    "httpx": "couchdal.interception.httpx_client",
    "httpx2": "couchdal.interception.httpx_client",
    "aiohttp.connector": "couchdal.interception.aiohttp_client",
}

#: A class or module, the name of a function in it, and a function that returns the replacement for the original.
Replace: TypeAlias = "tuple[type | ModuleType, str, Callable[..., Callable[..., object]]]"

_replaced: dict[str, list[tuple[type | ModuleType, str, object]]] = {}


def install() -> None:
    """Replace the methods of all clients that are imported, and of the others on import.

    Raise ``RuntimeError`` for a version of a client that lacks one of them.
    """
    sys.meta_path.insert(0, _FINDER)
    try:
        for name in _SEAMS:
            module = sys.modules.get(name)
            if module is not None:
                _apply(module)
    except RuntimeError:
        uninstall()
        raise


def uninstall() -> None:
    """Restore the original methods."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    while _replaced:
        _, originals = _replaced.popitem()
        for owner, name, original in originals:
            setattr(owner, name, original)


def _apply(module: ModuleType) -> None:
    name = module.__name__
    if name in _replaced:
        return
    seam = import_module(_SEAMS[name])
    originals = _replaced[name] = []
    for owner, method, replace in seam.replacements(module):
        original = vars(owner).get(method)
        if original is None:
            raise RuntimeError(
                f"couchdal.intercept does not know this version of {name.partition('.')[0]}:"
                f" {owner.__name__}.{method} is missing"
            )
        originals.append((owner, method, original))
        setattr(owner, method, replace(original))


class _Finder(MetaPathFinder):
    """Finds the modules of clients as Python would, and applies their seam after their import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _SEAMS:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loading(spec.loader)
                return spec
        return None


class _Loading(Loader):
    """Loads a module with its own loader, and applies the seam."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        # Give the module its own loader, as if it had been imported without this class.
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if _FINDER in sys.meta_path:
            _apply(module)


_FINDER = _Finder()
