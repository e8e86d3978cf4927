# SPDX-License-Identifier: Apache-2.0
"""Intermediate tensors of any torch module, by module path, without changing the module."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import TracebackType

from torch import Tensor, nn

from qiskit_kd.errors import DistillError

__all__ = ["FeatureCapture", "check_paths"]


def check_paths(module: nn.Module, paths: Iterable[str], *, role: str) -> dict[str, nn.Module]:
    """The submodules at `paths`.

    Raises:
        DistillError: For a path the network does not have; the message lists near ones.
    """
    known = dict(module.named_modules(remove_duplicate=False))
    found: dict[str, nn.Module] = {}
    for path in paths:
        if not isinstance(path, str) or path not in known:
            near = difflib.get_close_matches(str(path), known, n=3, cutoff=0.3)
            listed = near or [name for name in known if name][:8]
            raise DistillError(
                f"the {role} has no layer of that name", got=repr(path),
                expected=f"for example {', '.join(map(repr, listed))}" if listed else "none",
                remedy="Layers are named as in module.named_modules().",
            )  # fmt: skip
        found[path] = known[path]
    return found


class FeatureCapture:
    """Keeps what the named submodules returned in the latest forward pass.

    Gradients flow through the kept tensors; `capture[path]` is the output of a layer, which is
    that of its latest call if the forward pass calls it more than once. Outputs of an earlier pass
    are forgotten when the network is called again. Use it as a context manager, or call `close`.

    Args:
        module: The network.
        paths: Names as in `named_modules`, e.g. `"body.0"`.
        role: What messages call the network.

    Raises:
        DistillError: As `check_paths`, and in a forward pass for a layer that returns no tensor.
    """

    def __init__(self, module: nn.Module, paths: Iterable[str], *, role: str = "network") -> None:
        self.outputs: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._role = role
        layers = check_paths(module, paths, role=role)
        # A layer that one pass leaves out must not answer with the maps of other samples.
        self._hooks = [module.register_forward_pre_hook(lambda *_: self.outputs.clear())]
        self._hooks += [
            layer.register_forward_hook(
                lambda _module, _inputs, output, path=path: self._keep(path, output)
            )
            for path, layer in layers.items()
        ]

    def _keep(self, path: str, output: object) -> None:
        if isinstance(output, tuple | list) and output:
            output = output[0]
        if not isinstance(output, Tensor):
            raise DistillError(
                f"the layer {path!r} of the {self._role} returns a tensor, or a tuple that starts "
                "with one", got=type(output).__name__, remedy="Choose another layer.",
            )  # fmt: skip
        self.outputs[path] = output
        self._versions[path] = _version(output)

    def __getitem__(self, path: str) -> Tensor:
        """What the layer returned in the latest forward pass.

        Raises:
            DistillError: If the forward pass has not called the layer, or a later layer has
                overwritten the output.
        """
        if path not in self.outputs:
            raise DistillError(
                f"the layer {path!r} of the {self._role} takes part in its forward pass",
                got="no call", remedy="Choose a layer that forward() calls as a module.",
            )  # fmt: skip
        output = self.outputs[path]
        if _version(output) != self._versions[path]:
            raise DistillError(
                f"the output of the layer {path!r} of the {self._role} stays as it was returned",
                got="a tensor that a later layer has changed in place", expected="inplace=False",
                remedy="Build that activation with inplace=False, or name it instead.",
            )  # fmt: skip
        return output

    def close(self) -> None:
        """Take the hooks off again."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __enter__(self) -> FeatureCapture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


def _version(tensor: Tensor) -> int:
    """How often a tensor has been written to in place."""
    return 0 if tensor.is_inference() else int(tensor._version)  # noqa: SLF001 (no public name)
