"""Networks in files of torch, TorchScript and `torch.export`, read without running what else may be in them.

`torch.export.load` unpickles objects, evaluates formulas and calls functions that the file names, and each of
these may be any code. So a file is taken apart here, checked, and put together anew of what a network needs
before torch reads it: sizes, calls of torch's own operators, and tensors as plain bytes. TorchScript has an
unpickler of its own, which makes tensors and its own types alone; operators that touch files are refused.
Source: SECURITY.md of PyTorch, "Untrusted models".
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch

from training.export.own.files import strange_archive
from training.export.own.networks import UnfitModel
from training.export.own.torch_source import TorchSource

_TARGET: Final = re.compile(
    r"torch\.ops\.aten\.(?!(?:from_file|save)\.)\w+\.\w+|math\.(?:ceil|floor|sqrt|trunc)"
    r"|_operator\.(?:add|eq|floordiv|ge|getitem|gt|le|lt|mod|mul|ne|neg|pow|sub|truediv)"
    r"|torch\.sym_(?:float|int|ite|max|min|not)"
)
"""The calls that a node may make; a file can name others, such as `torch.os.system`."""
_FORMULA: Final = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, \w+=(?:True|False))*\)|[su]\d+|\d+|[-+*/(), ]"
    r"|(?:Add|CeilDiv|FloorDiv|Integer|Max|Min|Mod|Mul|Pow|PythonMod)\()*"
)
"""A size as a formula of symbols, which torch evaluates as Python."""
_FOREIGN: Final = ("as_custom_obj", "as_graph", "as_operator")
_SCRIPT_CALLS: Final = re.compile(
    r"\b(?:torch\.(?:classes|from_file|save)\b|ops\.(?!prim\.)\w+|__setstate__)"
)
"""Code of TorchScript that is run when it is loaded, or that is no operator of torch on tensors."""
_PROGRAM: Final = "models/model.json"
_TENSORS: Final = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
"""The lists of a program's tensors, and the names of their files beside the list."""
_MARKS: Final = (".data/version", "archive_format", "archive_version", "byteorder")


def read_torch_file(what: str, path: Path) -> TorchSource:
    """Read a network from a file of `torch.jit.save` or `torch.export.save`.

    Raises:
        UnfitModel: It is no such file, or has more in it than a network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            parts = {name.partition("/")[2]: archive.read(name) for name in names}
    except (OSError, zipfile.BadZipFile) as error:
        raise UnfitModel(what, [f"{path} cannot be read as a file of torch: {error}"]) from error
    if _PROGRAM in parts:
        return _ProgramSource(what, path, parts)
    if "constants.pkl" in parts and any(name.startswith("code/") for name in parts):
        return _ScriptSource(what, path, parts)
    raise UnfitModel(what, [f"{path} {strange_archive(names)}"])


class _ScriptSource(TorchSource):
    """A network of TorchScript."""

    def __init__(self, what: str, path: Path, parts: Mapping[str, bytes]) -> None:
        code = [part.decode("utf-8", "replace") for name, part in parts.items() if name.endswith(".py")]
        calls = {found.group() for text in code for found in _SCRIPT_CALLS.finditer(text)}
        _require_a_network(what, path, sorted(calls))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script = _loaded(what, path, parts, torch.jit.load)
        super().__init__(what, script)
        self.origin = {"file": path.name, "torch": "TorchScript"}


class _ProgramSource(TorchSource):
    """A program of `torch.export`."""

    def __init__(self, what: str, path: Path, parts: Mapping[str, bytes]) -> None:
        kept = {name: parts[name] for name in _MARKS if name in parts}
        try:
            document = json.loads(parts[_PROGRAM])
            document["guards_code"] = []
            for node in document["graph_module"]["graph"]["nodes"]:
                node["metadata"] = {}
            strange = set(_strange_in(document))
            for place, pattern in _TENSORS.items():
                kept[place] = parts[place]
                folder = place.rpartition("/")[0]
                for name, entry in json.loads(parts[place])["config"].items():
                    file = entry["path_name"]
                    if entry["use_pickle"] or not pattern.fullmatch(file):
                        strange.add(f"the pickled {name}")
                    else:
                        kept[f"{folder}/{file}"] = parts[f"{folder}/{file}"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnfitModel(what, [f"{path} is no program of torch.export: {error!r}"]) from error
        _require_a_network(what, path, sorted(strange))
        no_inputs = io.BytesIO()
        torch.save(((), {}), no_inputs)
        kept |= {_PROGRAM: json.dumps(document).encode(), "data/sample_inputs/model.pt": no_inputs.getvalue()}
        program = _loaded(what, path, kept, torch.export.load)
        super().__init__(what, program.module(check_guards=False))
        self.origin = {"file": path.name, "torch": "torch.export"}
        self._batches = [
            each.meta["val"].shape[0]
            for each in program.graph.find_nodes(op="placeholder")
            if each.name in program.graph_signature.user_inputs and each.meta["val"].ndim
        ]

    def flaws(self) -> list[str]:
        """Return also that it is for one size of batch, if so."""
        fixed = [size for size in self._batches if isinstance(size, int)]
        if not fixed:
            return super().flaws()
        return [
            *super().flaws(),
            f"{self.what} takes batches of exactly {fixed[0]} rows: its first axis is fixed; "
            "export it again with a free one (torch.export.export(..., "
            "dynamic_shapes=({0: torch.export.Dim('rows', min=1)},)))",
        ]


def _strange_in(value: Any, key: str = "") -> Iterator[str]:
    """Yield what a program names beside sizes and calls of torch's operators."""
    if isinstance(value, dict):
        if key == "range_constraints":
            yield from (f"the size {name!r}" for name in value if not _FORMULA.fullmatch(name))
        for name, each in value.items():
            if name in _FOREIGN:
                yield f"an argument {name}"
            yield from _strange_in(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _strange_in(each, key)
    elif key == "target" and not _TARGET.fullmatch(str(value)):
        yield f"a call of {str(value)[:80]!r}"
    elif key == "expr_str" and not _FORMULA.fullmatch(str(value)):
        yield f"the size {str(value)[:80]!r}"


def _require_a_network(what: str, path: Path, strange: list[str]) -> None:
    if strange:
        raise UnfitModel(
            what,
            [
                f"{path} has in it {', '.join(strange[:5])}: more than a network needs, and it may run any "
                "code; export the network alone, with torch's own operators"
            ],
        )


def _loaded(what: str, path: Path, parts: Mapping[str, bytes], load: Callable[[io.BytesIO], Any]) -> Any:
    """Return what torch reads in an archive of these parts and no others."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, part in parts.items():
            archive.writestr(f"network/{name}", part)
    file.seek(0)
    try:
        return load(file)
    except Exception as error:
        # torch raises errors of many kinds
        raise UnfitModel(what, [f"{path} cannot be read by torch {torch.__version__}: {error}"]) from error
