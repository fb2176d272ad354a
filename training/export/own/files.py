"""Files that cannot be read as networks: what each is, and what to give instead."""

from __future__ import annotations

from pathlib import Path

_EXPORTED = "save the network as ONNX or by torch.export.save where its code is, or give the module itself"
_WEIGHTS = f"holds weights without the network that they are of; load them into its module, and {_EXPORTED}"
_PICKLED = f"holds pickled objects of Python, which may run any code and are never read; {_EXPORTED}"
_KERAS = (
    "is a file of Keras; export the model as ONNX (tf2onnx, or model.export(..., format='onnx') of Keras 3)"
)
_STARTS = {
    b"\x89HDF\r\n\x1a\n": _KERAS,
    b"\x80": _PICKLED,
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself; fetch that by `git lfs pull`",
    b"<": "is a page of HTML or XML, such as a site sends in place of a file; download it again",
    b"\x1f\x8b": "is compressed by gzip; unpack it first",
    b"(lp": _PICKLED,
}
"""The kind of a file, by its first bytes."""


def strange_file(path: Path) -> str | None:
    """Return what a path holds in place of a network, after its name; None if it may be one."""
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return (
                "is a SavedModel of TensorFlow; export it as ONNX (python -m tf2onnx.convert --saved-model)"
            )
        return "is a folder; give the file of one network"
    if not path.exists():
        return "is not there"
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "is empty"
    if start[4:8] == b"TFL3":
        return "is a model of TensorFlow Lite; export the model that it was made of as ONNX (tf2onnx)"
    if start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 32:
        return f"is a file of safetensors: it {_WEIGHTS}"
    for beginning, what in _STARTS.items():
        if start.startswith(beginning):
            return what
    return None


def strange_archive(names: list[str]) -> str:
    """Return what a zip of files of these names is, if it is no file of torch.export or of TorchScript."""
    if "config.json" in names and "model.weights.h5" in names:
        return _KERAS
    if any(name.endswith(("data.pkl", ".pkl")) for name in names):
        return _PICKLED
    if names and all(name.endswith(".npy") for name in names):
        return f"is an .npz: it {_WEIGHTS}"
    return "is a zip of files; unpack it, and give the file of one network"
