"""`fedrank serve`: answer rankings from a run folder until told to stop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fedrank.places import KeysOption, StoreOption
from fedrank.signatures import UNSIGNED, UnsignedOption

if TYPE_CHECKING:
    from fedrank.endpoint_options import EndpointOptions

CALLERS = "Who may call"
RUNNING = "Running it"


def _file(text: str, panel: str | None = None) -> typer.models.OptionInfo:
    """An option that names a file which is read when the endpoint opens."""
    option: typer.models.OptionInfo = typer.Option(help=text, dir_okay=False, rich_help_panel=panel)
    return option


Run = Annotated[Path, typer.Option(help="Run folder of `fedrank simulate`.", exists=True, file_okay=False)]
Host = Annotated[str, typer.Option(help="Address to listen on; without TLS only this machine's.")]
Port = Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one, which is printed.")]
Merchant = Annotated[
    str | None, typer.Option(help="Serve one merchant: only its catalogue and its shoppers' events.")
]
Version = Annotated[
    str | None,
    typer.Option(help="Model version to stay on; default: the promoted one, followed as it moves."),
]
PolicyFile = Annotated[Path | None, _file("TOML file of the surfaces' knobs; see docs/policy.md.")]
ShowScores = Annotated[bool, typer.Option(help="Give callers the scores too; by default only ranks leave.")]
StoredProfiles = Annotated[
    bool,
    typer.Option(help="Let requests name shoppers without --merchant, as the simulation of devices needs."),
]
TlsCert = Annotated[Path | None, _file("PEM file of the endpoint's certificate chain.", CALLERS)]
TlsKey = Annotated[Path | None, _file("PEM file of the certificate's private key.", CALLERS)]
ClientCa = Annotated[
    Path | None, _file("PEM file of the authorities that issue callers' certificates.", CALLERS)
]
Revoked = Annotated[Path | None, _file("PEM file of revocation lists; followed as it changes.", CALLERS)]
TrustDomain = Annotated[
    str, typer.Option(help="Trust domain in callers' certificates.", rich_help_panel=CALLERS)
]
Admit = Annotated[
    list[str] | None,
    typer.Option(help="Merchant to admit; repeat it. Default: that of --merchant.", rich_help_panel=CALLERS),
]
QuotaOption = Annotated[
    float | None,
    typer.Option(
        "--quota",
        help="Calls per second of each caller; without TLS none unless given.",
        rich_help_panel=CALLERS,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        help="Listen beyond this machine without TLS; only behind a TLS proxy that knows who calls.",
        rich_help_panel=CALLERS,
    ),
]
Reflection = Annotated[
    bool,
    typer.Option(help="Describe the protocol to developers who ask, for grpcurl.", rich_help_panel=CALLERS),
]
Workers = Annotated[
    int,
    typer.Option(
        help="Processes that answer on the port; one per core at most.",
        min=1,
        max=64,
        rich_help_panel=RUNNING,
    ),
]
RefreshSeconds = Annotated[
    float,
    typer.Option(
        help="How often to look for a newer model version or catalogue.", min=0.05, rich_help_panel=RUNNING
    ),
]
DrainSeconds = Annotated[
    float,
    typer.Option(help="How long calls in progress may take after a stop.", min=0, rich_help_panel=RUNNING),
]
DrainNotice = Annotated[
    float,
    typer.Option(
        help="How long calls are still taken after a stop, while health says NOT_SERVING, for balancers.",
        min=0,
        rich_help_panel=RUNNING,
    ),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        help="Offer Prometheus metrics on this port; 0 takes a free one, which is printed.",
        min=0,
        max=65535,
        rich_help_panel=RUNNING,
    ),
]
MetricsHost = Annotated[str, typer.Option(help="Address of the metrics port.", rich_help_panel=RUNNING)]
LogFormatOption = Annotated[
    Literal["text", "json"], typer.Option(help="Form of the log lines.", rich_help_panel=RUNNING)
]
AccessLogShare = Annotated[
    float,
    typer.Option("--access-log", help="Share of calls to log.", min=0, max=1, rich_help_panel=RUNNING),
]


def serve(
    context: typer.Context,
    run: Run,
    host: Host = "127.0.0.1",
    port: Port = 8443,
    merchant: Merchant = None,
    version: Version = None,
    unsigned: UnsignedOption = False,
    policy: PolicyFile = None,
    show_scores: ShowScores = False,
    stored_profiles: StoredProfiles = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    client_ca: ClientCa = None,
    revoked: Revoked = None,
    trust_domain: TrustDomain = "fedrank",
    admit: Admit = None,
    quota: QuotaOption = None,
    insecure_any_interface: Insecure = False,
    reflection: Reflection = False,
    workers: Workers = 1,
    refresh_seconds: RefreshSeconds = 5.0,
    drain_seconds: DrainSeconds = 10.0,
    drain_notice: DrainNotice = 0.0,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormatOption = "text",
    access_log: AccessLogShare = 0.0,
) -> None:
    """Answer rankings over gRPC. Prints `ready ADDRESS model VERSION`; SIGTERM or Ctrl-C stops it cleanly.

    With --metrics-port that line goes on with `metrics URL`. A model version that none of the signers in the run's
    registry/signers.pem has signed is refused, unless --unsigned is given. Shoppers' events are read from and written
    to the run's store/events.db with its keys/, unless --store and --keys name others; neither is ever made.
    """
    from fedrank.endpoint import run_endpoint
    from server.serving.logs import LogFormat, set_up_logs

    options = _options(context.params)
    set_up_logs(LogFormat(log_format), options.log_level)
    unchecked = ("" if client_ca else " (callers are not checked)") + UNSIGNED * unsigned

    def ready(address: str, model: str, metrics: str | None) -> None:
        offered = "" if metrics is None else f" metrics {metrics}"
        print(f"ready {address} model {model}{offered}{unchecked}", flush=True)

    run_endpoint(options, ready)


def _options(words: dict[str, Any]) -> EndpointOptions:
    """The command's words, which typer keeps by the names that the options have; paths are still text.

    What no endpoint can do is wrong usage.
    """
    from fedrank.endpoint_options import EndpointOptions
    from server.errors import EndpointError

    run = Path(words["run"])
    places = {
        "store": words["store"] or str(run / "store" / "events.db"),
        "keys": words["keys"] or str(run / "keys"),
        "admit": tuple(words["admit"] or ()),
    }
    try:
        return EndpointOptions(**{**words, **places}, log_level=logging.getLogger().level)
    except EndpointError as error:
        raise typer.BadParameter(str(error)) from error
