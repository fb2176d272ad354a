"""A network that came as a module or function of torch."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, ContinuousBernoulli, Distribution, Independent, Laplace, Normal

from service.numerics.noise import Floats
from training.export.graphs import EXAMPLE_ROWS, ROWS, FixedRows, export_module, export_script
from training.export.own.networks import ONE_BATCH, LabelForm, StrangeResult, UnfitModel
from training.export.own.onnx_source import simplified
from training.export.own.outputs import mean_and_spread
from training.export.rules import operator_flaws

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MODES = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
"""Layers that compute something else in training mode."""


class TorchSource:
    """A network that takes one tensor and gives tensors, by order or by name, or a distribution of torch."""

    def __init__(self, what: str, function: Callable[..., Any]) -> None:
        """Take a module, on any device, or a function that calls modules."""
        self.what = what
        if isinstance(function, torch.export.ExportedProgram):
            function = function.module(check_guards=False)
        kind = type(function).__name__ if isinstance(function, nn.Module) else "function"
        self.origin: dict[str, object] = {"torch": kind}
        self._function = function if not isinstance(function, nn.Module) else _on_cpu(what, function)
        self._modules = _modules_of(self._function)
        self.gave: str | None = None
        """The kind of its last result, if that was a torch distribution, whose parameters were taken."""

    def flaws(self) -> list[str]:
        """Return the layers in training mode and the parameters that are not float32, if there are any."""
        flaws = []
        layers = [layer for module in self._modules for layer in module.modules()]
        training = sorted({_kind(layer) for layer in layers if layer.training and _has_modes(layer)})
        if training:
            flaws.append(
                f"{self.what} is in training mode, in which {', '.join(training)} makes results random or "
                "dependent on the batch; call .eval() on it first"
            )
        tensors = [each for module in self._modules for each in (*module.parameters(), *module.buffers())]
        places = sorted({str(each.device) for each in tensors if each.device.type != "cpu"})
        if places:  # a module by itself was copied
            flaws.append(f"{self.what} calls modules on {', '.join(places)}; call .cpu() on them first")
        kinds = {
            str(each.dtype) for each in tensors if each.is_floating_point() and each.dtype != torch.float32
        }
        if kinds:
            flaws.append(f"{self.what} has weights of {', '.join(sorted(kinds))}; call .float() on it first")
        return flaws

    def shapes(self, expected: Sequence[tuple[int, ...]]) -> Sequence[tuple[int, ...]]:
        """Return all expected shapes: which one fits is found by running it."""
        return expected

    def run(self, inputs: Floats) -> list[Floats]:
        """Compute its outputs for inputs (B, ...)."""
        with torch.no_grad():
            result = _taken(self._function(torch.from_numpy(inputs.copy())))
            self.gave = result.distribution
            if result.names:
                self.origin["outputs"] = list(result.names)
            return [each.detach().cpu().numpy() for each in result.tensors]

    @property
    def takes_class(self) -> bool:
        """Return True if it takes a second input that has no default but None: an option is not the class."""
        function: Any = self._function
        if isinstance(function, torch.jit.ScriptModule):
            schema: Any = function.forward.schema  # type: ignore[attr-defined]
            return any(
                not each.has_default_value() or each.default_value is None for each in schema.arguments[2:3]
            )
        signature = _signature(function.forward if isinstance(function, nn.Module) else function)
        if signature is None or not _binds(signature, 1):
            return True
        second = [each.default for each in signature.parameters.values() if each.kind in _BY_PLACE][1:2]
        return _binds(signature, 2) and second in ([], [None])

    def conditioned(self, shape: tuple[int, ...], classes: int, labels: LabelForm) -> TorchSource:
        """Return it as a network of one input, rows of values and the class after them, one-hot."""
        module = _Conditioned(self._function, self._modules, shape, classes, labels)
        source = TorchSource(self.what, module.train(False) if not self._modules else module)
        source.origin = self.origin
        return source

    def export(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        """Export it with a free axis of rows; a row of its input has that shape.

        Raises:
            UnfitModel: It cannot be exported so, or has operators that no graph may have.
        """
        checks = Distribution._validate_args
        Distribution.set_default_validate_args(False)  # which would branch on values
        try:
            model = self._model(shape)
        except Exception as error:
            # the exporter raises errors of many kinds
            raise UnfitModel(self.what, [f"{self.what} cannot be exported: {_reason(error)}"]) from error
        finally:
            Distribution.set_default_validate_args(checks)
        if flaws := operator_flaws(model):
            raise UnfitModel(self.what, [f"{self.what} {flaw}" for flaw in flaws])
        return simplified(model)

    def _model(self, shape: tuple[int, ...]) -> onnx.ModelProto:
        if isinstance(self._function, torch.jit.ScriptModule):
            return export_script(self._function, shape)
        adapter, example = _Adapter(self._function, self._modules), torch.rand(EXAMPLE_ROWS, *shape)
        if any(isinstance(layer, torch.jit.ScriptModule) for layer in adapter.modules()):
            return export_script(adapter, shape)
        return export_module(
            adapter.eval() if not self._modules else adapter, (example,), ({0: ROWS},), ["rows_in"], None
        )


class _Adapter(nn.Module):
    """A function as a module that the exporter can trace; the modules it calls are registered."""

    def __init__(self, function: Callable[..., Any], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self._function = function
        self.training = False

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Apply the function to its one input (B, ...)."""
        return _taken(self._function(*inputs)).tensors


