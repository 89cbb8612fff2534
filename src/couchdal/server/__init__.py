"""The HTTP server: one ASGI application for any backend, and ``couchdal serve``."""
