"""Erlang's terms and integers: external format, order, text."""
