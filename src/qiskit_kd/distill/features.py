# SPDX-License-Identifier: Apache-2.0
"""Intermediate tensors of any torch module, by module path, without changing the module."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from types import TracebackType

from torch import Tensor, nn

from qiskit_kd.errors import DistillError

__all__ = ["FeatureCapture"]


class FeatureCapture:
    """Keeps what the named submodules returned in the latest forward pass.

    Gradients flow through the kept tensors. Use it as a context manager, or call `close`.

    Args:
        module: The network.
        paths: Names as in `named_modules`, e.g. `"body.0"`.
        role: What messages call the network.

    Raises:
        DistillError: For a path the network does not have; the message lists near ones.
    """

    def __init__(self, module: nn.Module, paths: Iterable[str], *, role: str = "network") -> None:
        self.outputs: dict[str, Tensor] = {}
        self._role = role
        known = dict(module.named_modules())
        wanted = list(paths)
        for path in wanted:
            if path not in known:
                near = difflib.get_close_matches(path, known, n=3, cutoff=0.3)
                listed = near or [name for name in known if name][:8]
                raise DistillError(
                    f"the {role} has no layer of that name", got=repr(path),
                    expected=f"for example {', '.join(map(repr, listed))}" if listed else "none",
                    remedy="Layers are named as in module.named_modules().",
                )  # fmt: skip
        self._hooks = [
            known[path].register_forward_hook(
                lambda _module, _inputs, output, path=path: self._keep(path, output)
            )
            for path in wanted
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
