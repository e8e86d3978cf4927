# SPDX-License-Identifier: Apache-2.0
"""Students and teachers by name. Every one maps `(batch, num_features)` to logits.

A fully quantum student's logits are `sharpness * log p(class)`: tempering them gives `p^(1/T)`
renormalised and their cross-entropy is the negative log-likelihood, so no loss needs to know what
its student is made of. All initial values come from the builder's seed, never from torch's
generator.

A quantum student some of whose weights can never learn says so when it is built, with a
`DeadWeightsWarning`; small circuits only, so that it costs little.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from qiskit_kd.circuits import (
    ClassGroups,
    ansatze,
    encodings,
    hardware_efficient,
    warn_dead_weights,
)
from qiskit_kd.errors import ConfigError
from qiskit_kd.nn.circuit_spec import (
    AnyAnsatz,
    AnyEncoding,
    ansatz_facts,
    build_encoding,
    build_model,
    check_activation,
    check_sizes,
    check_widths,
    dtype_of,
    find_dead_weights,
    measured_qubits,
    part_name,
    registered,
    run_facts,
    weight_facts,
    whole_number,
    z_on,
)
from qiskit_kd.nn.layer import AnyBackend, QuantumLayer
from qiskit_kd.nn.modules import (
    ACTIVATIONS,
    ClassicalStudent,
    FullyQuantumStudent,
    HybridStudent,
    Projection,
    fitted_widths,
    seeded_layers,
    seeded_linear,
)
from qiskit_kd.nn.shots import warn_few_shots
from qiskit_kd.registry import Registry
from qiskit_kd.seeding import stream
from qiskit_kd.values import python_number, real

students: Registry[Callable[..., nn.Module]] = Registry("student")
"""Builders `(num_features, num_classes, *, seed, backend="exact", **options) -> Module`."""


@students.register("linear")
def linear(
    num_features: int,
    num_classes: int,
    *,
    seed: int,
    backend: AnyBackend = "exact",  # noqa: ARG001
    dtype: torch.dtype | str = torch.float32,
) -> ClassicalStudent:
    """One linear layer: `num_classes (num_features + 1)` parameters; 195 for 64 to 3."""
    num_features, num_classes = check_sizes(num_features, num_classes)
    layer = seeded_linear(
        num_features, num_classes, seed=seed, name="output", dtype=dtype_of(dtype)
    )
    return ClassicalStudent({"output": layer}, {"kind": "linear"})


@students.register("mlp")
def mlp(
    num_features: int,
    num_classes: int,
    *,
    seed: int,
    backend: AnyBackend = "exact",  # noqa: ARG001
    hidden: Sequence[int] = (16, 8),
    activation: str = "relu",
    dtype: torch.dtype | str = torch.float32,
) -> ClassicalStudent:
    """A multilayer perceptron, the usual teacher; 64-16-8-3 has 1,203 parameters.

    Args:
        num_features: Width of a row.
        num_classes: Number of logits.
        seed: Fixes the initial weights.
        backend: Accepted like everywhere, without effect.
        hidden: Widths of the hidden layers.
        activation: `"relu"` or `"tanh"`.
        dtype: Of the parameters.

    Raises:
        ConfigError: If a width makes no sense or the activation is unknown.
    """
    num_features, num_classes = check_sizes(num_features, num_classes)
    sizes = [num_features, *check_widths(hidden, what="hidden"), num_classes]
    check_activation(activation, ACTIVATIONS)
    layers = seeded_layers(sizes, activation, "output", seed=seed, dtype=dtype_of(dtype))
    return ClassicalStudent(layers, {"kind": "mlp", "layers": sizes, "activation": activation})


@students.register("equal_size")
def equal_size(
    num_features: int,
    num_classes: int,
    *,
    seed: int,
    backend: AnyBackend = "exact",  # noqa: ARG001
    budget: int = 74,
    dtype: torch.dtype | str = torch.float32,
) -> ClassicalStudent:
    """The classical control of (nearly) the same size: frozen projection, then a tiny network.

    A random orthogonal projection to f features, which is not trained, Linear(f, h), tanh and
    Linear(h, C): `h (f + 1) + C (h + 1)` trainable parameters. f and h make that the smallest
    number not below `budget`; of equally good ones, h is as near as possible to C + 1. From 64
    features: 75 with f = 14, h = 4 for three classes (74 is out of reach), 74 with f = 5, h = 4
    for ten.

    Args:
        num_features: Width of a row.
        num_classes: Number of logits, C.
        seed: Fixes the projection and the initial weights.
        backend: Accepted like everywhere, without effect.
        budget: Parameters of the student to compare with.
        dtype: Of the parameters.

    Raises:
        ConfigError: If the budget is no positive integer.
    """
    num_features, num_classes = check_sizes(num_features, num_classes)
    budget = whole_number(budget, what="budget", least=1)
    f, h = fitted_widths(num_features, num_classes, budget)
    kind = dtype_of(dtype)
    layers: dict[str, nn.Module] = {
        "projection": Projection(num_features, f, seed=seed, dtype=kind),
        "hidden": seeded_linear(f, h, seed=seed, name="hidden", dtype=kind),
        "tanh": nn.Tanh(),
        "output": seeded_linear(h, num_classes, seed=seed, name="output", dtype=kind),
    }
    facts = {"kind": "equal_size", "budget": budget, "projected_features": f, "hidden": h}
    return ClassicalStudent(layers, facts)


@students.register("hybrid")
def hybrid(
    num_features: int,
    num_classes: int,
    *,
    seed: int,
    backend: AnyBackend = "exact",
    layers: int = 4,
    ansatz: AnyAnsatz = "hardware_efficient",
    ansatz_options: Mapping[str, Any] | None = None,
    encoding: AnyEncoding = "amplitude",
    encoding_options: Mapping[str, Any] | None = None,
    num_qubits: int | None = None,
    measured: str | Sequence[int] | None = None,
    head: Sequence[int] = (),
    gradient: str = "auto",
    shots: int | None = None,
    dtype: torch.dtype | str = torch.float32,
) -> HybridStudent:
    """A circuit, Z on some qubits (selective measurement) and a linear layer or a small MLP.

    With the defaults, at 64 features and 3 classes: 4 layers of the hardware-efficient ansatz on 6
    qubits with 68 weights, Z on the last qubit, which every weight can move, and Linear(1, 3): 74
    parameters. The published student has 74 parameters; that they are divided this way is a guess
    from that number alone. Reading all qubits is the stronger student: Linear(6, 3), 89 parameters.
    Warns of weights that cannot move the qubits read (up to about ten qubits).

    Args:
        num_features: Width of a row.
        num_classes: Number of logits.
        seed: Fixes the initial weights and, when sampled, the shots.
        backend: Name of a backend, a `Backend` or an `Engine`.
        layers: Layers of the ansatz.
        ansatz: A registered name, a circuit or its file, or a function that builds one;
            `layers` is for names and functions.
        ansatz_options: Further options of the ansatz.
        encoding: A registered name, an `Encoding` or a function that builds one.
        encoding_options: Further options of the encoding.
        num_qubits: None takes the fewest qubits that hold the features.
        measured: Qubits read, or `"all"`; None reads the last.
        head: Widths of hidden layers (tanh) between the values read and the logits.
        gradient: Gradient rule.
        shots: None is the backend's own.
        dtype: Of the parameters.

    Raises:
        CircuitError: If the features do not fit the qubits or a part cannot be built.
        ConfigError: If a name is unknown or an option makes no sense.
    """
    num_features, num_classes = check_sizes(num_features, num_classes)
    ansatz, encoding = registered(ansatze, ansatz), registered(encodings, encoding)
    code = build_encoding(encoding, num_features, num_qubits, encoding_options)
    n = code.num_qubits
    read = measured_qubits(measured, n)
    model = build_model(code, ansatz, layers, ansatz_options, z_on(read, n))
    dead = find_dead_weights(
        model, encoding, encoding_options, ansatz, layers, ansatz_options, tuple(read)
    )
    if dead:
        warn_dead_weights(model, dead=dead, stacklevel=3)
    circuit = QuantumLayer(
        model, backend=backend, gradient=gradient, shots=shots, seed=seed, dtype=dtype_of(dtype)
    )
    widths = list(check_widths(head, what="head"))
    facts = {
        "kind": "hybrid",
        "encoding": part_name(encodings, encoding),
        "qubits": n,
        "measured": read,
        **({"head": [len(read), *widths, num_classes]} if widths else {}),
        **weight_facts(model, dead),
        **ansatz_facts(ansatz, layers, ansatz_options),
        **run_facts(backend, gradient, shots),
    }
    made = seeded_layers(
        [len(read), *widths, num_classes], "tanh", "head", seed=seed, dtype=dtype_of(dtype)
    )
    # A single layer goes by the name that weights of published students have.
    top = made["head"] if not widths else nn.Sequential(OrderedDict(made))
    return HybridStudent(circuit, top, facts)


@students.register("fully_quantum")
def fully_quantum(
    num_features: int,
    num_classes: int,
    *,
    seed: int,
    backend: AnyBackend = "exact",
    layers: int = 4,
    ansatz: AnyAnsatz = "hardware_efficient",
    ansatz_options: Mapping[str, Any] | None = None,
    encoding: AnyEncoding = "amplitude",
    encoding_options: Mapping[str, Any] | None = None,
    num_qubits: int | None = None,
    scheme: str | Sequence[int] | None = None,
    qubits: str | Sequence[int] | None = None,
    sharpness: str = "fixed",
    initial_sharpness: float = 1.0,
    smoothing: float | None = None,
    gradient: str = "auto",
    shots: int | None = None,
    dtype: torch.dtype | str = torch.float32,
) -> FullyQuantumStudent:
    """A circuit without any classical layer: its basis states are summed into class groups.

    With the defaults, at 64 features: 4 layers of the hardware-efficient ansatz on 6 qubits and a
    last layer of RY, 74 parameters whatever the number of classes; 75 with a learnable sharpness.
    All of them can learn where every qubit is read, as with 3 classes. Where the number of classes
    is a power of two, the groups are a function of log2(C) qubits, and the last RY of each other
    qubit is dead: 5, 4 and 3 weights with 2, 4 and 8 classes and the default groups, which read the
    end of the chain (`"modulo"`, its beginning, leaves 39, 26 and 15). Warns of such weights (up to
    about ten qubits).

    Args:
        num_features: Width of a row.
        num_classes: Number of logits.
        seed: Fixes the initial weights and, when sampled, the shots.
        backend: Name of a backend, a `Backend` or an `Engine`.
        layers: Layers of the ansatz.
        ansatz: A registered name, a circuit or its file, or a function that builds one;
            `layers` is for names and functions.
        ansatz_options: Further options of the ansatz; None adds the last RY layer to
            `hardware_efficient`.
        encoding: A registered name, an `Encoding` or a function that builds one.
        encoding_options: Further options of the encoding.
        num_qubits: None takes the fewest qubits that hold the features.
        scheme: How basis states are grouped, as `ClassGroups`; None is `"contiguous"` where the
            number of classes is a power of two, else `"modulo"`.
        qubits: The qubits measured ("selective measurement"), lowest bit first; None measures all.
            Class groups over many qubits concentrate; with encodings of one feature per qubit, few
            measured ones need far fewer shots.
        sharpness: `"fixed"` or `"learnable"`.
        initial_sharpness: Its (first) value; 1 is the published form.
        smoothing: Added to each class probability; None adds half a count (0.5 / shots) where
            they are sampled, and nothing otherwise.
        gradient: Gradient rule.
        shots: None is the backend's own.
        dtype: Of the parameters.

    Raises:
        CircuitError: If the features do not fit the qubits, there are more classes than basis
            states, or a part cannot be built.
        ConfigError: If a name is unknown or an option makes no sense.
    """
    ansatz = registered(ansatze, ansatz)
    if ansatz_options is None and isinstance(ansatz, str) and ansatz == "hardware_efficient":
        ansatz_options = {"final_ry": True}
    student, dead = _class_groups(
        "fully_quantum",
        num_features,
        num_classes,
        seed,
        backend,
        ansatz,
        layers,
        ansatz_options,
        encoding,
        encoding_options,
        num_qubits,
        scheme,
        qubits,
        sharpness,
        initial_sharpness,
        smoothing,
        gradient,
        shots,
        dtype,
    )
    if dead:
        warn_dead_weights(student.circuit.model, dead=dead, stacklevel=3)
    return student


@students.register("separable")
def separable(
    num_features: int,
    num_classes: int,
    *,
    seed: int,
    backend: AnyBackend = "exact",
    layers: int = 4,
    num_weights: int | None = None,
    encoding: AnyEncoding = "amplitude",
    encoding_options: Mapping[str, Any] | None = None,
    num_qubits: int | None = None,
    scheme: str | Sequence[int] | None = None,
    qubits: str | Sequence[int] | None = None,
    sharpness: str = "fixed",
    initial_sharpness: float = 1.0,
    smoothing: float | None = None,
    gradient: str = "auto",
    shots: int | None = None,
    dtype: torch.dtype | str = torch.float32,
) -> FullyQuantumStudent:
    """The entanglement-free control: as `fully_quantum`, but its gates act on single qubits.

    As many weights as `fully_quantum` with as many layers (74 at 64 features and 4 layers); many of
    them are redundant, since rotations of one qubit in a row are one rotation. The encoded state is
    the same, entangled one: what is missing is entangling power of the trained part.

    Without entanglement a weight reaches its own qubit only. Where the number of classes is a power
    of two the groups are a function of log2(C) qubits, and the weights of all others are dead. That
    is in the nature of the control, so nothing warns; `facts["dead_weights"]` counts them.

    Args:
        num_features: Width of a row.
        num_classes: Number of logits.
        seed: Fixes the initial weights and, when sampled, the shots.
        backend: Name of a backend, a `Backend` or an `Engine`.
        layers: Layers of the hardware-efficient ansatz to compare with.
        num_weights: None counts the weights of that ansatz, with its last RY layer.
        encoding: As `fully_quantum`, like the rest.
        encoding_options: Further options of the encoding.
        num_qubits: None takes the fewest qubits that hold the features.
        scheme: How basis states are grouped, None as for `fully_quantum`.
        qubits: The qubits measured.
        sharpness: `"fixed"` or `"learnable"`.
        initial_sharpness: Its (first) value.
        smoothing: Added to each class probability.
        gradient: Gradient rule.
        shots: None is the backend's own.
        dtype: Of the parameters.

    Raises:
        CircuitError: As `fully_quantum`.
        ConfigError: As `fully_quantum`.
    """
    num_features, num_classes = check_sizes(num_features, num_classes)
    n = build_encoding(encoding, num_features, num_qubits, encoding_options).num_qubits
    if num_weights is None:
        layers = python_number(layers)
        num_weights = hardware_efficient(n, layers, final_ry=True).num_parameters
    student, _ = _class_groups(
        "separable",
        num_features,
        num_classes,
        seed,
        backend,
        "product",
        1,
        {"num_weights": python_number(num_weights)},
        encoding,
        encoding_options,
        num_qubits,
        scheme,
        qubits,
        sharpness,
        initial_sharpness,
        smoothing,
        gradient,
        shots,
        dtype,
    )
    del student.facts["layers"]  # the number of weights says it all
    return student


def _class_groups(
    kind: str,
    num_features: int,
    num_classes: int,
    seed: int,
    backend: AnyBackend,
    ansatz: AnyAnsatz,
    layers: int,
    ansatz_options: Mapping[str, Any] | None,
    encoding: AnyEncoding,
    encoding_options: Mapping[str, Any] | None,
    num_qubits: int | None,
    scheme: str | Sequence[int] | None,
    qubits: str | Sequence[int] | None,
    sharpness: str,
    initial_sharpness: float,
    smoothing: float | None,
    gradient: str,
    shots: int | None,
    dtype: torch.dtype | str,
) -> tuple[FullyQuantumStudent, tuple[int, ...] | None]:
    """The student read in class groups, and its dead weights (None: not looked for)."""
    num_features, num_classes = check_sizes(num_features, num_classes)
    _check_sharpness(sharpness, initial_sharpness)
    ansatz, encoding = registered(ansatze, ansatz), registered(encodings, encoding)
    code = build_encoding(encoding, num_features, num_qubits, encoding_options)
    n = code.num_qubits
    if scheme is None:
        scheme = "modulo" if num_classes & (num_classes - 1) else "contiguous"
    read = None if qubits is None else measured_qubits(qubits, n)
    readout = ClassGroups(num_classes, n, scheme, qubits=None if read is None else tuple(read))
    model = build_model(code, ansatz, layers, ansatz_options, readout)
    dead = find_dead_weights(
        model, encoding, encoding_options, ansatz, layers, ansatz_options, readout
    )
    circuit = QuantumLayer(
        model, backend=backend, gradient=gradient, shots=shots, seed=seed, dtype=dtype_of(dtype)
    )
    facts = {
        "kind": kind,
        "encoding": part_name(encodings, encoding),
        "qubits": n,
        "scheme": scheme if isinstance(scheme, str) else readout.outcome_labels.tolist(),
        **({} if read is None else {"measured": read}),
        **weight_facts(model, dead),
        **ansatz_facts(ansatz, layers, ansatz_options),
        "sharpness_mode": sharpness,
        **run_facts(backend, gradient, shots),
    }
    student = FullyQuantumStudent(
        circuit,
        sharpness=initial_sharpness,
        learnable=sharpness == "learnable",
        smoothing=smoothing,
        facts=facts,
        dtype=dtype_of(dtype),
    )
    student.facts = {**facts, "smoothing": student.smoothing}
    few = stream(0, "shots needed").normal(size=(32, num_features))
    warn_few_shots(student, few, what="the untrained student", stacklevel=3)
    return student, dead


def _check_sharpness(mode: str, initial: float) -> None:
    if mode not in ("fixed", "learnable"):
        raise ConfigError(
            "unknown sharpness",
            got=repr(mode),
            expected="'fixed' or 'learnable'",
            remedy="Its (first) value is the option initial_sharpness.",
        )
    rule = "sharpness is positive"
    real(initial, rule, name="initial_sharpness", least=0, strict=True, expected="a number")
