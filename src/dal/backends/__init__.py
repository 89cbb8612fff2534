"""The two interchangeable servers behind the data-access layer.

Each is imported when it is asked for: neither pays for the other's imports.
"""

from __future__ import annotations

from dal.backends.base import BaseBackend


def open_backend(name: str) -> BaseBackend:
    """Return the backend of a name from ``dal.config``: this process's shared emulator, or the configured CouchDB."""
    if name == "memory":
        from dal.backends.memory import default_backend

        return default_backend()
    from dal.backends.couch import CouchBackend

    return CouchBackend()
