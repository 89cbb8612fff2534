"""The settings that the engine reads from the configuration, each as an attribute of its type."""

from __future__ import annotations


class Settings:
    """The settings of a server. The attributes of the class are CouchDB's defaults.

    ``config.parsing`` says which section and key each attribute comes from.
    """

    #: How new passwords of administrators are hashed.
    password_scheme: str = "pbkdf2"
    pbkdf2_prf: str = "sha256"
    iterations: int = 600_000

    def __init__(self, secret: str = "") -> None:
        #: The key that signs session cookies.
        self.secret: str = secret
