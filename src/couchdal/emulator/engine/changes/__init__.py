"""The changes feed: its rows and its text."""
