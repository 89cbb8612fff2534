"""Replication: CouchDB's replicator, over requests to a source and a target."""
