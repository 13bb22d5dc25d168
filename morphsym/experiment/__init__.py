"""Specification, the store of results, and the runner."""
