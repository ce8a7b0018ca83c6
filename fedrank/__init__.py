"""fedrank: the command line, and the only room that puts all the others together."""

__version__ = "0.1.0"
