"""From the values of a configuration to settings: which attribute has which section and key, and how it is parsed.

CouchDB ignores a value that it cannot parse, and uses its default. Source: ``config:get_integer`` and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, nan
from typing import Final, TypeAlias

from couchdal.emulator.engine.config.configuration import Sections
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.erlang.integers import parse_integer

_Parse: TypeAlias = Callable[[str], object]
_OLDER: Final[Mapping[str, str]] = {"chttpd": "httpd", "chttpd_auth": "couch_httpd_auth"}


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def _limit(text: str) -> float:
    """Return a limit. CouchDB parses it when it needs it, and fails then."""
    number = parse_integer(text)
    return nan if number is None and text != "infinity" else inf if number is None else number


def _algorithm(text: str) -> str | None:
    # An unknown algorithm stops a CouchDB.
    return text if text in ("sequential", "random", "utc_random", "utc_id") else None


#: The section, the key and the type of each setting.
PLACES: Final[Mapping[str, tuple[str, str, _Parse]]] = {
    "max_document_size": ("couchdb", "max_document_size", parse_integer),
    "max_attachment_size": ("couchdb", "max_attachment_size", _limit),
    "max_http_request_size": ("chttpd", "max_http_request_size", parse_integer),
    "decode_plus_to_space": ("chttpd", "decode_plus_to_space", _boolean),
    "allow_jsonp": ("chttpd", "allow_jsonp", _boolean),
    "x_forwarded_host": ("chttpd", "x_forwarded_host", str.lower),
    "x_forwarded_proto": ("chttpd", "x_forwarded_proto", str.lower),
    "x_forwarded_ssl": ("chttpd", "x_forwarded_ssl", str.lower),
    "authentication_redirect": ("chttpd_auth", "authentication_redirect", str),
    "uuids_algorithm": ("uuids", "algorithm", _algorithm),
    "utc_id_suffix": ("uuids", "utc_id_suffix", str),
    "max_uuids": ("uuids", "max_count", parse_integer),
    "query_limit": ("query_server_config", "query_limit", _limit),
    "partition_query_limit": ("query_server_config", "partition_query_limit", _limit),
    "attachments_csp_enable": ("csp", "attachments_enable", _boolean),
    "attachments_csp": ("csp", "attachments_header_value", str),
    "secret": ("chttpd_auth", "secret", str),
    "password_scheme": ("chttpd_auth", "password_scheme", str),
    "pbkdf2_prf": ("chttpd_auth", "pbkdf2_prf", str),
    "iterations": ("chttpd_auth", "iterations", parse_integer),
}
#: The settings that CouchDB does not look for in the section of older versions.
_ONLY_HERE: Final = frozenset(("decode_plus_to_space",))


def parse_settings(values: Sections) -> Settings:
    """Return the settings that the values of a configuration make."""
    settings = Settings()
    for name, (section, key, parse) in PLACES.items():
        sections = [section]
        if section in _OLDER and name not in _ONLY_HERE:
            sections.append(_OLDER[section])
        for place in sections:
            text = values.get(place, {}).get(key)
            value = None if text is None else parse(text)
            if value is not None:
                setattr(settings, name, value)
                break
    settings.changes_answers = settings.allow_jsonp
    return settings
