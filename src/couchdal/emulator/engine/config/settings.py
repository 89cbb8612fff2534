"""The settings that the engine reads from the configuration, each as an attribute of its type."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from types import MappingProxyType

from couchdal.api.versions import (
    BLOG_FRAMES,
    EXPIRING_TOKENS,
    LOCKOUT,
    NEWEST,
    SHA256_PASSWORDS,
    UPGRADED_HASHES,
    WIDE_LIMITS,
    Version,
)
from couchdal.errors import ServerError
from couchdal.http.answers import AnswerSettings
from couchdal.http.headers import PROXY_ROLES, PROXY_TOKEN, PROXY_USER

#: Rows that a view returns if a request does not limit them.
MAX_LIMIT = 576_460_752_303_423_487

#: The same before version 3.5.
OLDER_LIMIT = 268_435_456

#: CouchDB's handlers of authentication, if none are configured.
HANDLERS = ("cookie", "default")


class Settings(AnswerSettings):
    """The settings of a server. The attributes of the class are CouchDB's defaults.

    ``config.parsing`` says which section and key each attribute comes from. ``inf`` means without a limit. ``nan``
    means that the value is not a number; CouchDB fails when it needs that limit.
    """

    max_document_size: int = 8_000_000
    max_attachment_size: float = 1_073_741_824
    #: A partition of this external size or more may only shrink. 0 or less means no limit. CouchDB's default is 10 GiB,
    #: which an emulator does not reach.
    max_partition_size: int = 0
    max_http_request_size: int = 4_294_967_296

    #: How ids are generated, and how many a client gets at once.
    uuids_algorithm: str = "sequential"
    utc_id_suffix: str = ""
    max_uuids: int = 1000

    #: How many rows a query may ask for, and how many within a partition.
    query_limit: float = inf
    partition_query_limit: float = inf
    #: Whether reductions must be shorter than their input: ``true``, ``false`` or ``log``.
    reduce_limit: str = "true"

    #: Whether a plus sign in a path is a space.
    decode_plus_to_space: bool = True
    allow_jsonp: bool = False
    #: Whether a setting changes every answer.
    changes_answers: bool = False

    #: The header ``Content-Security-Policy`` of attachments.
    attachments_csp_enable: bool = True
    attachments_csp: str = "sandbox"
    #: The same header of shows, lists and updates.
    functions_csp_enable: bool = True
    functions_csp: str = "sandbox"

    @property
    def functions_policy(self) -> str | None:
        """The content policy of shows, lists and updates, or None."""
        return self.functions_csp if self.functions_csp_enable else None

    #: The handlers that look for the user of a request, in this order.
    authentication_handlers: tuple[str, ...] = HANDLERS
    #: Whether all anonymous requests are refused, and whether all but those of ``/_up`` are.
    refuses_anonymous: bool = False
    require_valid_user_except_for_up: bool = False
    #: Whether only administrators may list databases.
    admin_only_all_dbs: bool = True

    #: The database of the users. The answer of ``/_session`` names it only if it is configured.
    authentication_db: str = ""
    session_timeout_s: int = 600
    allow_persistent_cookies: bool = True
    cookie_domain: str = ""
    same_site: str = ""
    #: The hash functions that sign cookies: the first signs new ones.
    hash_algorithms: tuple[str, ...] = ("sha256", "sha1")
    allow_conflicted_user_docs: bool = False

    #: How new passwords are hashed, and which hashes are accepted.
    password_scheme: str = "pbkdf2"
    #: The hash function; empty if it is SHA-1, which user documents of older versions do not name.
    pbkdf2_prf: str = "sha256"
    iterations: int = 600_000
    min_iterations: int = 1
    max_iterations: int = 1_000_000_000
    #: The rules for new passwords, as an Erlang term.
    password_regexp: str = ""

    #: Whether a login replaces a hash that differs in kind from new ones.
    upgrade_hash_on_auth: bool = True

    #: The members of user documents that other users may read, separated by commas.
    public_fields: str = ""
    #: Whether the security object of the users database can be replaced: any text but ``false`` allows it.
    users_db_security_editable: str = "false"

    #: Whether each user gets a database, whether it is deleted with the user, and how these databases are named and
    #: split.
    peruser_enable: bool = False
    peruser_delete_dbs: bool = False
    peruser_prefix: str = "userdb-"
    peruser_q: int = 1

    lockout_mode: str = "enforce"
    lockout_threshold: int = 5

    #: The headers of proxy authentication, and whether they need a token that only the proxy can compute.
    x_auth_username: str = PROXY_USER
    x_auth_roles: str = PROXY_ROLES
    x_auth_token: str = PROXY_TOKEN
    proxy_use_secret: bool = False

    #: The claims that JSON web tokens must have, where they name the roles, and the keys that verify them, by kind and
    #: id.
    required_claims: str = "exp"
    roles_claim_name: str = "_couchdb.roles"
    roles_claim_path: str | None = None
    jwt_keys: Mapping[str, str] = MappingProxyType({})
    replicator: Mapping[str, str] = MappingProxyType({})

    #: Whether pages of other origins may read answers, and the sections that say which: ``cors``, and ``cors:HOST``
    #: for requests to a host.
    enable_cors: bool = False
    cors_sections: Mapping[str, Mapping[str, str]] = MappingProxyType({})

    def __init__(self, secret: str = "", version: Version = NEWEST) -> None:
        #: The key that signs session cookies.
        self.secret: str = secret
        #: The version of CouchDB. It decides the defaults that changed since.
        self.version: Version = version
        if version is not NEWEST:
            self._be_older(version)

    def _be_older(self, version: Version) -> None:
        """Set the defaults of an older version."""
        if not version.has(WIDE_LIMITS):
            self.query_limit = self.partition_query_limit = OLDER_LIMIT
        if not version.has(BLOG_FRAMES):
            older_csp = self.utils_csp.partition(" frame-src")[0]
            self.utils_csp: str = older_csp
            self.older_utils_csp: str = older_csp
        if not version.has(SHA256_PASSWORDS):
            self.pbkdf2_prf, self.iterations = "", 10
        if not version.has(EXPIRING_TOKENS):
            self.required_claims = ""
        if not version.has(LOCKOUT):
            self.lockout_mode = "off"
        if not version.has(UPGRADED_HASHES):
            self.upgrade_hash_on_auth = False
        # The header that names the version is different.
        self.changes_answers = True

    def restrict(self) -> None:
        """Reset the settings that the version does not have, whatever the configuration says."""
        older = Settings(version=self.version)
        if not self.version.has(WIDE_LIMITS):
            limits = self.query_limit, self.partition_query_limit
            self.query_limit, self.partition_query_limit = (one if abs(one) < inf else OLDER_LIMIT for one in limits)
        if not self.version.has(SHA256_PASSWORDS):
            self.pbkdf2_prf, self.upgrade_hash_on_auth = older.pbkdf2_prf, False
        if not self.version.has(LOCKOUT):
            self.lockout_mode = older.lockout_mode


#: The settings of a server without a configuration.
DEFAULTS = Settings()


def checked_limit(most: float) -> int:
    """Return the rows that a setting allows. Raise ``ServerError`` if it is not a number."""
    if most != most:
        raise ServerError("badarg", error="unknown_error")
    return MAX_LIMIT if most == inf else int(most)
