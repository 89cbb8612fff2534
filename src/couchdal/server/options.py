"""The options of ``couchdal serve``: one table, read from a file, the environment and the command line.

The command line overrides the environment, which overrides the file. No message repeats a value: it may be a secret.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from couchdal.api.versions import RELEASES, parse_version
from couchdal.config import BACKENDS, INDEX_MODES
from couchdal.errors import NotConfigured

#: Whose credentials CouchDB sees: see ``proxy.identity``.
IDENTITIES = ("client", "basic", "cookie", "proxy")


class Option(NamedTuple):
    """One option. ``parse`` returns the value of a text, or raises ``ValueError`` with what the value must be.

    ``max-feeds`` is ``--max-feeds`` on the command line, ``max_feeds`` in the file and ``COUCHDAL_MAX_FEEDS`` in the
    environment, unless ``variable`` has another name. An option with ``several`` values is repeated on the command
    line, a list in the file, and separated by commas in the environment.
    """

    name: str
    parse: Callable[[str], Any]
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
    """A value and its origin: ``default``, ``file``, ``environment`` or ``flag``."""

    value: Any
    origin: str


def _text(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _item(text: str) -> str:
    if "," in text:
        raise ValueError("must be one value, so without a comma")
    return _text(text)


def _setting(text: str) -> str:
    if _SETTING.match(text) is None:
        raise ValueError("must be section/key=value")
    return text


def _between(least: int, most: int = 10**15) -> Callable[[str], int]:
    def parse(text: str) -> int:
        # The first digits decide, because Python refuses to read very long numbers.
        if not text.isdecimal() or not least <= int(text[:20]) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


_count, _limit = _between(0), _between(1)


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
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of: {', '.join(words)}")
        return text

    return parse


def _version(text: str) -> str:
    parse_version(text)
    return text


OPTIONS = (
    Option("backend", _one_of(*BACKENDS), "memory", "memory: the emulator, empty at the start;"
           " sqlite: the emulator with its data in --data; couch: a proxy for the servers in --upstream",
           metavar="|".join(BACKENDS)),
    Option("data", _text, None, "the SQLite file that keeps the data of the emulator; created if it does not exist",
           metavar="FILE"),
    Option("host", _text, "127.0.0.1", "address to listen on"),
    Option("port", _between(0, 65535), 5984, "port to listen on; 0 takes a free one"),
    Option("admin", _credentials, None, "an administrator of the emulator; without one, every client is one",
           secret=True, metavar="USER:PASSWORD"),
    Option("set", _setting, (), "a value of the emulator's configuration", secret=True, several=True,
           metavar="SECTION/KEY=VALUE"),
    Option("couchdb-version", _version, None, "the version of CouchDB that the emulator answers as (default: 3.5)",
           metavar="|".join(RELEASES)),
    Option("indexes", _one_of(*INDEX_MODES), None, "require: refuse queries that no index serves, and name the index"
           " they need", variable="DAL_INDEXES", metavar="watch|require"),
    Option("utils", _text, None, "serve the web interface in this folder, such as a build of Fauxton, at /_utils/",
           metavar="DIR"),
    Option("access-log", _switch, False, "write one line of JSON per answer to standard error"),
    Option("metrics", _switch, False, "answer GET /_couchdal/metrics in the format of Prometheus"),
    Option("cors-origins", _item, (), "an allowed CORS origin (`*` for any)", several=True, metavar="ORIGIN"),
    Option("cors-credentials", _switch, False, "allow browsers to send cookies and passwords"),
    Option("cors-headers", _item, (), "a header that browsers may send; replaces CouchDB's list", several=True),
    Option("cors-methods", _item, (), "a method that browsers may use; replaces CouchDB's list", several=True),
    Option("cors-max-age", _count, 600, "how long browsers may cache the answer to a preflight", metavar="SECONDS"),
    Option("max-http-request-size", _limit, 4_294_967_296, "largest request body", metavar="BYTES"),
    Option("max-header-size", _limit, 65536, "largest request head", metavar="BYTES"),
    Option("max-requests", _limit, 1000, "how many requests may be open at once", metavar="COUNT"),
    Option("max-client-requests", _limit, 500, "how many requests one address may have open at once", metavar="COUNT"),
    Option("max-client-feeds", _limit, 500, "how many feeds one address may have open at once", metavar="COUNT"),
    Option("max-feeds", _limit, 1000, "how many feeds may be open at once", metavar="COUNT"),
    Option("header-timeout", _seconds, 30.0, "time limit for receiving the head of a request", metavar="SECONDS"),
    Option("body-timeout", _seconds, 300.0, "time limit for receiving a body, plus a second for each 10 kB",
           metavar="SECONDS"),
    Option("send-timeout", _seconds, 60.0, "time limit for a client that does not read its answer",
           metavar="SECONDS"),
    Option("request-timeout", _seconds, 60.0, "time limit for the emulator to answer a request",
           metavar="SECONDS"),
    Option("shutdown-timeout", _seconds, 10.0, "how long open requests may take to end after SIGTERM",
           metavar="SECONDS"),
    Option("upstream", _text, (), "URL of the CouchDB behind the proxy, such as http://localhost:5984; one for each"
           " node of a cluster", variable="COUCHDB_URL", secret=True, several=True, metavar="URL"),
    Option("user", _text, None, "the proxy's account in CouchDB", variable="COUCHDB_USER"),
    Option("password", _text, None, "its password; safer in the file or the environment", variable="COUCHDB_PASSWORD",
           secret=True),
    Option("auth", _one_of(*IDENTITIES), None, "whose credentials CouchDB sees. client: the client's own;"
           " basic or cookie: the proxy's account; proxy: proxy authentication for --proxy-user"
           " (default: basic if an account is set, otherwise client)", metavar="|".join(IDENTITIES)),
    Option("proxy-secret", _text, None, "the secret for proxy authentication", secret=True),
    Option("proxy-user", _text, None, "the user for proxy authentication"),
    Option("proxy-roles", _item, (), "a role of that user", several=True),
    Option("proxy-user-header", _text, None, "a header that names the user, set by a gateway in front of the proxy"),
    Option("timeout", _seconds, 30.0, "time limit for an answer from CouchDB", variable="COUCHDB_TIMEOUT",
           metavar="SECONDS"),
    Option("connect-timeout", _seconds, 5.0, "time limit for connecting to CouchDB", metavar="SECONDS"),
    Option("max-connections", _limit, 100, "how many requests to send to each node at once, and how many long bodies;"
           " feeds do not count", metavar="COUNT"),
    Option("upstream-ca", _text, None, "file of CA certificates to trust instead of the system's", metavar="FILE"),
    Option("retries", _count, 2, "how often to resend a request that is safe to repeat", metavar="COUNT"),
    Option("breaker-failures", _limit, 5, "after this many failures in a row, a node gets no requests for a while",
           metavar="COUNT"),
    Option("breaker-pause", _seconds, 5.0, "how long such a node gets no requests", metavar="SECONDS"),
    Option("health-interval", _seconds, 10.0, "time between health checks of the nodes", metavar="SECONDS"),
    Option("allow", _text, (), "allow more than documents, queries and replication, such as 'PUT /{db}'",
           several=True, metavar="RULE"),
    Option("read-only", _switch, False, "refuse every request that changes data"),
    Option("databases", _item, (), "an allowed database; * and ? are wildcards", several=True, metavar="PATTERN"),
)  # fmt: skip
_BY_KEY = {option.key: option for option in OPTIONS}
# The options that only the proxy uses: the table's last groups.
_OF_PROXY = frozenset([*_BY_KEY][[*_BY_KEY].index("upstream") :])
# Those that only the emulator uses, and why a proxy does not.
_OF_EMULATOR = {
    "admin": "a real CouchDB has its own admins",
    "set": "a real CouchDB has its own configuration",
    "couchdb_version": "a real CouchDB has its own version",
    "data": "a real CouchDB keeps its data itself",
    "request_timeout": "--timeout limits how long a real CouchDB may take",
}
_SETTING = re.compile(r"[^/=]+/[^=]+=")
_TOML_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)\Z")


def read_options(
    flags: Mapping[str, object], environ: Mapping[str, str], file: str | None = None
) -> dict[str, Setting]:
    """Return the setting of every option by its key. Raise ``NotConfigured``.

    ``flags`` holds the options of the command line, as strings or lists of strings. ``file`` is the path of a TOML
    file.
    """
    found = {option.key: Setting(option.default, "default") for option in OPTIONS}
    if file is not None:
        found.update(_read_file(file))
    for option in OPTIONS:
        text = environ.get(option.env)
        if text:
            given = [part.strip() for part in text.split(",")] if option.several else text
            found[option.key] = Setting(_value(option, given, option.env), "environment")
        flag = flags.get(option.key)
        if flag is not None:
            found[option.key] = Setting(_value(option, flag, f"--{option.name}"), "flag")
    return found


def check_backend(settings: Mapping[str, Setting]) -> None:
    """Raise ``NotConfigured`` for an option that the chosen backend would ignore.

    Without this, a forgotten ``--backend couch`` serves an empty database that everybody may change.
    """
    backend = settings["backend"]
    embedded, data = backend.value != "couch", settings["data"]
    if backend.value == "sqlite" and data.value is None:
        raise NotConfigured("--backend sqlite needs a file: add --data FILE")
    if backend.value == "memory" and backend.origin == "flag" and data.origin == "flag":
        raise NotConfigured("--backend memory keeps no data: remove it, or remove --data")
    for option in OPTIONS:
        is_misplaced = option.key in (_OF_PROXY if embedded else _OF_EMULATOR)
        origin = settings[option.key].origin
        if origin == "default" or not is_misplaced:
            continue
        # Other programs use these variables too. A backend that is named explicitly may ignore them.
        shared = option.env.startswith("COUCHDB_") and origin == "environment"
        if shared and backend.origin != "default":
            continue
        name = {"flag": f"--{option.name}", "environment": option.env}.get(origin, option.key)
        if not embedded:
            raise NotConfigured(f"{name} is for the emulator; {_OF_EMULATOR[option.key]}: remove {name}")
        way = "--backend memory to ignore it" if shared else f"remove {name}"
        raise NotConfigured(f"{name} is for --backend couch: add --backend couch, or {way}")


def _read_file(path: str) -> Iterator[tuple[str, Setting]]:
    try:
        with open(path, "rb") as file:
            content = file.read()
        text = content.decode("utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotConfigured(f"{path}, line {line}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise NotConfigured(f"{path}{_describe(error)}") from None
    for key, value in values.items():
        place = f"{path}, line {_line_of(key, text)}"
        if key not in _BY_KEY:
            raise NotConfigured(f"{place}: unknown option `{key}`{_suggestion(key)}")
        yield key, Setting(_value(_BY_KEY[key], value, f"{place}: {key}"), "file")


def _describe(error: tomllib.TOMLDecodeError) -> str:
    # tomllib's messages quote keys and single characters, but no values.
    position = _TOML_POSITION.search(str(error))
    if position is None:
        return f": not valid TOML: {error}"
    return f", line {position[1]}, column {position[2]}: not valid TOML: {str(error)[: position.start()]}"


def _line_of(key: str, text: str) -> int:
    """Return the number of the line that sets a top-level key, or opens a table of that name."""
    name = re.escape(key)
    start = re.search(rf"^[ \t]*\[*[ \t]*(?:{name}|\"{name}\"|'{name}')[ \t]*[.=\]]", text, re.MULTILINE)
    return text.count("\n", 0, start.start() if start else 0) + 1


def _suggestion(key: str) -> str:
    from difflib import get_close_matches  # only for a mistake

    close = get_close_matches(key, _BY_KEY, 1)
    return f"; did you mean `{close[0]}`?" if close else ""


def _value(option: Option, given: object, place: str) -> object:
    if option.several:
        parts = given if isinstance(given, (list, tuple)) else [given]
        return tuple(_one(option, part, place) for part in parts)
    return _one(option, given, place)


def _one(option: Option, given: object, place: str) -> object:
    text = str(given).lower() if isinstance(given, bool) else str(given)
    if isinstance(given, (list, dict)):
        raise NotConfigured(f"{place} must be a single value")
    try:
        return option.parse(text)
    except ValueError as error:
        raise NotConfigured(f"{place} {error}") from None


def format_options(settings: Mapping[str, Setting]) -> Iterator[str]:
    """Yield the lines of a configuration file with these settings and their origins, secrets masked."""
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
        return tuple(_without_secret(part) for part in value)
    return "***"


def _without_secret(text: str) -> str:
    """Return a URL without its credentials, or a setting without its value."""
    if _SETTING.match(text):
        return f"{text.partition('=')[0]}=***"
    scheme, mark, rest = text.rpartition("://")
    return f"{scheme}{mark}***@{rest.rpartition('@')[2]}" if "@" in rest else text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    from json import dumps  # TOML's basic strings are written like JSON's

    return dumps(value, ensure_ascii=False)
