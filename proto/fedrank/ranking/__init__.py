"""The ranking endpoint's protocol, by version."""
