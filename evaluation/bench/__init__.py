"""Benches: what fedrank is measured against, each a module with one function `run`; see docs/benches.md."""
