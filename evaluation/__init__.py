"""Splits, metrics, baselines and reports: the only room that sees both sides at once."""
