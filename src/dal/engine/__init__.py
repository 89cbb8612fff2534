"""CouchDB's rules: pure functions and in-process state, without I/O, clock, randomness or environment."""
