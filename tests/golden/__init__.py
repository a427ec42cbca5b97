"""Captures and what they decode to."""
