"""One worker process of `fedrank serve --workers N`; `server/serving/workers.py` starts it and says how they talk."""

from __future__ import annotations

import sys

from fedrank.exits import reporting


def main() -> None:
    """Serve until told to stop, or until the parent is gone."""
    from fedrank.endpoint import serve_here
    from fedrank.endpoint_options import EndpointOptions
    from server.serving.logs import LogFormat, set_up_logs

    options = EndpointOptions.from_json(sys.stdin.readline())
    set_up_logs(LogFormat(options.log_format), options.log_level)
    serve_here(options, lambda _, version, __: print(f"ready {version}", flush=True), sys.stdin)


if __name__ == "__main__":
    reporting(main)
