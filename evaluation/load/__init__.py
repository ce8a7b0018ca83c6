"""Load on a gRPC endpoint: an open-loop generator in a process of its own, and the bare echo server beside it."""
