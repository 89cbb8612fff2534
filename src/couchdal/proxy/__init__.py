"""The proxy in front of a real CouchDB: allowed requests, credentials, and nodes that fail."""
