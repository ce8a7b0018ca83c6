"""Bounds of the ranking protocol that a shop's client and the endpoint both keep; `ranking.proto` says where."""

MAX_ID_CHARACTERS = 256
"""Of an id of an item, a shopper, an event or a ranking."""
MAX_TIMESTAMP = 253_402_300_799
"""Unix seconds: the last second of the year 9999, where the protocol's timestamps end."""
