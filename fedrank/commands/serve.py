"""`fedrank serve`: answer rankings from a run folder until told to stop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from fedrank.places import KeysOption, StoreOption

Run = Annotated[Path, typer.Option(help="Run folder of `fedrank simulate`.", exists=True, file_okay=False)]
Host = Annotated[str, typer.Option(help="Address to listen on; without TLS only this machine's.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one, which is printed.")]
TlsCert = Annotated[Path | None, typer.Option(help="PEM file of the certificate chain.", dir_okay=False)]
TlsKey = Annotated[
    Path | None, typer.Option(help="PEM file of the certificate's private key.", dir_okay=False)
]
Merchant = Annotated[
    str | None, typer.Option(help="Serve one merchant: only its catalogue and its shoppers' events.")
]
Version = Annotated[
    str | None,
    typer.Option(help="Model version to stay on; default: the promoted one, followed as it moves."),
]
ShowScores = Annotated[bool, typer.Option(help="Give callers the scores too; by default only ranks leave.")]
Insecure = Annotated[
    bool, typer.Option(help="Listen beyond this machine without TLS; only behind a TLS proxy.")
]
Workers = Annotated[
    int, typer.Option(help="Processes that answer on the port; one per core at most.", min=1, max=64)
]


def serve(
    run: Run,
    host: Host = "127.0.0.1",
    port: Port = 8443,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    merchant: Merchant = None,
    version: Version = None,
    show_scores: ShowScores = False,
    insecure_any_interface: Insecure = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    workers: Workers = 1,
) -> None:
    """Answer rankings over gRPC. Prints `ready ADDRESS model VERSION`; SIGTERM or Ctrl-C stops it cleanly.

    Shoppers' events are read from and written to the run's store/events.db with its keys/, unless --store and --keys
    name others; neither is ever made.
    """
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("give both --tls-cert and --tls-key, or neither")
    from fedrank.endpoint import run_endpoint
    from fedrank.endpoint_options import EndpointOptions

    options = EndpointOptions(
        run=str(run),
        store=store or str(run / "store" / "events.db"),
        keys=str(keys or run / "keys"),
        merchant_id=merchant,
        version=version,
        show_scores=show_scores,
        host=host,
        port=port,
        tls_cert=None if tls_cert is None else str(tls_cert),
        tls_key=None if tls_key is None else str(tls_key),
        insecure_any_interface=insecure_any_interface,
        workers=workers,
        log_level=logging.getLogger().level,
    )
    run_endpoint(options, lambda address, model: print(f"ready {address} model {model}", flush=True))
