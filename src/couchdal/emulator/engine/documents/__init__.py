"""Documents: how they are written, read, listed and purged."""
