"""CouchDB's rules, grouped as CouchDB's own source is. Pure: no I/O, clock, randomness or event loop."""
