"""CouchDB's API as data: routes, parameters, and the OpenAPI description made from them. No emulator code."""

#: The version of CouchDB whose API this is.
VERSION = "3.5.0"
