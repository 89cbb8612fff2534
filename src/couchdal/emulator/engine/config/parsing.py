"""From the values of a configuration to settings: which attribute has which section and key, and how it is parsed.

CouchDB ignores a value that it cannot parse, and uses its default. Source: ``config:get_integer`` and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from couchdal.emulator.engine.config.configuration import Sections
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.erlang.integers import parse_integer

_Parse: TypeAlias = Callable[[str], object]


#: The section, the key and the type of each setting. CouchDB still reads some of them from a section of older versions.
_PLACES: Final[Mapping[str, tuple[str, str, _Parse]]] = {
    "secret": ("chttpd_auth", "secret", str),
    "password_scheme": ("chttpd_auth", "password_scheme", str),
    "pbkdf2_prf": ("chttpd_auth", "pbkdf2_prf", str),
    "iterations": ("chttpd_auth", "iterations", parse_integer),
}
_OLDER: Final[Mapping[str, str]] = {"chttpd": "httpd", "chttpd_auth": "couch_httpd_auth"}


def parse_settings(values: Sections) -> Settings:
    """Return the settings that the values of a configuration make."""
    settings = Settings()
    for name, (section, key, parse) in _PLACES.items():
        text = values.get(section, {}).get(key)
        if text is None and section in _OLDER:
            text = values.get(_OLDER[section], {}).get(key)
        value = None if text is None else parse(text)
        if value is not None:
            setattr(settings, name, value)
    return settings
