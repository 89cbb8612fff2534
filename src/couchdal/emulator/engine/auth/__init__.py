"""Users, sessions and security objects."""