class _Conditioned(nn.Module):
    """A function of values and a class, as one of rows (B, n + C)."""

    def __init__(
        self,
        function: Callable[..., Any],
        modules: Sequence[nn.Module],
        shape: tuple[int, ...],
        classes: int,
        labels: LabelForm,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        self.training = False
        self._function, self._shape, self._labels = function, shape, labels
        self.numbers: Tensor
        self.register_buffer("numbers", torch.arange(float(classes)), persistent=False)

    def forward(self, rows: Tensor) -> Any:
        """Apply the function to rows (B, n + C)."""
        size, classes = math.prod(self._shape), len(self.numbers)
        # which a network may give another shape by `view`
        values = rows[:, :size].reshape(-1, *self._shape).contiguous()
        if self._labels == "none":
            return self._function(values)
        labels = rows[:, size:].contiguous()
        if self._labels != "one_hot":
            labels = (labels @ self.numbers).round().clamp(0, classes - 1).long()
        return self._function(values, labels.unsqueeze(1) if self._labels == "column" else labels)


def _on_cpu(what: str, module: nn.Module) -> nn.Module:
    """Return a module, or its copy on the CPU if some of it is elsewhere.

    Raises:
        UnfitModel: It has no numbers there.
    """
    places = {each.device.type for each in (*module.parameters(), *module.buffers())}
    if "meta" in places:
        raise UnfitModel(
            what,
            [f"{what} is on the device 'meta', without weights; load its weights first (load_state_dict)"],
        )
    return copy.deepcopy(module).cpu() if places - {"cpu"} else module


class _Taken(NamedTuple):
    """The tensors that are taken of a network's result."""

    tensors: tuple[Tensor, ...]
    distribution: str | None = None
    """The kind of the torch distribution that they are parameters of."""
    names: tuple[str, ...] = ()
    """The names by which they were taken of more, or in another order."""


def _taken(result: Any) -> _Taken:
    """Return the tensors of a network's result: the mean before the spread, if they have such names.

    Raises:
        StrangeResult: It has none, or is a distribution of another kind.
    """
    if isinstance(result, Distribution):
        base = result.base_dist if isinstance(result, Independent) else result
        if isinstance(base, Normal | Laplace):
            return _Taken((base.loc, base.scale), type(base).__name__)
        if isinstance(base, Bernoulli | ContinuousBernoulli):
            return _Taken((base.logits,), type(base).__name__)
        came = f"gives a {type(base).__name__} distribution"
        wanted = "a Normal, a Laplace, a Bernoulli, a ContinuousBernoulli, or tensors"
        raise StrangeResult(f"{came}; wanted {wanted}")
    if isinstance(result, Tensor):
        return _Taken((result,))
    named = _named(result)
    if len(named) == 1:
        return _taken(*named.values())
    if named and all(isinstance(each, Tensor) for each in named.values()):
        names, parts = tuple(named), tuple(named.values())
        if (places := mean_and_spread(names)) is None:
            return _Taken(parts)
        return _Taken(tuple(parts[place] for place in places), names=tuple(names[place] for place in places))
    found = _flat(result) if isinstance(result, tuple | list) else []
    if len(found) == 1 and not isinstance(found[0], Tensor):
        return _taken(found[0])
    if not found or not all(isinstance(each, Tensor) for each in found):
        raise StrangeResult(
            f"gives {type(result).__name__}; wanted a tensor, a tuple, dict or object of tensors, or a "
            "Normal distribution; give a function that picks them, as `lambda rows: network(rows).tensor`"
        )
    return _Taken(tuple(found))


def _named(result: Any) -> dict[str, Any]:
    """Return the tensors and distributions of a dict, a named tuple or an object, by their names."""
    if isinstance(result, Mapping):
        found = {str(name): each for name, each in result.items()}
    elif isinstance(result, tuple | list):
        found = dict(zip(getattr(result, "_fields", ()), result, strict=False))
    else:
        found = dict(getattr(result, "__dict__", {}))
    return {name: each for name, each in found.items() if isinstance(each, Tensor | Distribution)}


def _flat(parts: Sequence[Any]) -> list[Any]:
    """Return the parts of nested tuples and lists in order, without those that are None."""
    found: list[Any] = []
    for each in parts:
        if isinstance(each, tuple | list):
            found += _flat(each)
        elif each is not None:
            found.append(each)
    return found


def _modules_of(function: Callable[..., Any]) -> list[nn.Module]:
    """Return the modules that a function calls: itself, its owner, and those it refers to by name."""
    if isinstance(function, nn.Module):
        return [function]
    if isinstance(function, functools.partial):
        given = [*function.args, *function.keywords.values()]
        inside = [_modules_of(each) for each in (function.func, *given) if callable(each)]
        return list(dict.fromkeys(module for modules in inside for module in modules))
    found = [getattr(function, "__self__", None)]
    plain = inspect.unwrap(getattr(function, "__func__", function))
    if inspect.isfunction(plain):
        names = inspect.getclosurevars(plain)
        found += [*names.nonlocals.values(), *names.globals.values(), *(plain.__defaults__ or ())]
    owners = (getattr(each, "__self__", each) for each in found)
    return list(dict.fromkeys(each for each in owners if isinstance(each, nn.Module)))


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    """Return a function's signature; None if it is built in and has none."""
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _binds(signature: inspect.Signature, count: int) -> bool:
    """Return True for a signature of functions that can be called with so many arguments by place."""
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _kind(layer: nn.Module) -> str:
    """Return the name of a layer's class, also if it came as TorchScript."""
    return str(getattr(layer, "original_name", type(layer).__name__))


def _has_modes(layer: nn.Module) -> bool:
    return isinstance(layer, _MODES) or (
        isinstance(layer, torch.jit.ScriptModule) and _kind(layer).startswith(("BatchNorm", "Dropout"))
    )


def _reason(error: BaseException) -> str:
    """Return the first line of the exporter's error that says something, and what to do if rows are fixed."""
    causes: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(str(cause))
        cause = cause.__cause__
    text = "\n".join(causes)
    fixed = "rows" in text and ("specializ" in text or "constant" in text or "violated" in text)
    if fixed or isinstance(error, FixedRows):
        return f"it {ONE_BATCH}"
    if "SymbolicTensor" in text:
        return (
            "the number of rows is an attribute of an operator (a convolution with a group for each row); "
            "compute each row by itself (fused_modconv=False of StyleGAN)"
        )
    if "data-dependent" in text or "data dependent" in text:
        return "it branches on values of its rows (an if, a loop); compute all rows alike, as by torch.where"
    lines = [line.strip() for line in causes[-1].splitlines() if line.strip()]
    return lines[0][:300] if lines else "the exporter gave no reason"
