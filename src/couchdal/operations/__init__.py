"""The clients' methods, in groups. ``tools/make_async_operations.py`` generates the ``async_`` modules."""
