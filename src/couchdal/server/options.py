"""The options of ``couchdal serve``: one table, read from a file, the environment and flags, of which the later wins.

It knows what each value must look like, and nothing of what it is for. No message quotes what may be a secret.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from couchdal.config import BACKENDS, INDEX_MODES
from couchdal.errors import NotConfigured

#: Whose request CouchDB sees: see ``proxy.identity``.
IDENTITIES = ("client", "basic", "cookie", "proxy")


class Option(NamedTuple):
    """One row. ``read`` makes the value from text and raises ``ValueError``, saying what it must be.

    The flag is ``--max-feeds``, the file's key ``max_feeds``, the variable ``COUCHDAL_MAX_FEEDS`` unless ``variable``
    names another. ``several`` are given by repeated flags, a list in the file, and commas in the variable.
    """

    name: str
    read: Callable[[str], Any]
    default: Any
    purpose: str
    variable: str = ""
    secret: bool = False
    several: bool = False
    metavar: str | None = None

    @property
    def key(self) -> str:
        return self.name.replace("-", "_")

    @property
    def env(self) -> str:
        return self.variable or f"COUCHDAL_{self.key.upper()}"


class Setting(NamedTuple):
    """A value and where it is from: ``default``, ``file``, ``environment`` or ``flag``."""

    value: Any
    origin: str


def _text(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError("must be a whole number")
    return int(text)


def _port(text: str) -> int:
    port = _whole(text)
    if port > 65535:
        raise ValueError("must be a port: 0 to 65535")
    return port


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (isfinite(seconds) and seconds > 0):
        raise ValueError("must be a positive number of seconds")
    return seconds


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "1", "yes", "on")


def _credentials(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        raise ValueError("must be user:password")
    return user, password


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return text

    return read


OPTIONS = (
    Option("backend", _one_of(*BACKENDS), "memory", "memory: an embedded CouchDB, empty at the start;"
           " couch: stand before the servers that --upstream names", metavar="memory|couch"),
    Option("host", _text, "127.0.0.1", "the address to listen on"),
    Option("port", _port, 5984, "the port; 0 takes a free one"),
    Option("admin", _credentials, None, "an admin of the embedded CouchDB; without one, everybody is the admin",
           secret=True, metavar="USER:PASSWORD"),
    Option("indexes", _one_of(*INDEX_MODES), None, "require: a query that no index serves is refused, with the index"
           " that it needs", variable="DAL_INDEXES", metavar="watch|require"),
    Option("access-log", _switch, False, "write a line of JSON for each answer to standard error"),
    Option("metrics", _switch, False, "answer GET /_couchdal/metrics, for Prometheus"),
    Option("cors-origins", _text, (), "an origin that browsers may ask from; * is any", several=True),
    Option("cors-credentials", _switch, False, "have browsers send cookies and passwords"),
    Option("cors-headers", _text, (), "a header that browsers may send, in place of CouchDB's list", several=True),
    Option("cors-methods", _text, (), "a method that browsers may use, in place of CouchDB's list", several=True),
    Option("cors-max-age", _whole, 600, "for how long browsers may remember this", metavar="SECONDS"),
    Option("max-http-request-size", _whole, 4_294_967_296, "the largest body that is taken", metavar="BYTES"),
    Option("max-header-size", _whole, 65536, "the largest head of a request", metavar="BYTES"),
    Option("max-requests", _whole, 1000, "how many requests are answered at once"),
    Option("max-feeds", _whole, 1000, "how many feeds are open at once"),
    Option("header-timeout", _seconds, 30.0, "how long the head of a request may take", metavar="SECONDS"),
    Option("body-timeout", _seconds, 300.0, "how long the next part of a body may take", metavar="SECONDS"),
    Option("send-timeout", _seconds, 300.0, "how long a client may leave its answer unread", metavar="SECONDS"),
    Option("shutdown-timeout", _seconds, 10.0, "how long requests may take to end when the server is told to stop",
           metavar="SECONDS"),
    Option("upstream", _text, (), "the CouchDB to stand before, such as http://localhost:5984; more than one are the"
           " nodes of a cluster", variable="COUCHDB_URL", secret=True, several=True, metavar="URL"),
    Option("user", _text, None, "the proxy's account", variable="COUCHDB_USER"),
    Option("password", _text, None, "its password; better in the file or the environment", variable="COUCHDB_PASSWORD",
           secret=True),
    Option("auth", _one_of(*IDENTITIES), None, "whose request CouchDB sees. client: the client's own credentials pass;"
           " basic or cookie: the proxy's account; proxy: CouchDB's proxy authentication, for --proxy-user (default:"
           " basic where an account is set, else client)", metavar="|".join(IDENTITIES)),
    Option("proxy-secret", _text, None, "the secret of proxy authentication", secret=True),
    Option("proxy-user", _text, None, "who is named by proxy authentication"),
    Option("proxy-roles", _text, (), "a role of that user", several=True),
    Option("proxy-user-header", _text, None, "the header in which a gateway before the proxy names the user"),
    Option("timeout", _seconds, 30.0, "how long CouchDB may take to answer", variable="COUCHDB_TIMEOUT",
           metavar="SECONDS"),
    Option("connect-timeout", _seconds, 5.0, "how long a connection to CouchDB may take", metavar="SECONDS"),
    Option("max-connections", _whole, 100, "connections to each node, beside those of feeds"),
    Option("upstream-ca", _text, None, "a file of certificates to trust in place of the system's", metavar="FILE"),
    Option("retries", _whole, 2, "how often a request that may be repeated is sent again"),
    Option("breaker-failures", _whole, 5, "after so many failures in a row a node is left alone"),
    Option("breaker-pause", _seconds, 5.0, "for so long", metavar="SECONDS"),
    Option("health-interval", _seconds, 10.0, "how often nodes are asked whether they are well", metavar="SECONDS"),
    Option("allow", _text, (), "a rule for what passes beside documents, queries and replication, such as 'PUT /{db}'",
           several=True, metavar="RULE"),
    Option("read-only", _switch, False, "refuse whatever changes data"),
    Option("databases", _text, (), "names of databases that may be asked, with * and ?", several=True,
           metavar="PATTERN"),
)  # fmt: skip
_BY_KEY = {option.key: option for option in OPTIONS}


def read_options(
    flags: Mapping[str, object], environ: Mapping[str, str], file: str | None = None
) -> dict[str, Setting]:
    """Return the setting of every option by its key; raises ``NotConfigured``.

    ``flags`` has the options that were given as such, as text or lists of texts; ``file`` is the path of a TOML file.
    """
    found = {option.key: Setting(option.default, "default") for option in OPTIONS}
    if file is not None:
        for key, value in _read_file(file).items():
            found[key] = Setting(_value(_BY_KEY[key], value, f"{key} in {file}"), "file")
    for option in OPTIONS:
        text = environ.get(option.env)
        if text:
            given = [part.strip() for part in text.split(",")] if option.several else text
            found[option.key] = Setting(_value(option, given, option.env), "environment")
        flag = flags.get(option.key)
        if flag is not None:
            found[option.key] = Setting(_value(option, flag, f"--{option.name}"), "flag")
    return found


def _read_file(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # What the decoder says may quote the line, and the line may hold a password.
        raise NotConfigured(f"{path} is not TOML") from None
    unknown = sorted(content.keys() - _BY_KEY.keys())
    if unknown:
        raise NotConfigured(f"{path} has an option that there is not: {unknown[0]}")
    return content


def _value(option: Option, given: object, place: str) -> object:
    if option.several:
        parts = given if isinstance(given, (list, tuple)) else [given]
        return tuple(_one(option, part, place) for part in parts)
    return _one(option, given, place)


def _one(option: Option, given: object, place: str) -> object:
    text = str(given).lower() if isinstance(given, bool) else str(given)
    if isinstance(given, (list, dict)):
        raise NotConfigured(f"{place} must be one value")
    try:
        return option.read(text)
    except ValueError as error:
        raise NotConfigured(f"{place} {error}") from None


def shown(settings: Mapping[str, Setting]) -> Iterator[str]:
    """Yield the lines of a configuration file that says the same, secrets masked, and where each value is from."""
    for option in OPTIONS:
        value, origin = settings[option.key]
        if value is None:
            yield f"# {option.key} is not set"
        else:
            yield f"{option.key} = {_toml(_masked(option, value))}  # {origin}"


def _masked(option: Option, value: Any) -> Any:
    if not option.secret:
        return value
    if option.several:
        return tuple(_without_userinfo(part) for part in value)
    return "***"


def _without_userinfo(url: str) -> str:
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}***@{rest.rpartition('@')[2]}" if "@" in rest else url


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    from json import dumps  # a TOML basic string is written as a JSON string is

    return dumps(value, ensure_ascii=False)
