"""Pairing, estimands, tests, intervals and corrections."""
