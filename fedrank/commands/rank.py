"""`fedrank rank`: ask a ranking endpoint for one list and print it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fedrank.printable import printable, printable_line
from fedrank.shopper_ids import text_given

if TYPE_CHECKING:
    from client.ranking import ClientTls
    from client.ranking_answers import Ranking
    from client.ranking_words import HistoryEvent

SurfaceName = Literal["home", "search", "detail", "cart", "new_arrivals", "promotion"]

Shopper = Annotated[
    str | None, typer.Option(help="The shopper's pseudonym, or the id that the endpoint knows them by.")
]
SurfaceOption = Annotated[SurfaceName, typer.Option(help="Where the list appears.")]
Items = Annotated[int, typer.Option("--k", "-k", help="How many items at most, 1 to 200.")]
Address = Annotated[str, typer.Option(help="HOST:PORT of the endpoint; TLS unless it is this machine.")]
TlsCa = Annotated[Path | None, typer.Option(help="PEM file of the authority that signed its certificate.")]
TlsCert = Annotated[Path | None, typer.Option(help="PEM file of your own certificate chain (mutual TLS).")]
TlsKey = Annotated[Path | None, typer.Option(help="PEM file of your certificate's private key.")]
Query = Annotated[str, typer.Option(help="Words looked for (surface search).")]
Item = Annotated[str, typer.Option(help="Item looked at (detail) or just put in the cart (cart).")]
History = Annotated[
    str | None,
    typer.Option(
        help="Events instead of a shopper: ITEM:KIND,ITEM:KIND oldest first, or a .json file with a list of "
        '{"item_id", "kind", "time"}.'
    ),
]
Session = Annotated[
    str | None, typer.Option(help="What was done just now, as --history; on cart, the basket.")
]
Segment = Annotated[int | None, typer.Option(help="Number of a segment that fits the shopper.", min=0)]
Hide = Annotated[list[str] | None, typer.Option(help="Item never to list; repeat it.")]
Category = Annotated[list[str] | None, typer.Option(help="Only items of this category; repeat it.")]
Merchant = Annotated[list[str] | None, typer.Option(help="Only items of this merchant; repeat it.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the answer, retries included.", min=0.001)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def rank(
    shopper: Shopper = None,
    surface: SurfaceOption = "home",
    k: Items = 10,
    address: Address = "127.0.0.1:8443",
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    query: Query = "",
    item: Item = "",
    history: History = None,
    session: Session = None,
    segment: Segment = None,
    hide: Hide = None,
    category: Category = None,
    merchant: Merchant = None,
    timeout: Timeout = 5.0,
    as_json: Json = False,
) -> None:
    """Ask a ranking endpoint (`fedrank serve`) for one list of items, with a reason for each."""
    from client.ranking import RankingClient
    from client.ranking_words import Question, Surface

    question = Question(
        surface=Surface(surface),
        k=k,
        shopper=None if shopper is None else text_given(shopper, "--shopper"),
        history=None if history is None else read_history(text_given(history, "--history")),
        session=() if session is None else read_history(text_given(session, "--session"), "--session"),
        segment=segment,
        hidden=hide or (),
        categories=category or (),
        merchants=merchant or (),
        query=text_given(query, "--query"),
        item_id=text_given(item, "--item"),
    )
    with RankingClient(address, tls=_tls(tls_ca, tls_cert, tls_key), timeout=timeout) as client:
        ranking = client.rank(question)
    _print_json(ranking) if as_json else _print_table(ranking)


def read_history(text: str, option: str = "--history") -> list[HistoryEvent]:
    """Events from `ITEM:KIND,...` or from a JSON file; raises `typer.BadParameter` saying what was expected."""
    from client.ranking_errors import InvalidEvent
    from client.ranking_words import HistoryEvent

    try:
        if text.endswith(".json"):
            return [HistoryEvent(**event) for event in json.loads(Path(text).read_text())]
        pairs = [pair.rpartition(":") for pair in text.split(",") if pair]
        return [HistoryEvent(item_id=item, kind=kind) for item, _, kind in pairs]
    except (OSError, ValueError, TypeError, InvalidEvent) as error:
        raise typer.BadParameter(
            f"{option} cannot be read ({error}); write ITEM:KIND,ITEM:KIND, or name a .json file with a list "
            'of {"item_id", "kind", "time"}'
        ) from error


def _tls(authority: Path | None, certificate: Path | None, key: Path | None) -> ClientTls | None:
    from client.ranking import ClientTls

    if (certificate is None) != (key is None):
        raise typer.BadParameter("give both --tls-cert and --tls-key, or neither")
    if authority is certificate is None:
        return None
    return ClientTls(authority=_read(authority), certificate=_read(certificate), key=_read(key))


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be read: {error.strerror}") from error


def _print_json(ranking: Ranking) -> None:
    from dataclasses import asdict

    print(printable(json.dumps(asdict(ranking), ensure_ascii=False)))


def _print_table(ranking: Ranking) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    def shown(text: str) -> str:
        return escape(printable_line(text))

    table = Table("rank", "item", "title", "merchant", "reason", title=f"ranking {shown(ranking.ranking_id)}")
    for item in ranking.items:
        offer = f" ({item.promotion.text})" if item.promotion and item.promotion.text else ""
        cells = [item.item_id, item.title, item.merchant_id, item.reason + offer]
        table.add_row(str(item.rank), *map(shown, cells))
    made_from = ranking.profile_source.replace("_", " ")
    table.caption = f"model {shown(ranking.model_version)}, made from: {made_from}"
    console = Console()
    console.print(table)
    for notice in ranking.notices:
        console.print(f"note: {shown(notice)}")
