# SPDX-License-Identifier: Apache-2.0
"""The modules students are made of. All initial values come from a seed, not from torch's state."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from qiskit_kd.circuits import CircuitModel, ClassGroups
from qiskit_kd.errors import ConfigError
from qiskit_kd.nn.layer import AnyBackend, CircuitLayer, QuantumLayer
from qiskit_kd.seeding import stream
from qiskit_kd.values import listed, real, shown, whole

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}

_Layer = TypeVar("_Layer", bound=nn.Module)

_FLOOR = 1e-12  # keeps log p finite where an exact probability is zero
_HALF = {torch.float16: 1e-4, torch.bfloat16: 1e-7}
"""Where probabilities come in half precision, which must hold the slope 1 / floor too."""


class Student(nn.Module):
    """What all students share: where circuits run is said by their layers."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("backend", "engine", "gradient", "shots"):
            parts = self.named_modules()
            path = next((path for path, part in parts if isinstance(part, CircuitLayer)), None)
            option = "backend" if name == "engine" else name
            raise ConfigError(
                "where circuits run is an attribute of the layers that have circuits",
                got=f"{name} set on a {type(self).__name__}",
                remedy="Leave it out: there are no circuits in this network."
                if path is None
                else f"Build the network with {option}=..., or set it as network.{path}.{name}.",
            )
        super().__setattr__(name, value)


