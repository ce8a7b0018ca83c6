"""The ranking endpoint: catalogue, item index, rankings with reasons, gRPC service."""
