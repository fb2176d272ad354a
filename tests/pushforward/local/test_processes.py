"""Versions in processes, threads and event loops other than the one that opened them."""

from __future__ import annotations

import asyncio
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pushforward
from pushforward.local import LocalModel, LocalModels
from service.errors import Draining, InvalidVersion, Unfit, UnknownModel, UnknownVersion
from tests import toy
from tests.conftest import REPOSITORY

ITEMS = toy.items(9)


@pytest.fixture
def model(few_models: Path) -> Iterator[LocalModel]:
    with pushforward.load(few_models / "toy-vae" / "2") as model:
        yield model


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pushforward")]


def run_python(code: str, *arguments: object) -> str:
    """The output of a Python process, which ends by itself and writes nothing to standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(
    ("folder", "version", "number"),
    [("toy-vae/2", None, 2), ("toy-vae", None, 1), ("toy-vae", "challenger", 2), ("toy-vae", 2, 2)],
)
def test_load_takes_the_folder_of_a_version_or_of_a_model(
    few_models: Path, folder: str, version: int | str | None, number: int
) -> None:
    with pushforward.load(few_models / folder, version=version) as model:
        assert (model.name, model.version) == ("toy-vae", number)


def test_load_names_what_is_missing(few_models: Path) -> None:
    with pytest.raises(UnknownModel, match=r"there are: .*digits-vae, mixture-vae"):
        pushforward.load(few_models / "no-vae")
    with pytest.raises(UnknownVersion, match="it has: 2, 1, champion, challenger"):
        pushforward.load(few_models / "toy-vae", version=7)
    with pytest.raises(UnknownModel, match="no folder"):
        LocalModels(few_models / "nowhere")


def test_a_damaged_version_is_refused_when_it_is_loaded(few_models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "toy-vae" / "2"
    shutil.copytree(few_models / "toy-vae" / "2", folder)
    (folder / "decode.onnx").write_bytes(b"nothing")
    with pytest.raises(InvalidVersion, match="SHA-256"):
        pushforward.load(folder)
    with LocalModels(tmp_path) as models:
        (entry,) = models.models()
        assert (entry["state"], entry["provider"]) == ("failed", None)
        assert "SHA-256" in entry["reason"]


def test_a_copy_by_pickle_loads_the_same_version_at_its_first_call(model: LocalModel) -> None:
    before = threads()
    copy = pickle.loads(pickle.dumps(model))
    assert threads() == before
    with copy:
        np.testing.assert_array_equal(copy.score(ITEMS).surprise, model.score(ITEMS).surprise)


def test_all_pickles_of_a_version_are_one_object_in_a_process(model: LocalModel) -> None:
    """A worker loads a version once, however many of its tasks bring a pickle."""
    assert pickle.loads(pickle.dumps(model)) is pickle.loads(pickle.dumps(model.score)).__self__


def test_a_copy_of_a_folder_by_pickle_answers_alike(local: LocalModels) -> None:
    with pickle.loads(pickle.dumps(local)) as copy:
        np.testing.assert_array_equal(copy.sample("toy-vae", seed=3), local.sample("toy-vae", seed=3))


def test_a_running_event_loop_is_no_obstacle(model: LocalModel) -> None:
    async def notebook() -> np.ndarray:
        return model.score(ITEMS).surprise

    np.testing.assert_array_equal(asyncio.run(notebook()), model.score(ITEMS).surprise)


def test_threads_that_call_at_once_get_each_its_own_rows(few_models: Path) -> None:
    items = toy.items(64)
    with pushforward.load(few_models / "toy-vae", cores=2) as model:
        whole = model.score(items, statistic="elbo", draws=7).surprise

        def score(first: int) -> np.ndarray:
            return model.score(items[first : first + 8], statistic="elbo", draws=7).surprise

        with ThreadPoolExecutor(8) as pool:
            parts = list(pool.map(score, range(0, 64, 8)))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_closing_ends_all_threads_and_a_later_call_loads_again(few_models: Path) -> None:
    before = threads()
    model = pushforward.load(few_models / "toy-vae")
    wanted = model.sample(count=300, seed=1)
    assert threads() != before
    model.close()
    assert threads() == before
    np.testing.assert_array_equal(model.sample(count=300, seed=1), wanted)
    del model  # without being closed
    assert threads() == before


def test_closing_ends_the_calls_of_other_threads(few_models: Path) -> None:
    model = pushforward.load(few_models / "toy-vae")
    wanted, closed = model.sample(count=3, seed=1), threading.Event()

    def call() -> set[str]:
        ends = set()
        while not closed.is_set():
            try:
                np.testing.assert_array_equal(model.sample(count=3, seed=1), wanted)
            except Draining as error:
                ends.add(str(error))
        return ends

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(call) for _ in range(3)]
        for _ in range(100):
            model.close()
            closed.wait(0.005)  # in which some calls begin
        closed.set()
        assert set().union(*(each.result(20) for each in calls)) == {"the version was closed during the call"}
    model.close()


def test_calls_leave_nothing_in_memory(few_models: Path) -> None:
    with pushforward.load(few_models / "toy-vae") as model:
        for _ in range(100):
            model.sample(seed=1)
        tracemalloc.start()
        for _ in range(1000):
            model.sample(seed=1)
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert left < 32_000


def test_a_version_that_is_collected_as_garbage_in_one_of_its_own_threads_ends_them(
    few_models: Path,
) -> None:
    """A thread cannot wait for its own end."""
    run_python(
        """
        import asyncio, gc, sys, threading, time
        import pushforward
        gc.disable()
        model = pushforward.load(sys.argv[1])
        loop = model._host._workers._loop
        cycle = [model]
        cycle.append(cycle)
        del model, cycle
        loop.call_soon_threadsafe(gc.collect)
        deadline = time.monotonic() + 20
        while any(thread.name.startswith("pushforward") for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        """,
        few_models / "toy-vae",
    )


def test_a_process_ends_with_an_open_version_and_needs_no_web_framework(few_models: Path) -> None:
    """It needs no client, no training, and no libraries of tables and pictures either."""
    shown = run_python(
        """
        import sys
        import pushforward
        model = pushforward.load(sys.argv[1])
        model.sample(count=3)
        unwanted = {"fastapi", "starlette", "uvicorn", "httpx", "torch", "training", "pandas", "PIL", "typer"}
        print(sorted(unwanted & set(sys.modules)))
        """,
        few_models / "toy-vae",
    )
    assert shown == "[]\n"


def test_a_forked_process_loads_the_version_again(few_models: Path) -> None:
    """The workers of multiprocessing and of Spark are forked in this way."""
    run_python(
        """
        import os, sys, warnings
        import numpy as np
        import pushforward
        model = pushforward.load(sys.argv[1])
        wanted = model.sample(count=500, seed=1)
        warnings.simplefilter("ignore")  # Python warns of forks with threads
        child = os.fork()
        if not child:
            os._exit(0 if np.array_equal(model.sample(count=500, seed=1), wanted) else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert np.array_equal(model.sample(count=500, seed=1), wanted)
        """,
        few_models / "toy-vae",
    )


def test_an_interrupted_call_leaves_the_version_usable(few_models: Path) -> None:
    run_python(
        """
        import signal, sys, warnings
        import numpy as np
        import pushforward
        # an interrupt may fall between a coroutine and its start, and Python tells of that
        warnings.filterwarnings("ignore", "coroutine .* was never awaited")
        model = pushforward.load(sys.argv[1])
        wanted = model.sample(count=5, seed=1)
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            while True:
                model.sample(count=100_000, seed=1)
        except KeyboardInterrupt:
            pass
        assert np.array_equal(model.sample(count=5, seed=1), wanted)
        """,
        few_models / "digits-vae",
    )


def test_a_folder_that_is_no_model_is_refused_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="there is no folder"):
        pushforward.load(tmp_path / "nothing")
    with pytest.raises(UnknownModel, match=r"is a folder of models; load one of them: .*digits-vae"):
        pushforward.load(REPOSITORY / "models")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "gpu"}, r"the device is 'gpu' \(str\); wanted 'cpu', 'cuda' or 'auto'"),
        ({"device": "cuda:0"}, "the device is 'cuda:0'"),
        ({"device": None}, "the device is None"),
        ({"cores": -1}, r"the cores are -1 \(int\); wanted a number of them, or 0 for all"),
        ({"cores": 1.5}, "the cores are 1.5"),
        ({"cores": True}, "the cores are True"),
    ],
)
def test_a_device_or_a_number_of_cores_that_is_none_is_refused(
    few_models: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(Unfit, match=message):
        pushforward.load(few_models / "toy-vae", **given)
    with pytest.raises(Unfit, match=message):
        LocalModels(few_models, **given)
