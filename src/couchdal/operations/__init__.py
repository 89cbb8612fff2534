"""CouchDB's endpoints as calls that either client can make."""
