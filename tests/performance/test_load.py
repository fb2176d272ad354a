from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from .checks import Witness
from .failure import BenchFailed
from .fickle import Fickle, fickle_server
from .load import apply_load, wrk_is_there
from .models import Model
from .servers import Target
from .workloads import WORKLOADS

pytestmark = pytest.mark.performance

SINGLE = WORKLOADS[0]
SECONDS = 0.5

needs_wrk = pytest.mark.skipif(
    not wrk_is_there(), reason="wrk is not installed; on Debian: apt-get install wrk"
)


@pytest.fixture
def fickle(bench_catalogue: dict[str, Model]) -> Iterator[tuple[Fickle, Target]]:
    with fickle_server(bench_catalogue[SINGLE.model]) as both:
        yield both


@needs_wrk
def test_every_request_of_a_load_has_a_fresh_seed(fickle: tuple[Fickle, Target]) -> None:
    server, target = fickle
    load = apply_load(target.url, target.dialect.request(SINGLE), 4, SECONDS, first_seed=10_000_000_000)
    seeds = [orjson.loads(body)["seed"] for body in server.bodies]
    assert load.requests <= len(seeds)
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) > 10_000_000_000


@needs_wrk
@pytest.mark.parametrize("mood", ["failing", "short"])
def test_a_load_whose_answers_are_no_answers_is_no_measurement(
    fickle: tuple[Fickle, Target], mood: str
) -> None:
    server, target = fickle
    server.mood = mood
    with pytest.raises(BenchFailed):
        apply_load(target.url, target.dialect.request(SINGLE), 2, SECONDS, first_seed=0)


def test_a_witness_counts_right_answers_and_fails_at_a_wrong_one(
    fickle: tuple[Fickle, Target], bench_catalogue: dict[str, Model]
) -> None:
    server, target = fickle
    witness = Witness(target, SINGLE, bench_catalogue[SINGLE.model])
    with witness.watching() as watch:
        pass
    assert watch.answers >= 1
    server.mood = "wrong"
    with pytest.raises(BenchFailed, match="under load"), witness.watching():
        pass


@pytest.mark.parametrize("mood", ["wrong", "failing", "short"])
def test_a_server_that_answers_wrongly_when_asked_alone_is_not_measured(
    fickle: tuple[Fickle, Target], bench_catalogue: dict[str, Model], mood: str
) -> None:
    server, target = fickle
    server.mood = mood
    with pytest.raises(BenchFailed, match="fickle"):
        Witness(target, SINGLE, bench_catalogue[SINGLE.model])
