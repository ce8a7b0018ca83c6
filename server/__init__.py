"""The coordinator of rounds, the model registry and the ranking endpoint."""
