"""The torch tower: the same loss as the closed form, in a shape that Opacus can differentiate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tower_world import histories_of, random_examples, random_log_q, random_vectors, random_weights

from model.errors import ShapeError
from model.features import HISTORY_LIMIT, KINDS, Context, moments
from model.gradient import ITEM_VECTORS, cohort_gradient
from model.losses import Loss
from model.sampling import NEGATIVES, TARGET_LIMIT, Examples
from model.torch_tower import LARGEST_INDEX, PARAMETERS, SECTIONS, TowerLoss, pack

ITEMS, DIM = 9, 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.sampled_from([0, 2, 100]), st.sampled_from(Loss))
def test_both_implementations_give_the_same_loss(seed: int, shoppers: int, longest: int, loss: Loss) -> None:
    """Torch and the closed form agree for every shopper, those without targets included."""
    random = np.random.default_rng(seed)
    weights = random_weights(random, items=ITEMS, dim=DIM)
    vectors = random_vectors(random, items=ITEMS, dim=DIM)
    log_q = random_log_q(random, ITEMS)
    examples = random_examples(random, shoppers=shoppers, items=ITEMS, longest=longest)
    losses = TowerLoss(weights, vectors, log_q, frozenset(), loss)(torch.from_numpy(pack(examples)))
    expected = cohort_gradient(weights, vectors, examples, log_q, loss).losses
    assert losses.shape == (shoppers, 1)
    np.testing.assert_allclose(losses.numpy()[:, 0], expected, rtol=1e-4, atol=1e-5)


def test_a_packed_row_holds_the_newest_event_first_and_minus_one_where_nothing_is() -> None:
    """One row per shopper: items, kinds, positions, ages, context, targets, negatives."""
    history = histories_of([(7, "purchase", 0), (5, "dismiss", 86_400)], [])
    targets = np.full((2, TARGET_LIMIT), -1)
    targets[0, 0] = 4
    negatives = np.full((2, NEGATIVES), 6)
    looks = moments([Context(timestamp=3 * 86_400), Context(surface="detail")])
    packed = pack(Examples(history, looks, targets, negatives))
    assert packed.dtype == np.float32 and packed.shape == (2, sum(SECTIONS))
    items, kinds, positions, ages, codes, wanted, unwanted = np.split(
        packed, np.cumsum(SECTIONS)[:-1], axis=1
    )
    absent = [-1.0] * (HISTORY_LIMIT - 2)
    assert items[0].tolist() == [5, 7, *absent]
    assert kinds[0].tolist() == [KINDS.index("dismiss"), KINDS.index("purchase"), *absent]
    assert positions[0].tolist() == [0, 1, *absent]
    assert ages[0].tolist() == [1, 2, *absent]
    assert codes[1].tolist() == [2, -1, -1, -1]
    assert wanted[0].tolist() == [4] + [-1] * (TARGET_LIMIT - 1)
    assert unwanted[1].tolist() == [6] * NEGATIVES
    assert (items[1] == -1).all()


def test_only_what_is_trained_is_a_parameter_and_nothing_is_a_buffer() -> None:
    """Opacus' functorch path differentiates parameters; a buffer would stop it."""
    random = np.random.default_rng(1)
    weights, vectors = (
        random_weights(random, items=ITEMS, dim=DIM),
        random_vectors(random, items=ITEMS, dim=DIM),
    )
    for trained in (frozenset({"gain"}), frozenset({*PARAMETERS, ITEM_VECTORS})):
        module = TowerLoss(weights, vectors, random_log_q(random, ITEMS), trained)
        assert {name for name, _ in module.named_parameters()} == trained
        assert not list(module.buffers())


def test_training_never_changes_the_weights_it_was_given() -> None:
    """The module holds copies: a local step must not move the public model in memory."""
    random = np.random.default_rng(2)
    weights, vectors = (
        random_weights(random, items=ITEMS, dim=DIM),
        random_vectors(random, items=ITEMS, dim=DIM),
    )
    before = {name: value.copy() for name, value in weights.items()}
    module = TowerLoss(weights, vectors, random_log_q(random, ITEMS), frozenset({*PARAMETERS, ITEM_VECTORS}))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert all((weights[name] == before[name]).all() for name in weights)


def test_a_catalogue_that_float32_cannot_number_is_refused() -> None:
    """Above 2^24 items two neighbours would share a float32 index."""
    weights = random_weights(np.random.default_rng(1), items=ITEMS, dim=0)
    assert int(np.float32(LARGEST_INDEX + 1)) == LARGEST_INDEX, "the bound is where float32 stops counting"
    with pytest.raises(ShapeError, match="packed examples hold fewer than 16777216"):
        TowerLoss(weights, np.zeros((LARGEST_INDEX, 0), np.float32), np.zeros(ITEMS), frozenset())
