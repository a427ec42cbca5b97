"""Tests of the Python package: what users import and type."""
