"""Kits: from one description of a federation to the folders with which its coordinator and merchants start."""
