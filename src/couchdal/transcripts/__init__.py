"""Recorded scenarios: how they are read, replayed through a backend, compared, and recorded from a server."""
