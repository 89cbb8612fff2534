"""The values of a server's configuration, by section and key. Source: ``config``.

A value has up to three origins: the server's ``base`` (CouchDB's defaults, and the options it was started with), the
values that were ``saved`` since, and values that apply only until the configuration is reloaded. A configuration is
immutable: each method returns another one. The section ``admins`` is not here, because the server keeps its
administrators itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from couchdal.errors import BadRequest

Sections: TypeAlias = Mapping[str, Mapping[str, str]]

#: The configuration of a single node: ``default.ini`` of CouchDB 3.5, and the values that its setup adds.
DEFAULTS: Final[Sections] = {
    "chttpd": {"bind_address": "127.0.0.1", "port": "5984"},
    "chttpd_auth": {"hash_algorithms": "sha256, sha"},
    "cluster": {"n": "1", "q": "1"},
    "couch_httpd_auth": {"authentication_db": "_users"},
    "couchdb": {
        "database_dir": "./data",
        "js_engine": "quickjs",
        "single_node": "true",
        "view_index_dir": "./data",
    },
    "couchdb_engines": {"couch": "couch_bt_engine"},
    "feature_flags": {"partitioned||*": "true"},
    "httpd": {"bind_address": "127.0.0.1", "port": "5986"},
    "indexers": {"couch_mrview": "true"},
    "log": {"level": "info", "writer": "stderr"},
    "nouveau": {"url": "http://127.0.0.1:5987"},
    "prometheus": {"additional_port": "false", "bind_address": "127.0.0.1", "port": "17986"},
    "smoosh": {"state_dir": "./data"},
    "vendor": {"name": "The Apache Software Foundation"},
}
# CouchDB compares bytes with the printable characters of Latin-1.
_PRINTABLE = re.compile(rb"[\t\x20-\x7e\xa0-\xff]*\Z")


class Configuration(NamedTuple):
    """The values that apply, and their origins."""

    base: Sections
    saved: Sections
    values: Sections

    @classmethod
    def begin(cls, base: Sections, saved: Sections | None = None) -> Configuration:
        """Return the configuration of a server that starts with these values."""
        return cls(base, saved or {}, merged(base, saved or {}))

    def get(self, section: str, key: str) -> str | None:
        """Return a value, or None."""
        return self.values.get(section, {}).get(key)

    def with_value(self, section: str, key: str, value: str, *, saved: bool = True) -> Configuration:
        """Return the configuration with a value."""
        kept = _with(self.saved, section, key, value) if saved else self.saved
        return Configuration(self.base, kept, _with(self.values, section, key, value))

    def without(self, section: str, key: str, *, saved: bool = True) -> Configuration:
        """Return the configuration without a value that was set. The value of a lower origin applies again."""
        kept = _without(self.saved, section, key) if saved else self.saved
        below = merged(self.base, kept).get(section, {}).get(key)
        if below is not None:
            return Configuration(self.base, kept, _with(self.values, section, key, below))
        return Configuration(self.base, kept, _without(self.values, section, key))

    def reloaded(self) -> Configuration:
        """Return the configuration without the values that were not saved."""
        return Configuration.begin(self.base, self.saved)

    def with_changes(self, before: Configuration, now: Configuration) -> Configuration:
        """Return this configuration plus what has changed between two others."""
        pairs = zip(self, before, now, strict=True)
        return Configuration(*(_changed(mine, old, new) for mine, old, new in pairs))


def new_configuration(uuid: str, secret: str) -> Configuration:
    """Return the configuration of a new server with this id and this secret, which signs its cookies."""
    base = {
        **DEFAULTS,
        "couchdb": {**DEFAULTS["couchdb"], "uuid": uuid},
        "chttpd_auth": {**DEFAULTS["chttpd_auth"], "secret": secret},
    }
    return Configuration(base, {}, base)


def check_setting(section: str, key: str, value: str) -> None:
    """Raise ``BadRequest`` for a text that CouchDB refuses. Values may be empty and may have brackets."""
    for what, text, brackets in (("section", section, False), ("key", key, False), ("value", value, True)):
        printable = _PRINTABLE.match(text.encode("utf-8", "surrogateescape"))
        if printable is None or (not brackets and ("[" in text or "]" in text)):
            raise BadRequest(f"Invalid configuration {what}")


def merged(below: Sections, above: Sections) -> Sections:
    """Return the values of both. Where both have one, that of ``above`` applies. Empty values are ignored."""
    if not above:
        return below
    return {
        name: {**below.get(name, {}), **{key: value for key, value in above.get(name, {}).items() if value}}
        for name in {**below, **above}
    }


def _with(sections: Sections, section: str, key: str, value: str) -> Sections:
    return {**sections, section: {**sections.get(section, {}), key: value}}


def _without(sections: Sections, section: str, key: str) -> Sections:
    rest = {name: value for name, value in sections.get(section, {}).items() if name != key}
    others = {name: values for name, values in sections.items() if name != section}
    return {**others, section: rest} if rest else others


def _changed(mine: Sections, old: Sections, new: Sections) -> Sections:
    if old is new:
        return mine
    for section in {**old, **new}:
        was, is_ = old.get(section, {}), new.get(section, {})
        for key in {**was, **is_}:
            if was.get(key) != is_.get(key):
                value = is_.get(key)
                mine = _without(mine, section, key) if value is None else _with(mine, section, key, value)
    return mine
