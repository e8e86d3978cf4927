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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from qiskit_kd.circuits import hardware_efficient
from qiskit_kd.errors import ConfigError
from qiskit_kd.nn.circuit_spec import CircuitSpec, RunOptions, quantum_student
from qiskit_kd.nn.modules import (
    ACTIVATIONS,
    ClassicalStudent,
    FullyQuantumStudent,
    HybridStudent,
    Start,
    check_activation,
    check_sharpness,
    check_sizes,
    check_widths,
)
from qiskit_kd.nn.shots import warn_few_shots
from qiskit_kd.registry import Registry
from qiskit_kd.seeding import stream
from qiskit_kd.values import python_number, spread

students: Registry[Callable[..., nn.Module]] = Registry("student")
"""Builders `(num_features, num_classes, *, seed, backend="exact", **options) -> Module`."""


@students.register("linear")
@spread(start=Start)
def linear(num_features: int, num_classes: int, *, start: Start) -> ClassicalStudent:
    """One linear layer: `num_classes (num_features + 1)` parameters; 195 for 64 to 3."""
    num_features, num_classes = check_sizes(num_features, num_classes)
    layer = start.linear(num_features, num_classes, "output")
    return ClassicalStudent({"output": layer}, {"kind": "linear"})


@students.register("mlp")
@spread(start=Start)
def mlp(
    num_features: int,
    num_classes: int,
    *,
    hidden: Sequence[int] = (16, 8),
    activation: str = "relu",
    start: Start,
) -> ClassicalStudent:
    """A multilayer perceptron, the usual teacher; 64-16-8-3 has 1,203 parameters.

    `hidden` are the widths of the hidden layers, and the activation is `"relu"` or `"tanh"`.

    Raises:
        ConfigError: If a width makes no sense or the activation is unknown.
    """
    num_features, num_classes = check_sizes(num_features, num_classes)
    sizes = [num_features, *check_widths(hidden, what="hidden"), num_classes]
    check_activation(activation, ACTIVATIONS)
    facts = {"kind": "mlp", "layers": sizes, "activation": activation}
    return ClassicalStudent(start.layers(sizes, activation, "output"), facts)


@students.register("hybrid")
@quantum_student()
def hybrid(
    spec: CircuitSpec,
    num_classes: int,
    run: RunOptions,
    *,
    measured: str | Sequence[int] | None = None,
    head: Sequence[int] = (),
) -> HybridStudent:
    """A circuit, Z on some qubits (selective measurement) and a linear layer or a small MLP.

    With the defaults, at 64 features and 3 classes: 4 layers of the hardware-efficient ansatz on 6
    qubits with 68 weights, Z on the last qubit, which every weight can move, and Linear(1, 3): 74
    parameters. The published student has 74 parameters; that they are divided this way is a guess
    from that number alone. Reading all qubits is the stronger student: Linear(6, 3), 89 parameters.
    Warns of weights that cannot move the qubits read (up to about ten qubits).

    `measured` are the qubits read, or `"all"`; None reads the last. `head` are widths of hidden
    layers (tanh) between the values read and the logits. Further options are those of `CircuitSpec`
    and `RunOptions`.

    Raises:
        CircuitError: If the features do not fit the qubits or a part cannot be built.
        ConfigError: If a name is unknown or an option makes no sense.
    """
    spec = replace(spec, measured=measured)
    circuit = run.layer(spec)
    spec.warn_dead_weights()
    widths = list(check_widths(head, what="head"))
    sizes = [len(spec.qubits_read), *widths, num_classes]
    facts = {"kind": "hybrid", **spec.facts(), **run.facts(), **({"head": sizes} if widths else {})}
    made = run.layers(sizes, "tanh", "head")
    # A single layer goes by the name that weights of published students have.
    top = made["head"] if not widths else nn.Sequential(OrderedDict(made))
    return HybridStudent(circuit, top, facts)


