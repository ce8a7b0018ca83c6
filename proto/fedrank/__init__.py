"""Protocols of fedrank."""
