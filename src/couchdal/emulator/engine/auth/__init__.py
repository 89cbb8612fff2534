"""Users, sessions, and the security objects of databases."""
