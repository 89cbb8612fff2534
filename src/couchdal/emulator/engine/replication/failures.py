"""The errors of replications. Their reasons are Erlang terms.

Sources: ``chttpd:error_info``, ``couch_replicator_parse``.
"""

from __future__ import annotations

from typing import Final

from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm, pretty_term, print_reason
from couchdal.errors import ServerError

UNKNOWN: Final = "unknown_error"


class Malformed(ServerError):
    """A replication that cannot be parsed. ``text`` is how a replication document reports it."""

    text = ""


def malformed(term: object, *, is_thrown: bool = False) -> Malformed:
    """Return the error for what CouchDB throws, or for an error that it makes."""
    word, reason = UNKNOWN, term
    if is_thrown:
        word, reason = "case_clause", pretty_term(term)
    elif isinstance(term, TupleTerm):
        word, reason = str(term[0]), term[1]
    if reason is None:
        word, reason = UNKNOWN, word
    shown = print_reason(reason)
    error = Malformed(shown if isinstance(shown, str) else pretty_term(shown), error=word)
    error.text = pretty_term(TupleTerm((Atom("throw" if is_thrown else "error"), term)))
    return error


class Failed(ServerError):
    """A replication that could not begin or go on. CouchDB traces none of these errors.

    ``term`` is what CouchDB threw. It is shown if a filter function could not be fetched.
    """

    is_traced = False
    term: object = None


def failed(word: str, reason: str, *, status: int = 500, term: object = None) -> Failed:
    """Return the error of a replication that could not begin or go on."""
    error = Failed(reason, status=status, error=word)
    error.term = TupleTerm((Atom(word), reason)) if term is None else term
    return error


def term_failure(*term: object, word: str = "error") -> Failed:
    """Return the error whose reason is an Erlang tuple."""
    return failed(word, pretty_term(TupleTerm(term)))


def text_term(text: str) -> Atom:
    """Return a text that is printed as Erlang prints an array of characters."""
    return Atom(f'"{text}"')


def badarg() -> Malformed:
    """Return the error for an argument that a function of Erlang does not accept."""
    return malformed(Atom("badarg"))


def function_clause() -> Malformed:
    """Return the error for a value of a type that CouchDB does not expect."""
    return malformed(Atom("function_clause"))


def badmatch(value: object) -> Malformed:
    """Return the error for a value that is not an object, or not the result that CouchDB expects."""
    return malformed(TupleTerm((Atom("badmatch"), value)))
