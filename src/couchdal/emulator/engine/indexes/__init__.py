"""Indexes of a database: how they follow it, and the object that keeps them."""
