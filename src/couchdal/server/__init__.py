"""The HTTP server: one ASGI application for any backend, and what `couchdal serve` adds to it."""
