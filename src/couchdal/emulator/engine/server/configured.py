"""Read and change a server's configuration, its administrators included. The caller holds the server's lock.

A server keeps its administrators as the configuration does: a hash of the password, or the password itself if the
program gave it. A password is hashed only when the configuration is read or written, because hashing takes a good part
of a second by design.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping

from couchdal.emulator.engine.auth.admins import ADMINS, hash_admin, is_hashed
from couchdal.emulator.engine.config.configuration import Configuration, Sections, check_setting, new_configuration
from couchdal.emulator.engine.config.parsing import parse_settings
from couchdal.emulator.engine.server.journal import Action, Assignment, Changes, Keep
from couchdal.emulator.engine.server.keeper import Keeper
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import Forbidden

#: The sections that may not be changed over HTTP. Source: ``couch_util:check_config_blacklist``.
_DENIED = frozenset(
    (
        *("daemons", "external", "httpd_design_handlers", "httpd_db_handlers", "httpd_global_handlers"),
        *("native_query_servers", "os_daemons", "query_servers"),
    )
)
_WHITESPACE = " \t\n\r\v\f"


class ConfiguredValues(MutableMapping[str, str]):
    """The values of a server's configuration, by ``section/key``. They change as by ``PUT`` and ``DELETE``."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __getitem__(self, path: str) -> str:
        with self._server.lock:
            value = setting(self._server, *_parts(path))
        if value is None:
            raise KeyError(path)
        return value

    def __setitem__(self, path: str, value: str) -> None:
        with self._server.lock:
            self._server.journal.settle()
            set_value(self._server, *_parts(path), value)

    def __delitem__(self, path: str) -> None:
        with self._server.lock:
            self._server.journal.settle()
            if delete_value(self._server, *_parts(path)) is None:
                raise KeyError(path)

    def __iter__(self) -> Iterator[str]:
        with self._server.lock:
            found = [f"{name}/{key}" for name, values in sections(self._server).items() for key in values]
        return iter(found)

    def __len__(self) -> int:
        return len([*self])


def _parts(path: str) -> tuple[str, str]:
    name, slash, key = path.partition("/")
    if not (name and slash and key):
        raise KeyError(f"{path!r} is not section/key, such as 'couchdb/max_document_size'")
    return name, key


def configuration_of(server: Server) -> Configuration:
    """Return the configuration of a server, which is made when it is first needed."""
    return server.config or new_configuration(server.ids.named("uuid"), server.ids.named("secret"))


def configure(server: Server, config: Configuration, admins: dict[str, str] | None = None) -> None:
    """Replace the configuration, and the administrators if they are given."""
    before = server.settings
    assignments, keep = _changes(server, config, server.admins if admins is None else admins)
    server.journal.publish(Changes(assignments, keep=keep))
    if server.settings.peruser_enable and not before.peruser_enable:
        from couchdal.emulator.engine.auth.peruser import follow_users  # few servers have such databases

        follow_users(server)


def empty(server: Server, action: Action) -> None:
    """Forget databases and what was configured, in one step. Administrators whom the program named stay."""
    if server.config is None:
        server.empty(action)
        return
    config = Configuration.begin(server.config.base)
    assignments, keep = _changes(server, config, _admins_with(server, config))
    server.empty(action, *assignments, keep=keep)


def _changes(server: Server, config: Configuration, admins: dict[str, str]) -> tuple[list[Assignment], Keep]:
    settings = parse_settings(config.values, server.version)
    kept = {name: value for name, value in admins.items() if is_hashed(value)}

    def keep(keeper: Keeper) -> None:
        keeper.set_value("config", config.saved)
        # A password that the program gave is not stored: the program gives it again at the next start.
        keeper.set_value("admins", kept)

    return [(server, "config", config), (server, "settings", settings), (server, "admins", admins)], keep


def carry_over(server: Server, before: Configuration | None, now: Configuration | None) -> None:
    """Apply the changes between two configurations of a server to its present one."""
    first = new_configuration(server.ids.named("uuid"), server.ids.named("secret"))
    configure(server, configuration_of(server).with_changes(before or first, now or first))


def check_allowed(section: str) -> None:
    """Raise ``Forbidden`` for a section that cannot be changed."""
    if section in _DENIED:
        raise Forbidden("Config section blacklisted for modification over HTTP API.")


def sections(server: Server) -> Sections:
    """Return all sections that have values."""
    found = {name: values for name, values in configuration_of(server).values.items() if values}
    return {**found, ADMINS: section(server, ADMINS)} if server.admins else found


def section(server: Server, name: str) -> dict[str, str]:
    """Return the values of a section by key, sorted."""
    values = configuration_of(server).values.get(name, {})
    if name == ADMINS:
        values = {key: _shown(server, key) for key in server.admins}
    return dict(sorted(values.items()))


def setting(server: Server, name: str, key: str) -> str | None:
    """Return a value, or None."""
    if name == ADMINS:
        return _shown(server, key) if key in server.admins else None
    return configuration_of(server).get(name, key)


def set_value(server: Server, name: str, key: str, value: str, *, saved: bool = True) -> str:
    """Change a value, and return the old one, or an empty string. Raise ``BadRequest`` or ``Forbidden``.

    Whitespace around the value is removed, and the password of an administrator is hashed.
    """
    check_allowed(name)
    value = value.strip(_WHITESPACE)
    old = setting(server, name, key) or ""
    check_setting(name, key, value)
    admins = None
    if name == ADMINS:
        value = _hashed(server, value, salt=server.ids.named(f"salt/{key}/{value}"))
        admins = {**server.admins, key: value}
    configure(server, configuration_of(server).with_value(name, key, value, saved=saved), admins)
    return old


def delete_value(server: Server, name: str, key: str, *, saved: bool = True) -> str | None:
    """Delete a value that was set, and return it, or None. Raise ``Forbidden``."""
    check_allowed(name)
    old = setting(server, name, key)
    if old is None:
        return None
    config, admins = configuration_of(server).without(name, key, saved=saved), None
    if name == ADMINS:
        below = config.get(name, key)
        admins = {admin: value for admin, value in server.admins.items() if admin != key}
        if below is not None:
            admins[key] = below
    configure(server, config, admins)
    return old


def reload(server: Server) -> None:
    """Forget the values that were not saved."""
    config = configuration_of(server).reloaded()
    configure(server, config, _admins_with(server, config))


def _admins_with(server: Server, config: Configuration) -> dict[str, str]:
    """Return the administrators when another configuration replaces the present one."""
    changed = configuration_of(server).values.get(ADMINS, {})
    unchanged = {name: value for name, value in server.admins.items() if changed.get(name) != value}
    return {**unchanged, **config.values.get(ADMINS, {})}


def _shown(server: Server, name: str) -> str:
    """Return the hash of an administrator's password."""
    return _hashed(server, server.admins[name], salt=server.ids.named(f"salt/{name}"))


def _hashed(server: Server, value: str, salt: str) -> str:
    return value if is_hashed(value) else hash_admin(value, salt, server.settings, server.known_passwords)
