"""What the accuracy bench trains: one recipe per task, chosen on a validation cut of train, and its targets."""

from __future__ import annotations

from dataclasses import dataclass, field

from model.head import Basis
from privacy.plan import Trust


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Start and length of a training run; everything else is the default of `fedrank simulate`."""

    basis: Basis = Basis.ITEMS
    recency: float = 0.5
    prior: float = 0.25
    damping: float = 0.2
    rounds: int = 0
    dim: int = 128

    def words(self, surfaces: str = "home") -> str:
        """Return the recipe as options of `fedrank simulate`, for what is learned of `surfaces`."""
        return (
            f"--basis {self.basis} --recency {self.recency:g} --prior {self.prior:g} --damping {self.damping:g} "
            f"--rounds {self.rounds} --dim {self.dim} --surfaces {surfaces}"
        )


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One line of the table.

    Attributes:
        epsilon: None for a federation without noise.
        targets: of each metric; a metric without one is shown only.
    """

    epsilon: float | None
    recipe: Recipe
    targets: dict[str, float] = field(default_factory=dict)

    @property
    def trust(self) -> Trust:
        """Who adds noise."""
        return Trust.NONE if self.epsilon is None else Trust.CENTRAL

    @property
    def words(self) -> str:
        """The condition in words."""
        return "no noise" if self.epsilon is None else f"epsilon {self.epsilon:g}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One data set under one protocol.

    Attributes:
        cut: `last`, `given`, `sampled` (last item, 99 leak-free negatives) or `basket`.
        data: folder of the set; None for the embedded one.
        delta: None for 1 / N^1.1.
        linear: whether EASE is fitted.
        central: whether the central twin is trained, and the private model held against it.
    """

    name: str
    data: str | None
    cut: str
    metrics: tuple[str, ...]
    conditions: tuple[Condition, ...]
    delta: float | None = None
    linear: bool = True
    central: bool = False


PLAIN = Recipe(recency=0.0, prior=0.0)
RECENT = Recipe(recency=1.0, prior=0.0)
BASKET = Recipe(prior=0.0, damping=0.3)
BY_CONTENT = Recipe(basis=Basis.CONTENT, recency=1.0, prior=0.0)

TASKS: tuple[Task, ...] = (
    Task(
        name="ml-1m-lcfn, published split",
        data="ml-1m-lcfn",
        cut="given",
        metrics=("recall@20", "ndcg@20"),
        delta=1e-5,
        conditions=(
            Condition(
                epsilon=None,
                recipe=Recipe(recency=0.0, prior=0.0, damping=0.1, dim=1024),
                targets={"recall@20": 0.285, "ndcg@20": 0.272},
            ),
            Condition(epsilon=8.0, recipe=PLAIN, targets={"recall@20": 0.250}),
            Condition(epsilon=3.0, recipe=Recipe(recency=0.0, damping=0.3), targets={"recall@20": 0.225}),
            Condition(
                epsilon=1.0, recipe=Recipe(recency=0.0, prior=0.5, damping=0.3), targets={"recall@20": 0.188}
            ),
        ),
    ),
    Task(
        name="ml-100k, last item, 99 leak-free negatives",
        data="ml-100k",
        cut="sampled",
        metrics=("sampled99_recall@10",),
        conditions=(Condition(epsilon=None, recipe=RECENT, targets={"sampled99_recall@10": 0.69}),),
    ),
    Task(
        name="ml-100k, last new item",
        data="ml-100k",
        cut="last",
        metrics=("ndcg@10", "recall@20"),
        conditions=(
            Condition(epsilon=None, recipe=RECENT),
            Condition(epsilon=8.0, recipe=RECENT, targets={"ndcg@10": 0.064}),
        ),
    ),
    Task(
        name="online-retail, last new item",
        data="online-retail",
        cut="last",
        metrics=("ndcg@10", "recall@20"),
        conditions=(
            Condition(epsilon=None, recipe=RECENT),
            Condition(epsilon=8.0, recipe=BY_CONTENT, targets={"ndcg@10": 0.062}),
            Condition(epsilon=3.0, recipe=BY_CONTENT),
            Condition(epsilon=1.0, recipe=BY_CONTENT),
        ),
    ),
    Task(
        name="amazon18-industrial, last new item",
        data="amazon18-industrial",
        cut="last",
        metrics=("ndcg@10", "recall@20"),
        conditions=(
            Condition(epsilon=None, recipe=BY_CONTENT),
            Condition(epsilon=8.0, recipe=BY_CONTENT, targets={"ndcg@10": 0.055}),
            Condition(epsilon=3.0, recipe=BY_CONTENT),
            Condition(epsilon=1.0, recipe=BY_CONTENT),
        ),
    ),
    Task(
        name="retailrocket-mb, held-out purchases",
        data="retailrocket-mb",
        cut="given",
        metrics=("ndcg@10", "recall@20"),
        linear=False,
        conditions=(Condition(epsilon=None, recipe=Recipe()), Condition(epsilon=8.0, recipe=Recipe())),
    ),
    Task(
        name="completejourney (published as simulated), next basket",
        data=None,
        cut="basket",
        metrics=("recall@20", "ndcg@10"),
        linear=False,
        central=True,
        conditions=(Condition(epsilon=None, recipe=BASKET), Condition(epsilon=8.0, recipe=BASKET)),
    ),
)
