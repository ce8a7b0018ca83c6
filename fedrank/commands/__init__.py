"""The sub-commands of `fedrank`, one module each; heavy libraries are imported inside the functions."""
