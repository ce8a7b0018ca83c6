"""The layout of a sum as one word of a task: read back as written, and nothing else passes."""

from __future__ import annotations

import json

import pytest

from proto.federation import LARGEST_LAYOUT, Task, WireError, layout_of, layout_words


def task(layout: str) -> Task:
    """A task with this layout."""
    return Task(
        release_id="run/1",
        stage="counts",
        round=1,
        model_hash="h",
        trust="distributed",
        clipping_norm=1.0,
        noise_multiplier=2.0,
        mu2=0.25,
        cap_mu2=1.0,
        steps=1,
        expected_shoppers=5,
        clock=True,
        seed=-1,
        noise_seed=-1,
        layout=layout,
    )


def test_names_lengths_and_order_come_back() -> None:
    """Whatever letters a merchant's name has; a part without entries is left out."""
    lengths = {"merchant:b": 3, 'merchant:a, "x"': 1, "devices": 0, "everyone/gain": LARGEST_LAYOUT - 4}
    found = layout_of(Task.from_record(task(layout_words(lengths)).to_record()))
    assert list(found.items()) == [(name, length) for name, length in lengths.items() if length]


@pytest.mark.parametrize(
    "layout",
    [
        "",
        "{}x",
        "3",
        '["devices"]',
        '[["devices", 3, 4]]',
        '[["devices", 0]]',
        '[["devices", -1]]',
        '[["devices", true]]',
        '[["devices", 2.5]]',
        '[["devices", null]]',
        "[[7, 3]]",
        '[["devices", 3], ["devices", 3]]',
        json.dumps([["devices", LARGEST_LAYOUT], ["everyone", 1]]),
        "[" * 100_000,
    ],
)
def test_what_is_no_layout_is_refused(layout: str) -> None:
    """Wrong types, lengths below 1, a name twice, and more entries than any sum may have."""
    with pytest.raises(WireError, match=r"layout of round 1 \(counts\)"):
        layout_of(task(layout))
