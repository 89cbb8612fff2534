"""What stands before a real CouchDB: which requests pass, whose they are, and what is done when a server fails."""
