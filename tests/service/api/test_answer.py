"""Answers in pieces: they are those of the whole, others have their turn, and counts stay."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.api.answer import JSON, JSON_PIECE_VALUES, PART_BYTES, Answer, in_turns, json_pieces, to_json
from service.api.open_inference.wire import compressed

FIELDS = {"model": "toy", "version": 3, "note": None}


@pytest.mark.parametrize("rows", [1, 2, 83, 84, 85, 300])
def test_json_in_pieces_is_the_json_of_the_whole(rows: int) -> None:
    random = np.random.default_rng(rows)
    arrays = {
        "samples": random.normal(size=(rows, 1, 28, 28)).astype(np.float32),
        "latents": random.normal(size=(rows, 5)).astype(np.float32),
    }
    whole = to_json({**FIELDS, **arrays})
    assert b"".join(json_pieces(FIELDS, arrays)) == whole

    async def sent() -> tuple[Answer, bytes]:
        answer = await Answer.of_text(JSON, json_pieces(FIELDS, arrays))
        if isinstance(answer.body, bytes):
            return answer, answer.body
        assert not isinstance(answer.body, list)
        return answer, b"".join([piece async for piece in answer.body])

    answer, body = asyncio.run(sent())
    assert body == whole
    assert answer.length == (len(whole) if len(whole) <= PART_BYTES else None)


def test_others_have_their_turn_between_the_pieces() -> None:
    async def count_turns(rows: int) -> int:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(others())
        samples = np.zeros((rows, JSON_PIECE_VALUES), np.float32)
        answer = await Answer.of_text(JSON, json_pieces(FIELDS, {"samples": samples}))
        assert not isinstance(answer.body, bytes | list)
        async for _ in answer.body:
            pass
        task.cancel()
        return turns

    assert asyncio.run(count_turns(6)) >= 5


@pytest.mark.parametrize("body_of", [bytes, lambda body: [body], lambda body: in_turns(iter([body]))])
def test_what_is_counted_of_an_answer_stays_when_it_is_compressed(body_of: Callable[[bytes], Any]) -> None:
    answer = Answer(JSON, body_of(b"1" * 999), None, rows=3, anomalies=2, p_values=(0.5,), array_bytes=7)
    packed = asyncio.run(compressed(answer, "gzip"))
    assert packed.headers == ((b"content-encoding", b"gzip"),)
    assert replace(packed, body=answer.body, length=None, headers=()) == answer
