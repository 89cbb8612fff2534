"""The order of JSON values."""
