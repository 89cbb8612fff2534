"""CouchDB's API as data: routes, parameters, and the OpenAPI description made from them. No emulator code."""
