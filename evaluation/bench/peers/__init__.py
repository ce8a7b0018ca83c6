"""Other simulators on the same work, each in a process of its own: `python -m evaluation.bench.peers`."""
