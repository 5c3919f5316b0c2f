"""Holds: credits reserved for usage that is under way."""
