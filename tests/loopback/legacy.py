# SPDX-License-Identifier: Apache-2.0
"""The older V2 primitives of the loopback service: programs `sampler` and `estimator`.

A sampler draws shots. An estimator answers exact values with normal noise of the precision asked
for; resilience changes nothing, because the imitation has no errors to mitigate.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from ibm_quantum_schemas.estimator import version_0_1 as estimator_schema
from ibm_quantum_schemas.sampler import version_0_1 as sampler_schema
from qiskit import QuantumCircuit
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp
from qiskit_ibm_runtime.json import RuntimeDecoder, RuntimeEncoder

from tests.loopback.simulator import expectations, shots_of

__all__ = ["Program", "decode", "signature"]

PRECISION = 0.015625
"""Precision of an estimator PUB that does not say its own."""


def signature(circuit: QuantumCircuit) -> str:
    """What a circuit does: QPY will not do, it holds a random number for every parameter."""
    names = [p.name for p in circuit.parameters]
    parts = [f"{circuit.num_qubits}/{circuit.num_clbits}/{names}"]
    parts += [f"{r.name}:{[circuit.find_bit(b).index for b in r]}" for r in circuit.cregs]
    for item in circuit.data:
        wires = [circuit.find_bit(b).index for b in (*item.qubits, *item.clbits)]
        parts.append(f"{item.operation.name}{[str(p) for p in item.operation.params]}{wires}")
    return "\n".join(parts)


@dataclass(frozen=True)
class Pub:
    """One PUB: a coerced one of the client, and how many circuits it runs."""

    pub: Any
    executions: int

    @property
    def circuit(self) -> QuantumCircuit:
        """Its circuit."""
        return self.pub.circuit


@dataclass(frozen=True)
class Program:
    """A request of an older primitive."""

    kind: str
    pubs: tuple[Pub, ...]

    def content(self) -> str:
        """Text that two requests share exactly where they ask for the same."""
        parts = [self.kind]
        for item in self.pubs:
            pub = item.pub
            values = pub.parameter_values.as_array(pub.circuit.parameters)
            parts += [signature(pub.circuit), str(values.shape), values.tobytes().hex()]
            if self.kind == "sampler":
                parts.append(str(pub.shots))
            else:
                parts += [str(pub.observables.tolist()), str(pub.precision)]
        return "\n".join(parts)

    def run(self, rng: np.random.Generator) -> str:
        """The text of the result."""
        one = self._sample if self.kind == "sampler" else self._estimate
        results = [one(item.pub, rng) for item in self.pubs]
        return json.dumps(PrimitiveResult(results, {"version": 2}), cls=RuntimeEncoder)

    @staticmethod
    def _sample(pub: SamplerPub, rng: np.random.Generator) -> SamplerPubResult:
        values = pub.parameter_values.as_array(pub.circuit.parameters)
        rows = values.reshape(int(np.prod(pub.shape)), len(pub.circuit.parameters))
        fields = {
            name: BitArray.from_bool_array(bits.reshape(*pub.shape, *bits.shape[1:]), "little")
            for name, bits in shots_of(pub.circuit, rows, pub.shots, rng).items()
        }
        return SamplerPubResult(DataBin(**fields, shape=pub.shape), {"circuit_metadata": {}})

    @staticmethod
    def _estimate(pub: EstimatorPub, rng: np.random.Generator) -> PubResult:
        values = pub.parameter_values.as_array(pub.circuit.parameters)
        shape, precision = pub.shape, PRECISION if pub.precision is None else pub.precision
        rows = values.reshape(-1, len(pub.circuit.parameters))
        if not len(pub.circuit.parameters):
            rows = np.zeros((int(np.prod(values.shape[:-1])), 0))
        index = np.arange(len(rows)).reshape(values.shape[:-1])
        exact = np.empty(shape)
        observables = np.broadcast_to(np.asarray(pub.observables), shape)
        which = np.broadcast_to(index, shape)
        known: dict[str, Any] = {}
        for place in np.ndindex(shape):
            observable = observables[place]
            key = json.dumps(dict(observable), sort_keys=True)
            if key not in known:
                operator = SparsePauliOp.from_list(list(dict(observable).items()))
                known[key] = expectations(pub.circuit, rows, [operator])[0]
            exact[place] = known[key][which[place]]
        noisy = exact + precision * rng.standard_normal(shape)
        data = DataBin(evs=noisy, stds=np.full(shape, precision), shape=shape)
        return PubResult(data, {"target_precision": precision, "circuit_metadata": {}})


def decode(kind: str, params: dict[str, Any]) -> Program:
    """Read the parameters of an older primitive, after the schema package has accepted them.

    Raises:
        ValueError: If it does not.
    """
    models = {"sampler": sampler_schema.ParamsModel, "estimator": estimator_schema.ParamsModel}
    models[kind].model_validate(params)
    pubs = []
    for raw in json.loads(json.dumps(params["pubs"]), cls=RuntimeDecoder):
        if kind == "sampler":
            circuit, values, shots = raw
            one: Any = SamplerPub.coerce((circuit, values), shots)
            pubs.append(Pub(one, int(np.prod(one.shape)) * one.shots))
        else:
            circuit, observables, values, precision = raw
            one = EstimatorPub.coerce((circuit, observables, values), precision)
            wanted = PRECISION if precision is None else precision
            pubs.append(Pub(one, int(np.prod(one.shape)) * int(np.ceil(wanted**-2))))
    return Program(kind, tuple(pubs))
