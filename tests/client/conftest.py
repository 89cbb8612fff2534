"""Fixtures of this folder: handles on every backend."""

from handles import backend, couch, dal, plain_environment

__all__ = ["backend", "couch", "dal", "plain_environment"]
