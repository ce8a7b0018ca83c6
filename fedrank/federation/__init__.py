"""Runs a federation's processes: supervises children, and knows which ones a kit needs."""
