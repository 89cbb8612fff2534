"""Views: definitions, indexes, queries and reductions."""
