"""Parse settings from the values of a configuration: the section, the key and the type of each setting.

CouchDB ignores a value that it cannot parse, and uses its default. Source: ``config:get_integer`` and the like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import inf, nan
from typing import Final, TypeAlias

from couchdal.api.versions import NEWEST, Version
from couchdal.emulator.engine.config.configuration import Sections
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.erlang.integers import parse_integer

_Parse: TypeAlias = Callable[[str], object]
_HANDLER = re.compile(r"\{\s*\w+\s*,\s*([a-z]+)_\w*\s*\}")
_KNOWN_HANDLERS = frozenset(("cookie", "default", "jwt", "null", "proxy"))
_COMMA = re.compile(r"\s*,\s*")
#: Erlang's names of hash functions, and Python's.
_HASHES: Final[Mapping[str, str]] = {
    "md5": "md5",
    "sha": "sha1",
    "sha224": "sha224",
    "sha256": "sha256",
    "sha384": "sha384",
    "sha512": "sha512",
    **{name: name for name in ("sha3_224", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s")},
}
_OLDER: Final[Mapping[str, str]] = {"chttpd": "httpd", "chttpd_auth": "couch_httpd_auth"}


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text)


def _limit(text: str) -> float:
    """Return a limit, or ``nan`` for other texts: CouchDB parses a limit only when it needs it, and then fails."""
    number = parse_integer(text)
    return nan if number is None and text != "infinity" else inf if number is None else number


def _algorithm(text: str) -> str | None:
    # An unknown algorithm stops a CouchDB.
    return text if text in ("sequential", "random", "utc_random", "utc_id") else None


def _named_functions(text: str) -> tuple[str, ...]:
    """Return the names of handlers: the beginnings of the names of their functions."""
    return tuple(name for name in _HANDLER.findall(text) if name in _KNOWN_HANDLERS)


def _hash_algorithms(text: str) -> tuple[str, ...]:
    """Return the names of the hash functions that exist. CouchDB uses SHA-1 if none does."""
    return tuple(_HASHES[name] for name in _COMMA.split(text) if name in _HASHES) or ("sha1",)


#: The section, the key and the type of each setting.
PLACES: Final[Mapping[str, tuple[str, str, _Parse]]] = {
    "max_document_size": ("couchdb", "max_document_size", parse_integer),
    "max_attachment_size": ("couchdb", "max_attachment_size", _limit),
    "max_partition_size": ("couchdb", "max_partition_size", parse_integer),
    "max_http_request_size": ("chttpd", "max_http_request_size", parse_integer),
    "decode_plus_to_space": ("chttpd", "decode_plus_to_space", _boolean),
    "allow_jsonp": ("chttpd", "allow_jsonp", _boolean),
    "enable_cors": ("chttpd", "enable_cors", _boolean),
    "x_forwarded_host": ("chttpd", "x_forwarded_host", str.lower),
    "x_forwarded_proto": ("chttpd", "x_forwarded_proto", str.lower),
    "x_forwarded_ssl": ("chttpd", "x_forwarded_ssl", str.lower),
    "authentication_redirect": ("chttpd_auth", "authentication_redirect", str),
    "uuids_algorithm": ("uuids", "algorithm", _algorithm),
    "utc_id_suffix": ("uuids", "utc_id_suffix", str),
    "max_uuids": ("uuids", "max_count", parse_integer),
    "query_limit": ("query_server_config", "query_limit", _limit),
    "partition_query_limit": ("query_server_config", "partition_query_limit", _limit),
    "reduce_limit": ("query_server_config", "reduce_limit", str),
    "attachments_csp_enable": ("csp", "attachments_enable", _boolean),
    "attachments_csp": ("csp", "attachments_header_value", str),
    "functions_csp_enable": ("csp", "showlist_enable", _boolean),
    "functions_csp": ("csp", "showlist_header_value", str),
    "utils_csp_enable": ("csp", "utils_enable", _boolean),
    "utils_csp": ("csp", "utils_header_value", str),
    "older_utils_csp_enable": ("csp", "enable", _boolean),
    "older_utils_csp": ("csp", "header_value", str),
    "secret": ("chttpd_auth", "secret", str),
    "authentication_handlers": ("chttpd", "authentication_handlers", _named_functions),
    "require_valid_user": ("chttpd", "require_valid_user", _boolean),
    "refuses_anonymous": ("chttpd", "require_valid_user", _boolean),
    "require_valid_user_except_for_up": ("chttpd", "require_valid_user_except_for_up", _boolean),
    "admin_only_all_dbs": ("chttpd", "admin_only_all_dbs", _boolean),
    "authentication_db": ("chttpd_auth", "authentication_db", str),
    "session_timeout_s": ("chttpd_auth", "timeout", parse_integer),
    "allow_persistent_cookies": ("chttpd_auth", "allow_persistent_cookies", _boolean),
    "cookie_domain": ("chttpd_auth", "cookie_domain", str),
    "same_site": ("chttpd_auth", "same_site", str.lower),
    "hash_algorithms": ("chttpd_auth", "hash_algorithms", _hash_algorithms),
    "allow_conflicted_user_docs": ("chttpd_auth", "allow_conflicted_user_docs", _boolean),
    "upgrade_hash_on_auth": ("chttpd_auth", "upgrade_hash_on_auth", _boolean),
    "public_fields": ("chttpd_auth", "public_fields", str),
    "users_db_security_editable": ("couchdb", "users_db_security_editable", str),
    "peruser_enable": ("couch_peruser", "enable", _boolean),
    "peruser_delete_dbs": ("couch_peruser", "delete_dbs", _boolean),
    "peruser_prefix": ("couch_peruser", "database_prefix", str),
    "peruser_q": ("couch_peruser", "q", parse_integer),
    "min_iterations": ("chttpd_auth", "min_iterations", parse_integer),
    "max_iterations": ("chttpd_auth", "max_iterations", parse_integer),
    "password_regexp": ("chttpd_auth", "password_regexp", str),
    "x_auth_username": ("chttpd_auth", "x_auth_username", str.lower),
    "x_auth_roles": ("chttpd_auth", "x_auth_roles", str.lower),
    "x_auth_token": ("chttpd_auth", "x_auth_token", str.lower),
    "proxy_use_secret": ("chttpd_auth", "proxy_use_secret", _boolean),
    "lockout_mode": ("chttpd_auth_lockout", "mode", str),
    "lockout_threshold": ("chttpd_auth_lockout", "threshold", parse_integer),
    "required_claims": ("jwt_auth", "required_claims", str),
    "roles_claim_name": ("jwt_auth", "roles_claim_name", str),
    "roles_claim_path": ("jwt_auth", "roles_claim_path", str),
    "password_scheme": ("chttpd_auth", "password_scheme", str),
    "pbkdf2_prf": ("chttpd_auth", "pbkdf2_prf", str),
    "iterations": ("chttpd_auth", "iterations", parse_integer),
}
#: The settings that CouchDB does not look up in the section that older versions had for them.
_ONLY_HERE: Final = frozenset(
    (
        *("admin_only_all_dbs", "allow_conflicted_user_docs", "authentication_db", "authentication_handlers"),
        *("decode_plus_to_space", "refuses_anonymous", "require_valid_user_except_for_up"),
    )
)
#: A section in which every key has an effect.
JWT_KEYS: Final = "jwt_keys"
#: The section of the origins. Sections named ``cors:HOST`` are for one host.
CORS: Final = "cors"
#: The keys of these sections.
CORS_KEYS: Final = ("credentials", "exposed_headers", "headers", "max_age", "methods", "origins")

#: The section of replications, and its keys.
REPLICATOR: Final = "replicator"
REPLICATOR_KEYS: Final = (
    *("auth_plugins", "checkpoint_interval", "connection_timeout", "health_threshold", "interval", "max_churn"),
    *("max_document_id_length", "max_history", "max_jobs", "retries_per_request", "use_bulk_get", "use_checkpoints"),
    *("valid_endpoint_protocols", "valid_proxy_protocols", "worker_batch_size"),
)


def parse_settings(values: Sections, version: Version) -> Settings:
    """Return the settings for the values of a configuration, in a version of CouchDB."""
    settings = Settings(version=version)
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
    settings.changes_answers = settings.allow_jsonp or settings.enable_cors or version is not NEWEST
    if version is not NEWEST:
        settings.restrict()
    settings.replicator = values.get(REPLICATOR, {})
    settings.jwt_keys = values.get(JWT_KEYS, {})
    settings.cors_sections = {name: keys for name, keys in values.items() if name.partition(":")[0] == CORS}
    return settings
