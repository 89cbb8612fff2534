"""Mango: selectors, indexes, and the queries that use them."""
