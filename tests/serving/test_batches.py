"""Questions answered together: all that wait, none twice, none kept waiting for long, and a bad one alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from server.serving.batches import LARGEST, QUIET_TURNS, Batches


class Doubling:
    """Answers a number with its double; a negative one is an error. Remembers the batches."""

    def __init__(self) -> None:
        """Begin with none."""
        self.batches: list[list[int]] = []

    def __call__(self, questions: Sequence[int]) -> list[int | Exception]:
        """The answers in order."""
        self.batches.append(list(questions))
        return [2 * one if one >= 0 else ValueError(f"{one} is negative") for one in questions]


def test_what_waits_in_one_turn_of_the_loop_is_answered_together() -> None:
    """In order, at most so many at once, each with its own answer."""

    async def ask() -> list[int]:
        return await asyncio.gather(*(batches.ask(number) for number in range(LARGEST + 3)))

    answer = Doubling()
    batches = Batches(answer)
    assert asyncio.run(ask()) == [2 * number for number in range(LARGEST + 3)]
    assert [len(batch) for batch in answer.batches] == [LARGEST, 3]


def test_a_question_that_comes_alone_waits_a_few_empty_turns_and_no_longer() -> None:
    """Nobody else comes, so it is answered."""

    async def ask() -> int:
        asked = asyncio.ensure_future(batches.ask(4))
        for _ in range(QUIET_TURNS + 4):
            await asyncio.sleep(0)
        assert asked.done()
        return await asked

    batches = Batches(Doubling())
    assert asyncio.run(ask()) == 8


def test_questions_that_come_some_turns_apart_are_answered_together() -> None:
    """As gRPC hands them over: one by one; whoever comes late has a batch of its own."""

    async def ask() -> list[int]:
        asked = []
        for number in range(4):
            asked.append(asyncio.ensure_future(batches.ask(number)))
            for _ in range(3 if number < 2 else 2 * QUIET_TURNS):
                await asyncio.sleep(0)
        return await asyncio.gather(*asked)

    answer = Doubling()
    batches = Batches(answer)
    assert asyncio.run(ask()) == [0, 2, 4, 6]
    assert answer.batches == [[0, 1, 2], [3]]


def test_one_question_that_fails_takes_no_other_with_it() -> None:
    """The error is its own."""

    async def ask() -> list[int | BaseException]:
        return await asyncio.gather(*(batches.ask(number) for number in (1, -1, 3)), return_exceptions=True)

    batches = Batches(Doubling())
    first, second, third = asyncio.run(ask())
    assert (first, third) == (2, 6)
    with pytest.raises(ValueError, match="-1 is negative"):
        raise second if isinstance(second, BaseException) else AssertionError


def test_a_question_whose_caller_has_gone_is_not_answered() -> None:
    """Time is left for those who still wait."""

    async def ask() -> int:
        gone = asyncio.ensure_future(batches.ask(1))
        stays = asyncio.ensure_future(batches.ask(2))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    answer = Doubling()
    batches = Batches(answer)
    assert asyncio.run(ask()) == 4
    assert answer.batches == [[2]]


def test_a_fault_of_the_whole_batch_is_everybodys_and_the_next_batch_is_answered() -> None:
    """Nobody waits until the deadline, and the endpoint goes on."""

    def fail_once(questions: Sequence[int]) -> list[int | Exception]:
        if not answered.batches:
            answered.batches.append([])
            raise RuntimeError("once")
        return answered(questions)

    async def ask() -> tuple[list[int | BaseException], int]:
        together = [asyncio.ensure_future(batches.ask(number)) for number in (1, 2)]
        first = await asyncio.gather(*together, return_exceptions=True)
        return first, await batches.ask(3)

    answered = Doubling()
    batches = Batches(fail_once)
    first, second = asyncio.run(ask())
    assert [type(one) for one in first] == [RuntimeError, RuntimeError]
    assert second == 6
