"""Draws one shard of many samples from the service beside it, into FOLDER/SHARD.npy.

Sample i of a seed depends on the version, the seed and i alone, so shard k of n is the samples from
COUNT * k // n up to COUNT * (k + 1) // n, and all shards together are what one request would answer. A shard
that is there already is left alone, so a job goes on where it stopped. Exits 2 where trying again is no use.
"""

from __future__ import annotations

import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

IDLE_SECONDS = 120
"""Longest to wait for the next piece of the answer."""


def main(environment: Mapping[str, str]) -> int:
    """Draws the shard the environment describes, and gives the exit status."""
    service = environment.get("SERVICE", "http://127.0.0.1:8000")
    shard, shards = int(environment["JOB_COMPLETION_INDEX"]), int(environment["SHARDS"])
    count, model, seed = int(environment["COUNT"]), environment["MODEL"], int(environment["SEED"])
    first, after = count * shard // shards, count * (shard + 1) // shards
    target = Path(environment["FOLDER"], f"{shard:05}.npy")
    if target.exists():
        print(f"{target} is there already")
        return 0
    url = f"{service}/v1/models/{model}/sample?count={after - first}&offset={first}&seed={seed}"
    request = urllib.request.Request(url, headers={"Accept": "application/x-npy"})
    partial = target.with_suffix(".partial")
    try:
        with urllib.request.urlopen(request, timeout=IDLE_SECONDS) as answer, partial.open("wb") as file:
            shutil.copyfileobj(answer, file, 2**20)
            whole = file.tell() == int(answer.headers["content-length"])
    except urllib.error.HTTPError as error:
        print(error.read().decode(), file=sys.stderr)
        return 2 if error.code < 500 and error.code != 429 else 1
    if not whole:
        print(f"the answer to {url} ended early; try again", file=sys.stderr)
        return 1
    partial.rename(target)
    print(f"{target}: samples {first} to {after - 1} of seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(os.environ))
