# SPDX-License-Identifier: Apache-2.0
"""What a network says with readout errors undone and without, from the same shots.

A second run of the circuits would be a second bill, and would compare other shots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback
from qiskit_kd.execution.rows import RawEngine
from qiskit_kd.nn.layer import CircuitLayer
from qiskit_kd.nn.quanvolution import Quanvolution

__all__ = ["both_readings"]


def both_readings(network: nn.Module, run: Callable[[], Any]) -> tuple[Any, Any]:
    """What `run` returns, and what it returns when it is given raw readings.

    Args:
        network: A network; circuits of all its quantum layers are read both ways.
        run: Runs the network without gradients; called twice, the second time on readings of the
            first.

    Returns:
        Mitigated and raw; the second is None if no layer's engine undoes readout errors.
    """
    found = {
        part: _Recorder(part.engine)
        for part in network.modules()
        if isinstance(part, CircuitLayer)
        and isinstance(part.engine, RawEngine)
        and part.engine.mitigated
    }
    if not found:
        return run(), None
    layers, recorders = [*found], [*found.values()]
    with ExitStack() as stack:
        for layer in layers:
            if isinstance(layer, Quanvolution):  # maps from memory have no raw ones beside them
                stack.enter_context(layer.without_memory())
        with _engines(layers, recorders):
            mitigated = run()
        with _engines(layers, [_Player(recorder) for recorder in recorders]):
            return mitigated, run()


@contextmanager
def _engines(layers: list[CircuitLayer], engines: list[Any]) -> Iterator[None]:
    own = [layer.engine for layer in layers]
    try:
        for layer, engine in zip(layers, engines, strict=True):
            layer.engine = engine
        yield
    finally:
        for layer, engine in zip(layers, own, strict=True):
            layer.engine = engine


class _ValuesOnly(Engine):
    """An engine for evaluation."""

    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`; no gradient is asked for here."""
        del needs
        return self.outputs(model, features, weights), lambda _: (None, None)


class _Recorder(_ValuesOnly):
    """Remembers the raw outputs that came with every mitigated one."""

    def __init__(self, engine: RawEngine) -> None:
        self._engine, self.raw = engine, []  # type: ignore[var-annotated]
        self.name, self.usage, self.shots = engine.name, engine.usage, engine.shots

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        mitigated, raw = self._engine.outputs_with_raw(model, features, weights)
        self.raw.append(raw)
        return mitigated


class _Player(_ValuesOnly):
    """Answers with what a recorder remembers, call by call."""

    def __init__(self, recorder: _Recorder) -> None:
        self._raw = iter(recorder.raw)
        self.name, self.usage, self.shots = recorder.name, recorder.usage, recorder.shots

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        del model, features, weights
        return next(self._raw)
