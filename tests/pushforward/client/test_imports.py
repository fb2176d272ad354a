"""The client needs httpx and numpy, and nothing else that takes time to import."""

import json
import subprocess
import sys
import tomllib

import pushforward
from tests.conftest import REPOSITORY

HEAVY = {"asyncio", "fastapi", "onnx", "onnxruntime", "orjson", "pandas", "PIL", "pydantic", "torch", "typer"}
STEPS = "import pushforward", "import httpx, numpy, numpy.typing", "from pushforward import Client"


def test_the_client_imports_its_own_few_modules_beside_httpx_and_numpy() -> None:
    code = "import json, sys\n" + "\n".join(f"{step}\nprint(json.dumps([*sys.modules]))" for step in STEPS)
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    alone, libraries, client = (set(json.loads(line)) for line in run.stdout.splitlines())
    assert not alone & {"httpx", "numpy", "service"}
    assert not client & HEAVY
    more = {name for name in client - libraries if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in more} == {"pushforward", "service"}
    assert len(more) <= 24


def test_the_version_of_the_package_is_where_others_have_it() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert pushforward.__version__ == project["version"]
