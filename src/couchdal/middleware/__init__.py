"""Middleware between callers and backends: one mechanism, and the tools that use it."""
