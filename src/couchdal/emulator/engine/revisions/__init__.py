"""Revision ids and revision trees."""
