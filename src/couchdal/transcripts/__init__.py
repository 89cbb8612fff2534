"""Transcripts: parse recorded scenarios, replay them on a backend, compare answers, and record new ones."""
