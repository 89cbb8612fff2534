"""CouchDB's API as data: routes, parameters, and the OpenAPI description made from them. No emulator code."""

from couchdal.api.versions import NEWEST

#: The version of CouchDB whose API this is.
VERSION = NEWEST.number