class ClassicalStudent(Student, nn.Sequential):
    """Layers in a row, and what a report must say about them; some of them, sliced, say less."""

    def __init__(
        self, layers: Mapping[str, nn.Module], facts: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(OrderedDict(layers))
        self.facts = dict(facts or {"kind": type(self).__name__})


class HybridStudent(Student):
    """Expectation values of a circuit, then one linear layer or a few; facts are for reports."""

    def __init__(self, circuit: QuantumLayer, head: nn.Module, facts: Mapping[str, Any]) -> None:
        super().__init__()
        self.circuit, self.head, self.facts = circuit, head, dict(facts)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., num_features)` to `(..., num_classes)` logits."""
        values = self.circuit(x)
        if not torch.is_autocast_enabled(values.device.type):
            values = values.to(next((p.dtype for p in self.head.parameters()), values.dtype))
        logits: Tensor = self.head(values)
        return logits


class FullyQuantumStudent(Student):
    """A circuit and nothing else: logits are `sharpness * log p`.

    Args:
        circuit: Returns class probabilities: a `QuantumLayer`, or a network that ends in one.
        sharpness: A positive number; p is linear in the density matrix and cannot become confident
            by itself.
        learnable: Train its logarithm, which keeps it positive.
        smoothing: Added to every class probability before renormalising, for sampled p; None adds
            half a count where the circuit is sampled, and nothing otherwise.
        facts: What a report must say.
        dtype: Of the sharpness; None is that of the circuit's weights.
    """

    circuit: Any
    log_sharpness: Tensor

    def __init__(
        self,
        circuit: nn.Module,
        *,
        sharpness: float = 1.0,
        learnable: bool = False,
        smoothing: float | None = None,
        facts: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(circuit, nn.Module):
            raise ConfigError(
                "a fully quantum student is made of a network that returns class probabilities",
                got=type(circuit).__name__,
                expected="a torch.nn.Module",
            )
        sharpness = check_sharpness(sharpness, "sharpness")
        self.circuit = circuit
        self.smoothing = 0.0
        self._smoothing_is_free = smoothing is None
        if smoothing is None:
            self.choose_smoothing()
        else:
            self.smoothing = real(smoothing, "smoothing is 0 or more", name="smoothing", least=0)
        self._is_bare = isinstance(circuit, QuantumLayer)
        if dtype is None:
            dtype = next((p.dtype for p in circuit.parameters()), torch.float32)
        value = torch.tensor(math.log(sharpness), dtype=dtype)
        if learnable:
            self.log_sharpness = nn.Parameter(value)
        else:
            self.register_buffer("log_sharpness", value)
        self.facts = {"kind": type(self).__name__} if facts is None else dict(facts)

    def choose_smoothing(self) -> None:
        """Half a count of the shots that the circuit has now; one that was given stays."""
        if self._smoothing_is_free:
            layers = (part for part in self.circuit.modules() if isinstance(part, QuantumLayer))
            shots = next((layer.engine.shots for layer in layers), None)
            self.smoothing = 0.5 / shots if shots else 0.0

    @property
    def sharpness(self) -> float:
        """The present sharpness."""
        return float(self.log_sharpness.detach().exp())

    def forward(self, x: Tensor) -> Tensor:
        """`(..., num_features)` to `(..., num_classes)` logits."""
        # Half precision has no room between 1e-12 and zero, nor for the logarithm's slope there.
        half = x.dtype in _HALF
        p: Tensor = self.circuit(x.float() if half and self._is_bare else x)
        floor = _HALF.get(p.dtype, 1e-7 if half else _FLOOR)
        p = p.float() if p.dtype in _HALF else p
        if self.smoothing:
            p = (p + self.smoothing) / (1.0 + p.shape[-1] * self.smoothing)
        logits = self.log_sharpness.exp() * torch.log(p + floor)
        return logits.to(x.dtype) if half else logits


def as_student(network: nn.Module) -> nn.Module:
    """A bare layer of class probabilities as the student it makes; anything else as it is."""
    bare = isinstance(network, QuantumLayer) and isinstance(network.model.readout, ClassGroups)
    return FullyQuantumStudent(network) if bare else network


def num_parameters(module: nn.Module) -> int:
    """Number of trainable numbers; frozen tensors and buffers do not count."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def describe(module: nn.Module) -> dict[str, Any]:
    """What a report must say of a network: kind, size and, for circuits, how they are read and run.

    Any module is accepted; one that is not of this room is called by its class. Of the
    `parameters` of one with a trained circuit, the `live_parameters` can move the outputs, and the
    `effective_parameters` count the rank of the circuit's Jacobian instead of its weights; None
    where nobody looked.
    """
    facts = dict(getattr(module, "facts", {"kind": type(module).__name__}))
    if isinstance(module, FullyQuantumStudent):
        facts["sharpness"] = module.sharpness
    facts["parameters"] = total = num_parameters(module)
    for part in module.modules():
        model, weight = getattr(part, "model", None), getattr(part, "weight", None)
        if isinstance(model, CircuitModel) and weight is not None and weight.requires_grad:
            copies = weight.numel() // max(1, model.num_weights)  # of a quanvolution, its filters
            dead, rank = facts.get("dead_weights"), facts.get("effective_weights")
            facts["live_parameters"] = None if dead is None else total - copies * dead
            less = None if rank is None else copies * (model.num_weights - rank)
            facts["effective_parameters"] = None if less is None else total - less
    return facts


class Projection(nn.Module):
    """Orthonormal random directions, frozen, but kept with the weights."""

    matrix: Tensor

    def __init__(self, num_features: int, size: int, *, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        gauss = stream(seed, "init", "projection").standard_normal((num_features, size))
        q, r = np.linalg.qr(gauss)
        # The signs make the factor unique, the same under every LAPACK.
        self.register_buffer("matrix", torch.as_tensor(q * np.sign(np.diag(r)), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., num_features)` to `(..., size)`."""
        return x @ self.matrix


def seeded(layer: _Layer, fan_in: int, *, seed: int, name: str) -> _Layer:
    """A layer made with `device="meta"`, given memory and values on the CPU.

    The values are torch's own default for linear and convolutional layers, uniform in plus or minus
    `1 / sqrt(fan_in)`, from our own stream: weight first, then bias. On the meta device the
    constructor draws nothing from torch's global generator. Parameters are put in place one by one,
    because `to_empty` (and `skip_init`, which calls it) imports sympy, seconds for every process.
    """
    random, bound = stream(seed, "init", name), 1.0 / math.sqrt(fan_in)
    for key, empty in list(layer.named_parameters()):
        values = random.uniform(-bound, bound, tuple(empty.shape))
        setattr(layer, key, nn.Parameter(torch.tensor(values, dtype=empty.dtype)))
    return layer


def seeded_linear(
    fan_in: int, fan_out: int, *, seed: int, name: str, dtype: torch.dtype
) -> nn.Linear:
    """See `seeded`."""
    layer = nn.Linear(fan_in, fan_out, dtype=dtype, device="meta")
    return seeded(layer, fan_in, seed=seed, name=name)


@dataclass(frozen=True, kw_only=True)
class Start:
    """What a network of no circuits starts from; a backend is accepted too, without effect.

    Args:
        seed: Fixes the initial weights.
        backend: As everywhere.
        dtype: Of the parameters.
    """

    seed: int
    backend: AnyBackend = "exact"
    dtype: torch.dtype | str = torch.float32

    @property
    def precision(self) -> torch.dtype:
        """The type of the parameters, single or double precision."""
        kind = getattr(torch, self.dtype, None) if isinstance(self.dtype, str) else self.dtype
        if kind not in (torch.float32, torch.float64):
            raise ConfigError("unknown dtype", got=repr(self.dtype), expected="float32 or float64")
        return kind

    def linear(self, fan_in: int, fan_out: int, name: str) -> nn.Linear:
        """A linear layer, see `seeded`."""
        return seeded_linear(fan_in, fan_out, seed=self.seed, name=name, dtype=self.precision)

    def layers(self, sizes: Sequence[int], activation: str, last: str) -> dict[str, nn.Module]:
        """Linear layers from each size to the next by name, with activations between them."""
        layers: dict[str, nn.Module] = {}
        *inner, (fan_in, fan_out) = pairwise(sizes)
        for k, widths in enumerate(inner):
            layers[f"hidden_{k}"] = self.linear(*widths, f"hidden_{k}")
            layers[f"{activation}_{k}"] = ACTIVATIONS[activation]()
        return {**layers, last: self.linear(fan_in, fan_out, last)}


def fitted_widths(num_features: int, num_classes: int, budget: int) -> tuple[int, int]:
    """`(f, h)` with the smallest `h (f + 1) + C (h + 1) >= budget`, h near C + 1."""
    choices = []
    for h in range(1, max(1, budget) + 1):
        lacking = budget - num_classes * (h + 1)
        f = max(1, -(-lacking // h) - 1)
        if f <= num_features:
            count = h * (f + 1) + num_classes * (h + 1)
            choices.append((count, abs(h - num_classes - 1), f, h))
    *_, f, h = min(choices)
    return f, h


def check_sizes(num_features: int, num_classes: int) -> tuple[int, int]:
    """The sizes of a student as Python's integers; those no student can have are refused."""
    features = whole_number(num_features, what="num_features of a student", least=1)
    return features, whole_number(num_classes, what="num_classes of a student", least=2)


def whole_number(value: Any, *, what: str, least: int) -> int:
    """An option that counts something, as Python's integer."""
    return whole(value, f"{what} is a whole number", least=least)


def check_widths(widths: Any, *, what: str) -> tuple[int, ...]:
    """An option that lists the widths of hidden layers, as Python's integers."""
    rule, expected = f"{what} lists the widths of layers", "integers from 1 on"
    try:
        return tuple(whole(width, rule, least=1) for width in listed(widths, rule))
    except ConfigError:
        raise ConfigError(rule, got=shown(widths), expected=expected) from None


def check_sharpness(value: Any, name: str) -> float:
    """A positive number."""
    rule = "sharpness is positive"
    return real(value, rule, name=name, least=0, strict=True, expected="a number")


def check_activation(name: str, known: Collection[str]) -> None:
    """Refuse an activation that is not among `known`."""
    if not isinstance(name, str) or name not in known:
        raise ConfigError(
            "unknown activation", got=repr(name), expected=" or ".join(map(repr, sorted(known)))
        )
