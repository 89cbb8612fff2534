"""The emulator: CouchDB 3.5 in this process. Dispatch, endpoints, engine, storage."""
