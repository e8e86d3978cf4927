# SPDX-License-Identifier: Apache-2.0
"""What a network returns, taken for class logits only where it can be nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from qiskit_kd.errors import DistillError, QiskitKDError
from qiskit_kd.execution import Engine
from qiskit_kd.values import probabilities

_FLOOR = 1e-12  # keeps log p finite where a probability is zero

BINARY = (
    "One number per sample speaks of two classes: return torch.cat([0 * z, z], dim=1) for a logit "
    "z, torch.log(torch.cat([1 - p, p], dim=1)) for a probability p, each of shape (n, 1)."
)
_REMEDIES = {
    "student": "Return logits: leave the softmax out; wrap a circuit's probabilities, "
    "qiskit_kd.nn.FullyQuantumStudent(network); or return log(p).",
    "teacher": "Say so: outputs='probabilities'; or outputs='logits' if they are logits after all.",
}


_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError)


def passed(network: nn.Module, batch: Tensor, *, role: str) -> object:
    """What a network returns for a batch; a failure is told as one of samples that do not fit."""
    try:
        return network(batch)
    except QiskitKDError:
        raise
    except _FAILURES as error:
        raise DistillError(
            f"a {role} runs on the samples",
            got=f"{type(error).__name__}: {error}",
            expected=f"a forward pass on a tensor of {batch.dtype}, shape {tuple(batch.shape)}",
            remedy="Build the network for samples of this shape and type.",
        ) from error


def logits_of(network: nn.Module, batch: Tensor, *, role: str) -> Tensor:
    """A network's output, if it is one row of real numbers for two or more classes per sample."""
    output, rows = passed(network, batch, role=role), len(batch)
    rule = f"a {role} returns one row of class logits per sample"
    if not isinstance(output, Tensor):
        inner = hasattr(output, "logits") or (isinstance(output, dict) and "logits" in output)
        part = "output.logits" if inner else "one tensor"
        raise DistillError(
            rule,
            got=type(output).__name__,
            expected=f"a tensor ({rows}, classes)",
            remedy=f"Wrap the network in a torch.nn.Module whose forward returns {part}.",
        )
    single = output.shape in ((rows,), (rows, 1))
    if output.ndim != 2 or len(output) != rows or single:
        raise DistillError(
            rule,
            got=f"shape {tuple(output.shape)} for {rows} samples",
            expected=f"({rows}, classes)",
            remedy=BINARY if single else "Wrap the network so that it returns its logits only.",
        )
    if not output.is_floating_point():
        raise DistillError(
            f"class logits of a {role} are real numbers",
            got=str(output.dtype),
            expected="a floating-point tensor",
            remedy="Return what comes before any argmax; of complex numbers the real part.",
        )
    return output


def check_logits(values: Tensor, *, role: str) -> None:
    """Refuse class probabilities where logits belong."""
    if probabilities(values.detach()):
        raise DistillError(
            f"a {role} returns logits",
            got="rows that sum to 1 without a negative number, which are class probabilities",
            expected="logits, e.g. log(p)",
            remedy=_REMEDIES[role],
        )


def map_rows(maps: Tensor, rows: int, path: str, *, role: str) -> Tensor:
    """What a layer returned, if it is one map per sample."""
    if maps.ndim < 1 or len(maps) != rows:
        raise DistillError(
            f"the layer {path!r} of the {role} returns one map per sample",
            got=f"shape {tuple(maps.shape)} for {rows} samples",
            expected=f"({rows}, ...)",
            remedy="Choose a layer whose first axis is the batch.",
        )
    return maps


def log_probabilities(values: Tensor) -> Tensor:
    """Logits of `(rows, classes)` class probabilities: their logarithms."""
    if not probabilities(values, said=True):
        sums = values.sum(dim=1)
        raise DistillError(
            "class probabilities are not negative and sum to 1",
            got=f"numbers from {float(values.min()):.3g}, rows that sum to {float(sums.min()):.3g} "
            f"up to {float(sums.max()):.3g}",
            remedy="Leave outputs= out if they are logits; divide rows of counts by their sums.",
        )
    return values.clamp_min(_FLOOR).log()


def check_paths(module: nn.Module, paths: Iterable[str], *, role: str) -> dict[str, nn.Module]:
    """The submodules at `paths`; of one that is not there, the message lists near ones."""
    known = dict(module.named_modules(remove_duplicate=False))
    found: dict[str, nn.Module] = {}
    for path in paths:
        if not isinstance(path, str) or path not in known:
            near = difflib.get_close_matches(str(path), known, n=3, cutoff=0.3)
            listed = near or [name for name in known if name][:8]
            raise DistillError(
                f"the {role} has no layer of that name",
                got=repr(path),
                expected=f"for example {', '.join(map(repr, listed))}" if listed else "none",
                remedy="Layers are named as in module.named_modules().",
            )
        found[path] = known[path]
    return found


class FeatureCapture(AbstractContextManager["FeatureCapture"]):
    """Keeps what the named submodules returned in the latest forward pass.

    Gradients flow through the kept tensors; `capture[path]`, with a path as in `named_modules`, is
    the output of the layer's latest call. Outputs of an earlier pass are forgotten when the network
    is called again. Use it as a context manager, or call `close`.
    """

    def __init__(self, module: nn.Module, paths: Iterable[str], *, role: str = "network") -> None:
        self.outputs: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._role = role
        layers = check_paths(module, paths, role=role)
        # A layer that one pass leaves out must not answer with the maps of other samples.
        self._hooks = [module.register_forward_pre_hook(lambda *_: self.outputs.clear())]
        for path, layer in layers.items():
            self._hooks.append(layer.register_forward_hook(partial(self._keep, path)))

    def _keep(self, path: str, _layer: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise DistillError(
                f"the layer {path!r} of the {self._role} returns a tensor, or a tuple that starts "
                "with one",
                got=type(output).__name__,
                remedy="Choose another layer.",
            )
        self.outputs[path] = output
        self._versions[path] = _version(output)

    def __getitem__(self, path: str) -> Tensor:
        """What the layer returned in the latest forward pass, unless it was overwritten since."""
        if path not in self.outputs:
            raise DistillError(
                f"the layer {path!r} of the {self._role} takes part in its forward pass",
                got="no call",
                remedy="Choose a layer that forward() calls as a module.",
            )
        output = self.outputs[path]
        if _version(output) != self._versions[path]:
            raise DistillError(
                f"the output of the layer {path!r} of the {self._role} stays as it was returned",
                got="a tensor that a later layer has changed in place",
                expected="inplace=False",
                remedy="Build that activation with inplace=False, or name it instead.",
            )
        return output

    def close(self) -> None:
        """Take the hooks off again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __exit__(self, *_: object) -> None:
        self.close()


def _version(tensor: Tensor) -> int:
    """How often a tensor has been written to in place."""
    return 0 if tensor.is_inference() else int(tensor._version)  # noqa: SLF001


def engines(module: nn.Module) -> list[Engine]:
    """Engines of all quantum layers of `module`; they carry the random streams of shots."""
    found = (getattr(layer, "engine", None) for layer in module.modules())
    return [engine for engine in found if isinstance(engine, Engine)]


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Put the buffers of `modules` and torch's random state back at the end."""
    # By place: a forward pass may write into a buffer, or put another tensor there.
    tables = [part._buffers for module in modules for part in module.modules()]  # noqa: SLF001
    kept = [
        (table, name, buffer, buffer.clone())
        for table in tables
        for name, buffer in table.items()
        if buffer is not None
    ]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        with torch.no_grad():
            for table, name, buffer, before in kept:
                table[name] = buffer.copy_(before)
