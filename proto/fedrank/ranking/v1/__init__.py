"""Version 1 of the ranking protocol; `ranking.proto` is its reference."""
