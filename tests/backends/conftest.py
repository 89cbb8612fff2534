"""Handles on every backend, for the tests of this folder."""

from handles import backend, couch, dal, plain_environment

__all__ = ["backend", "couch", "dal", "plain_environment"]
