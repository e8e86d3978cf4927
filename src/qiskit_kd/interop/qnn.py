# SPDX-License-Identifier: Apache-2.0
"""Networks of qiskit-machine-learning as quantum layers."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN, NeuralNetwork, SamplerQNN

from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables, Readout
from qiskit_kd.circuits.mixing import unmeasured
from qiskit_kd.errors import CircuitError, ConfigError
from qiskit_kd.nn.layer import AnyBackend, EngineNetwork, QuantumLayer


def from_qnn(
    network: NeuralNetwork | TorchConnector, backend: AnyBackend = "exact", **options: Any
) -> QuantumLayer:
    """A `SamplerQNN`, an `EstimatorQNN` or a `TorchConnector` over one as a quantum layer.

    Circuit, order of inputs and weights, classes and observables are kept, and the weights of a
    connector. The primitive is not: `backend=network.sampler` runs on it. Outputs of an `interpret`
    with several axes come flat, in numpy's order.

    Args:
        network: The network.
        backend: As of `QuantumLayer`.
        options: Further ones of `QuantumLayer`.

    Raises:
        CircuitError: If the parameters of the circuit are not all inputs or weights, `interpret` is
            no partition into the classes, or an observable has another width than the circuit.
        ConfigError: If it is another kind of network, or an option does not fit.
    """
    weights = None
    if isinstance(network, TorchConnector):
        weights = network.weight.detach()
        options = {"dtype": weights.dtype, **options}
        network = network.neural_network
    if isinstance(network, EngineNetwork):
        model = network.model
    elif isinstance(network, SamplerQNN | EstimatorQNN):
        model = _model(network)
    else:
        raise ConfigError(
            "a layer is made from a network of circuits",
            got=type(network).__name__,
            expected="a SamplerQNN, an EstimatorQNN or a TorchConnector over one",
            remedy="Of a circuit of your own: QuantumLayer(CircuitModel.from_circuit(...)).",
        )
    layer = QuantumLayer(model, backend, **options)
    if weights is not None:
        with torch.no_grad():
            layer.weight.copy_(weights)
    return layer


def _model(network: SamplerQNN | EstimatorQNN) -> CircuitModel:
    circuit = network.circuit
    width = circuit.num_qubits if circuit.layout is None else network.num_virtual_qubits
    readout: Readout
    if isinstance(network, SamplerQNN):
        readout = _classes(network, width)
    else:
        readout = _observables(network, width)
    return CircuitModel.from_circuit(circuit, network.input_params, network.weight_params, readout)


def _measured(circuit: QuantumCircuit, width: int) -> dict[int, int]:
    """The qubit in each place of an outcome, as the network reads its own circuit's result."""
    if not circuit.clbits:
        return {k: k for k in range(width)}
    if circuit.layout is not None:
        raise CircuitError(
            "a transpiled circuit is measured by its network",
            got="measurements of its own",
            remedy="Leave them out before it is transpiled, or pass the circuit as it was.",
        )
    bits = {circuit.find_bit(bit).index: place for place, bit in enumerate(circuit.clbits)}
    for register in circuit.cregs:
        if register.name == "meas":  # then the others are not looked at
            bits = {circuit.find_bit(bit).index: place for place, bit in enumerate(register)}
    read = unmeasured(circuit)[1]
    return {bits[bit]: read[bit] for bit in sorted(read) if bit in bits}


def _classes(network: SamplerQNN, width: int) -> ClassGroups:
    read = _measured(network.circuit, width)
    shape = tuple(network.output_shape)
    rule = "an interpret sorts the outcomes into all classes of the output_shape"
    interpret: Any = network.interpret
    scheme = []
    for held in range(2 ** len(read)):
        outcome = sum((held >> k & 1) << place for k, place in enumerate(sorted(read)))
        said = f"interpret({outcome}), which raises"
        try:
            if outcome >= 2**width:
                raise ValueError(f"{outcome}, which a network of {width} qubits drops")
            found = interpret(outcome)
            said = f"interpret({outcome}) = {found!r}"
            places = (found,) if isinstance(found, Integral) else found
            scheme.append(int(np.ravel_multi_index(tuple(int(k) for k in places), shape)))
        except Exception as error:  # whatever somebody's function raises
            raise CircuitError(
                rule,
                got=said if "=" in said else f"{said} {type(error).__name__}: {error}",
                expected=f"indices of an array of shape {shape}",
                remedy="Correct interpret or output_shape.",
            ) from error
    classes = int(np.prod(shape))
    if missing := sorted(set(range(classes)) - set(scheme)):
        raise CircuitError(
            rule,
            got=f"no outcome of class {missing[0]}"
            + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
            expected=f"each of 0..{classes - 1}",
            remedy="Correct interpret or output_shape.",
        )
    qubits = tuple(read[place] for place in sorted(read))
    return ClassGroups(
        classes, width, scheme, qubits=None if qubits == tuple(range(width)) else qubits
    )


def _observables(network: EstimatorQNN, width: int) -> Observables:
    for operator in network.observables:
        if operator.num_qubits != width:
            raise CircuitError(
                "an observable acts on the qubits of its circuit",
                got=f"{operator.num_qubits} qubits",
                expected=f"{width}, as the circuit before it was transpiled",
                remedy="Pad it with I, or take it off the layout.",
            )
    return Observables(list(network.observables))
