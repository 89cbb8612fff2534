"""Settings for every test: the databases of ``dal_databases``, the administrator of ``dal_admin``, the version."""

from __future__ import annotations

import pytest


def add_admin(config: pytest.Config) -> None:
    """Add the administrator of ``dal_admin`` to the memory server. Raise ``pytest.UsageError`` for a wrong one."""
    text = config.getoption("dal_admin") or config.getini("dal_admin")
    if not text:
        return
    name, _, password = text.partition(":")
    if not name or not password:
        # The text may be a password, so the error does not show it.
        raise pytest.UsageError("dal_admin must be name:password")
    from couchdal.backends.memory import default_backend  # most test runs have no administrator

    default_backend().server.admins[name] = password
    default_backend().server.party_admin = name


def check_version(value: object) -> None:
    """Raise ``pytest.UsageError`` for a version of CouchDB that the memory server does not support."""
    if value:
        from couchdal.api.versions import parse_version  # most test runs name none

        try:
            parse_version(str(value))
        except ValueError as error:
            raise pytest.UsageError(f"dal_couchdb_version {error}") from None


def databases_of(config: pytest.Config) -> list[str]:
    """Return the names of ``dal_databases``. Raise ``pytest.UsageError``."""
    names = list(config.getini("dal_databases"))
    for text in config.getoption("dal_databases"):
        names += text.replace(",", " ").split()
    if names:  # most test runs name none
        from couchdal.emulator.engine.server.database_name import validate_name
        from couchdal.errors import CouchError

        for name in names:
            try:
                validate_name(name)
            except CouchError as error:
                raise pytest.UsageError(f"dal_databases: {error.reason}") from None
    return list(dict.fromkeys(names))
