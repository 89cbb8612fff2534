"""The settings that the engine reads from the configuration, each as an attribute of its type."""

from __future__ import annotations

from math import inf

from couchdal.errors import ServerError
from couchdal.http.answers import AnswerSettings

#: Rows that a view returns if a request does not limit them.
MAX_LIMIT = 576_460_752_303_423_487


class Settings(AnswerSettings):
    """The settings of a server. The attributes of the class are CouchDB's defaults.

    ``config.parsing`` says which section and key each attribute comes from. A limit is ``inf`` if there is none, and
    ``nan`` if its value is not a number and CouchDB fails when it needs it.
    """

    max_document_size: int = 8_000_000
    max_attachment_size: float = 1_073_741_824
    max_http_request_size: int = 4_294_967_296

    #: How ids are generated, and how many a client gets at once.
    uuids_algorithm: str = "sequential"
    utc_id_suffix: str = ""
    max_uuids: int = 1000

    #: How many rows a query may ask for, and how many within a partition.
    query_limit: float = inf
    partition_query_limit: float = inf

    #: Whether a plus sign in a path is a space.
    decode_plus_to_space: bool = True
    allow_jsonp: bool = False
    #: Whether a setting changes every answer.
    changes_answers: bool = False

    #: The header ``Content-Security-Policy`` of attachments.
    attachments_csp_enable: bool = True
    attachments_csp: str = "sandbox"

    #: How new passwords of administrators are hashed.
    password_scheme: str = "pbkdf2"
    pbkdf2_prf: str = "sha256"
    iterations: int = 600_000

    def __init__(self, secret: str = "") -> None:
        #: The key that signs session cookies.
        self.secret: str = secret


def checked_limit(most: float) -> int:
    """Return the rows that a setting allows. Raise ``ServerError`` if it is not a number."""
    if most != most:
        raise ServerError("badarg", error="unknown_error")
    return MAX_LIMIT if most == inf else int(most)