@dataclass(frozen=True)
class ClassReading:
    """How a student is read in class groups.

    Args:
        scheme: How basis states are grouped, as `CircuitSpec`.
        qubits: The qubits measured ("selective measurement"), lowest bit first; None measures all.
            Class groups over many qubits concentrate; with encodings of one feature per qubit, few
            measured ones need far fewer shots.
        sharpness: `"fixed"` or `"learnable"`.
        initial_sharpness: Its (first) value; 1 is the published form.
        smoothing: Added to each class probability; None adds half a count (0.5 / shots) where
            they are sampled, and nothing otherwise.
    """

    scheme: str | Sequence[int] | None = None
    qubits: str | Sequence[int] | None = None
    sharpness: str = "fixed"
    initial_sharpness: float = 1.0
    smoothing: float | None = None

    def of(self, spec: CircuitSpec, num_classes: int) -> CircuitSpec:
        """The circuit, read so."""
        return replace(spec, num_classes=num_classes, scheme=self.scheme, measured=self.qubits)

    def student(self, kind: str, spec: CircuitSpec, run: RunOptions) -> FullyQuantumStudent:
        """The student of a circuit that is read so."""
        if self.sharpness not in ("fixed", "learnable"):
            raise ConfigError(
                "unknown sharpness",
                got=repr(self.sharpness),
                expected="'fixed' or 'learnable'",
                remedy="Its (first) value is the option initial_sharpness.",
            )
        student = FullyQuantumStudent(
            run.layer(spec),
            sharpness=check_sharpness(self.initial_sharpness, "initial_sharpness"),
            learnable=self.sharpness == "learnable",
            smoothing=self.smoothing,
            dtype=run.precision,
        )
        student.facts = {
            "kind": kind,
            **spec.facts(),
            "sharpness_mode": self.sharpness,
            **run.facts(),
            "smoothing": student.smoothing,
        }
        few = stream(0, "shots needed").normal(size=(32, spec.num_features))
        warn_few_shots(student, few, what="the untrained student", stacklevel=4)
        return student


@students.register("fully_quantum")
@quantum_student(groups={"reading": ClassReading})
def fully_quantum(
    spec: CircuitSpec, num_classes: int, run: RunOptions, *, reading: ClassReading
) -> FullyQuantumStudent:
    """A circuit without any classical layer: its basis states are summed into class groups.

    With the defaults, at 64 features: 4 layers of the hardware-efficient ansatz on 6 qubits and a
    last layer of RY, 74 parameters whatever the number of classes; 75 with a learnable sharpness.
    All of them can learn where every qubit is read, as with 3 classes. Where the number of classes
    is a power of two, the groups are a function of log2(C) qubits, and the last RY of each other
    qubit is dead: 5, 4 and 3 weights with 2, 4 and 8 classes and the default groups, which read the
    end of the chain (`"modulo"`, its beginning, leaves 39, 26 and 15). Warns of such weights (up to
    about ten qubits).

    Options are those of `CircuitSpec`, where `ansatz_options` None adds the last RY layer to
    `hardware_efficient`, of `RunOptions` and of `ClassReading`.

    Raises:
        CircuitError: If the features do not fit the qubits, there are more classes than basis
            states, or a part cannot be built.
        ConfigError: If a name is unknown or an option makes no sense.
    """
    spec = reading.of(spec, num_classes)
    published = isinstance(spec.ansatz, str) and spec.ansatz == "hardware_efficient"
    if published and spec.ansatz_options is None:
        spec = replace(spec, ansatz_options={"final_ry": True})
    student = reading.student("fully_quantum", spec, run)
    spec.warn_dead_weights()
    return student


@students.register("separable")
@quantum_student(without=("ansatz", "ansatz_options"), groups={"reading": ClassReading})
def separable(
    spec: CircuitSpec,
    num_classes: int,
    run: RunOptions,
    *,
    num_weights: int | None = None,
    reading: ClassReading,
) -> FullyQuantumStudent:
    """The entanglement-free control: as `fully_quantum`, but its gates act on single qubits.

    As many weights as `fully_quantum` with as many layers (74 at 64 features and 4 layers), or
    `num_weights`; many of them are redundant, since rotations of one qubit in a row are one
    rotation. The encoded state is the same, entangled one: what is missing is entangling power of
    the trained part.

    Without entanglement a weight reaches its own qubit only. Where the number of classes is a power
    of two the groups are a function of log2(C) qubits, and the weights of all others are dead. That
    is in the nature of the control, so nothing warns; `facts["dead_weights"]` counts them.

    Options are those of `fully_quantum` but for the ansatz.
    """
    spec = reading.of(spec, num_classes)
    if num_weights is None:
        compared = hardware_efficient(spec.code.num_qubits, spec.layers, final_ry=True)
        num_weights = compared.num_parameters
    options = {"num_weights": python_number(num_weights)}
    spec = replace(spec, ansatz="product", layers=1, ansatz_options=options)
    student = reading.student("separable", spec, run)
    del student.facts["layers"]  # the number of weights says it all
    return student
