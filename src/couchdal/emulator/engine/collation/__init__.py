"""The order of JSON values: CouchDB's collation."""
