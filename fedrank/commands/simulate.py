"""`fedrank simulate`: a whole federation on one machine, private by default, with a report."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedrank.progress import progress

if TYPE_CHECKING:
    from evaluation.settings import ExperimentSettings


class Participants(StrEnum):
    """Who takes part."""

    MERCHANTS = "merchants"
    SHOPPERS = "shoppers"
    BOTH = "both"


class Trust(StrEnum):
    """Who adds the noise."""

    DISTRIBUTED = "distributed"
    CENTRAL = "central"
    LOCAL = "local"
    NONE = "none"


class SumsName(StrEnum):
    """How sums are made."""

    FULL = "full"
    IDEAL = "ideal"


class LossName(StrEnum):
    """What the gradient rounds minimise."""

    SAMPLED_SOFTMAX = "sampled_softmax"
    BPR = "bpr"
    FOCAL_BCE = "focal_bce"


class TowerName(StrEnum):
    """How a history becomes a user vector."""

    POOLING = "pooling"
    ATTENTION = "attention"


class SplitName(StrEnum):
    """How events are held out."""

    TIME = "time"
    LAST = "last"
    GIVEN = "given"


class ProtocolName(StrEnum):
    """Who competes with a held-out item."""

    FULL = "full"
    SAMPLED = "sampled"


class EncoderWord(StrEnum):
    """What makes features of the public catalogue."""

    HASHED = "hashed"
    MULTILINGUAL = "multilingual"


class BasisName(StrEnum):
    """In which axes histories are compared."""

    ITEMS = "items"
    CONTENT = "content"


class SurfacesName(StrEnum):
    """What a run learns."""

    HOME = "home"
    BASKETS = "baskets"
    ALL = "all"


Data = Annotated[
    Path | None, typer.Option(help="Folder or file of events; default: the embedded, simulated set.")
]
MappingFile = Annotated[Path | None, typer.Option(help="TOML file that maps files, columns and kinds.")]
Columns = Annotated[
    list[str] | None, typer.Option(help="Map a column, as in user_id=customer; may be repeated.")
]
Out = Annotated[Path, typer.Option(help="Run folder; its keys and ledger are kept from run to run.")]
LedgerPlace = Annotated[
    str | None,
    typer.Option(help="Ledger: SQLite file or database URL; default: ledger.db in the run folder."),
]
ParticipantsOption = Annotated[Participants, typer.Option(help="Who takes part.")]
TrustOption = Annotated[
    Trust,
    typer.Option(
        help="Who adds the noise: every participant a share, the coordinator, or every participant enough for "
        "itself; `none` protects nobody and says so everywhere."
    ),
]
Epsilon = Annotated[float, typer.Option(help="A shopper's total budget on this ledger.")]
Delta = Annotated[float | None, typer.Option(help="Default: 1 / shoppers^1.1.")]
Rounds = Annotated[int, typer.Option(help="Gradient rounds after those of statistics.")]
SplitOption = Annotated[
    SplitName | None, typer.Option(help="How events are held out; default: what fits the data.")
]
ProtocolOption = Annotated[ProtocolName, typer.Option(help="`sampled` judges against 99 drawn items only.")]
Curve = Annotated[
    str, typer.Option(help="Further epsilons to simulate for the chart, separated by commas; '' for none.")
]
MinimumCohort = Annotated[
    int | None,
    typer.Option(
        help="Fewest participants whose sum is released; default: 80 % of them under trust `distributed`, else 5."
    ),
]
SumsOption = Annotated[
    SumsName,
    typer.Option(help="`full` runs secure aggregation between simulated nodes; `ideal` adds up in the open."),
]
CohortSize = Annotated[int, typer.Option(help="Devices that one message serves.")]
Dim = Annotated[int, typer.Option(help="Length of item and user embeddings.")]
LossOption = Annotated[LossName, typer.Option(help="What the gradient rounds minimise.")]
UserTowerOption = Annotated[
    TowerName, typer.Option(help="`attention` also weighs past events by the newest one.")
]
EncoderOption = Annotated[
    EncoderWord, typer.Option(help="Reads the catalogue's words; `multilingual` needs the extra `text`.")
]
BasisOption = Annotated[
    BasisName, typer.Option(help="Compare histories by single items, or by the public content of items.")
]
Recency = Annotated[
    float, typer.Option(help="A past event first weighs 1 / place^this, the newest in place 1.")
]
Prior = Annotated[float, typer.Option(help="What a step in log popularity first adds to a score.")]
SurfacesOption = Annotated[
    SurfacesName,
    typer.Option(
        help="`baskets` also learns what is taken together, `all` also what a score is made of on each surface."
    ),
]
Damping = Annotated[float, typer.Option(help="Item vectors first count popularity^-this.")]
Seed = Annotated[int, typer.Option(help="Of everything random but the noise.")]
NoiseSeed = Annotated[int | None, typer.Option(help="Repeatable noise, for tests only; the report says so.")]
PlanOnly = Annotated[
    bool, typer.Option("--plan", help="Print how the budget would be split, and stop: nothing is charged.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the report, or the plan, as one JSON object only.")]


def simulate(
    data: Data = None,
    mapping: MappingFile = None,
    column: Columns = None,
    out: Out = Path("runs/latest"),
    ledger: LedgerPlace = None,
    participants: ParticipantsOption = Participants.SHOPPERS,
    trust: TrustOption = Trust.DISTRIBUTED,
    epsilon: Epsilon = 8.0,
    delta: Delta = None,
    rounds: Rounds = 12,
    split: SplitOption = None,
    protocol: ProtocolOption = ProtocolName.FULL,
    curve: Curve = "1,3",
    minimum_cohort: MinimumCohort = None,
    cohort_size: CohortSize = 512,
    secure_aggregation: SumsOption = SumsName.IDEAL,
    dim: Dim = 128,
    loss: LossOption = LossName.SAMPLED_SOFTMAX,
    user_tower: UserTowerOption = TowerName.POOLING,
    encoder: EncoderOption = EncoderWord.HASHED,
    basis: BasisOption = BasisName.ITEMS,
    recency: Recency = 0.5,
    prior: Prior = 0.25,
    damping: Damping = 0.2,
    surfaces: SurfacesOption = SurfacesName.BASKETS,
    seed: Seed = 0,
    noise_seed: NoiseSeed = None,
    plan: PlanOnly = False,
    as_json: Json = False,
) -> None:
    """Run a federated simulation and write a run folder: report, model, catalogue, encrypted events, ledger."""
    words = dict(locals())
    del words["plan"], words["as_json"]
    settings = _settings(**words)
    found = _planned(settings) if plan else _run(settings)
    _tell(found, out, plan=plan, as_json=as_json)


def _tell(found: dict[str, Any], out: Path, *, plan: bool, as_json: bool) -> None:
    """Print a report, or a plan, as JSON or for people."""
    if as_json:
        typer.echo(json.dumps(found))
    elif plan:
        _show_plan(found)
    else:
        _show(found, out)


def _run(settings: ExperimentSettings) -> dict[str, Any]:
    from evaluation.simulate import simulate as run

    with progress() as watch:
        return run(settings, watch)


def _planned(settings: ExperimentSettings) -> dict[str, Any]:
    from evaluation.planning import planned

    with progress() as watch:
        return planned(settings, watch)


def _settings(
    *, mapping: Path | None, column: list[str] | None, curve: str, cohort_size: int, **words: Any
) -> ExperimentSettings:
    """Turn the command's options, by their names, into settings with the rooms' enums."""
    from evaluation.protocol import Protocol
    from evaluation.settings import ExperimentSettings, Surfaces
    from evaluation.split import SplitKind
    from model.encoders import EncoderName
    from model.head import Basis
    from model.losses import Loss
    from model.schema import UserTower
    from privacy.plan import Trust as TrustModel
    from server.coordination.config import Participants as Kind
    from simulation.federated import SecureAggregation

    words["loss"] = Loss(words["loss"])
    words["user_tower"] = UserTower(words["user_tower"])
    words["encoder"] = EncoderName(words["encoder"])
    words["basis"] = Basis(words["basis"])
    words["surfaces"] = Surfaces(words["surfaces"])
    words["participants"] = Kind(words["participants"])
    words["trust"] = TrustModel(words["trust"])
    words["secure_aggregation"] = SecureAggregation(words["secure_aggregation"])
    words["protocol"] = Protocol(words["protocol"])
    words["split"] = None if words["split"] is None else SplitKind(words["split"])
    return ExperimentSettings(
        mapping=_mapping(words["data"], mapping, column or []),
        curve=_curve(curve),
        devices_per_message=cohort_size,
        **words,
    )


def _mapping(data: Path | None, file: Path | None, columns: list[str]) -> Any:
    """Return how the user's files are to be read; None for the embedded set."""
    if data is None:
        if file or columns:
            raise typer.BadParameter("--mapping and --column need --data")
        return None
    from simulation.data import find_mapping

    return find_mapping(data, file=file, columns=columns)


def _curve(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"--curve is {text!r}; give numbers separated by commas") from None
    if any(not 0 < value < float("inf") for value in values):
        raise typer.BadParameter(f"--curve is {text!r}; every epsilon must be positive and finite")
    return values


def _show(report: dict[str, Any], out: Path) -> None:
    from rich.console import Console

    from evaluation.report_text import render

    console = Console()
    console.print(render(report))
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, markup=False, highlight=False)


def _show_plan(plan: dict[str, Any]) -> None:
    from rich.console import Console

    from fedrank.plan_table import render_plan

    Console().print(render_plan(plan))
