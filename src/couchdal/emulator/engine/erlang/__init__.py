"""Erlang's terms: their external format, their order, and their text."""
