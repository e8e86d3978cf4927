# SPDX-License-Identifier: Apache-2.0
"""Random circuits of the whole standard library, through every engine and plain primitive.

`pytest tests/execution/test_fuzz.py --fuzz 500` tries 500 circuits a test instead of ten. Exact
values equal Qiskit's `Statevector` to 1e-10, sampled ones lie within six standard errors of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import (
    AnnotatedOperation,
    ControlModifier,
    Gate,
    InverseModifier,
    Parameter,
    ParameterVector,
    PowerModifier,
)
from qiskit.circuit.library import (
    DiagonalGate,
    GlobalPhaseGate,
    HamiltonianGate,
    MCPhaseGate,
    MCXGate,
    PauliEvolutionGate,
    PauliGate,
    PermutationGate,
    QFTGate,
    UCRYGate,
    UnitaryGate,
    get_standard_gate_name_mapping,
)
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit.quantum_info import (
    Clifford,
    SparsePauliOp,
    Statevector,
    random_clifford,
    random_unitary,
)
from qiskit_aer.primitives import EstimatorV2, SamplerV2

from qiskit_kd.circuits import CircuitModel, ClassGroups, Encoding, Observables
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.schema import AerOptions, ExactOptions, NoisyOptions
from tests.execution.engines import sampler_engine

SHOTS = 2000
ROWS = 3
NOISELESS = {"rates": {"coupling": "full"}}

Draw = np.random.Generator


def identity(x: np.ndarray) -> np.ndarray:
    return x


@cache
def library() -> list[Gate]:
    return [g for _, g in sorted(get_standard_gate_name_mapping().items()) if isinstance(g, Gate)]


def angle(draw: Draw, pool: list[Parameter]) -> Any:
    """An angle: a number, a parameter, or an expression of parameters."""
    a, b = (pool[k] for k in draw.integers(0, len(pool), 2))
    number = float(draw.uniform(-3, 3))
    forms = [number, a, a, -a / 2, number * a, a + number, a - 2 * b, a * b / 3, a**2 / 2,
             (a / 2).sin(), (number * a).cos() + b, (a / 4).exp(), a.arctan()]  # fmt: skip
    return forms[draw.integers(len(forms))]


def standard(draw: Draw, pool: list[Parameter]) -> Gate:
    gate = library()[draw.integers(len(library()))]
    if not gate.params:
        return gate
    return gate.base_class(*(angle(draw, pool) for _ in gate.params))


def special(draw: Draw, pool: list[Parameter]) -> Any:
    """What the mapping of standard gates does not hold."""
    seed = int(draw.integers(2**31))
    one, two = (float(v) for v in draw.uniform(-3, 3, 2))
    choices: list[Callable[[], Any]] = [
        lambda: MCPhaseGate(angle(draw, pool), 2, ctrl_state=int(draw.integers(4))),
        lambda: MCXGate(2, ctrl_state=int(draw.integers(4))),
        lambda: PauliEvolutionGate(SparsePauliOp(["ZZ", "XX"], [0.5, one]), angle(draw, pool)),
        lambda: PauliGate("XYZ"[: draw.integers(1, 4)]),
        lambda: PermutationGate(draw.permutation(3).tolist()),
        lambda: QFTGate(int(draw.integers(1, 4))),
        lambda: UnitaryGate(random_unitary(4, seed=seed)),
        lambda: HamiltonianGate(np.array([[one, 1j], [-1j, two]]), two),
        lambda: random_clifford(2, seed=seed),
        lambda: Clifford(random_clifford(1, seed=seed)),
        lambda: UCRYGate([one, two]),
        lambda: DiagonalGate(np.exp(1j * draw.uniform(-3, 3, 4))),
        lambda: GlobalPhaseGate(angle(draw, pool)),
    ]
    return choices[draw.integers(len(choices))]()


def gates(draw: Draw, pool: list[Parameter], depth: int = 0) -> Any:
    """One operation: of the library, special, or one of these controlled or wrapped."""
    kind = draw.integers(10)
    if kind < 5 or depth > 1:
        return standard(draw, pool)
    if kind < 7:
        return special(draw, pool)
    inner = gates(draw, pool, depth + 1)
    if not isinstance(inner, Gate) or inner.num_qubits > 2 or inner.num_qubits == 0:
        return inner
    if kind == 7:  # a composite gate with a name that may be somebody else's
        circuit = QuantumCircuit(2, name=["mine", "h", "box"][draw.integers(3)])
        circuit.global_phase = angle(draw, pool)
        circuit.append(inner, range(inner.num_qubits))
        circuit.append(standard_of(draw, pool, 2), range(2))
        return circuit.to_gate()
    state = int(draw.integers(2))
    if kind == 8:
        return inner.control(1, ctrl_state=state, annotated=bool(draw.integers(2)))
    modifiers = [ControlModifier(1, state), InverseModifier(), PowerModifier(2)]
    return AnnotatedOperation(inner, [modifiers[k] for k in draw.permutation(3)[:2]])


def standard_of(draw: Draw, pool: list[Parameter], width: int) -> Gate:
    while (gate := standard(draw, pool)).num_qubits != width:
        pass
    return gate


def random_part(draw: Draw, num_qubits: int, pool: list[Parameter], count: int) -> QuantumCircuit:
    circuit = QuantumCircuit(num_qubits)
    circuit.global_phase = angle(draw, pool)
    for parameter in pool:  # each enters at least once
        circuit.ry(parameter, int(draw.integers(num_qubits)))
    while len(circuit.data) < count + len(pool):
        operation = gates(draw, pool)
        if operation.num_qubits <= num_qubits:
            circuit.append(operation, draw.permutation(num_qubits)[: operation.num_qubits].tolist())
        if draw.random() < 0.1:
            circuit.barrier()
    return circuit


def random_model(seed: Any, *, general: bool | None = None) -> CircuitModel:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 5))
    inputs = list(ParameterVector("x", int(draw.integers(1, 4))))
    weights = [Parameter(f"w{k}") for k in range(int(draw.integers(1, 13)))]
    encoding = Encoding("own", random_part(draw, n, inputs, 3), len(inputs), identity)
    ansatz = random_part(draw, n, weights, 6)
    readout: Any = ClassGroups(2, n, draw.permutation(np.arange(2**n) % 2).tolist())
    if draw.random() < 0.5 if general is None else general:
        strings = ["".join(draw.choice(list("IXYZ"), n)) for _ in range(2)]
        readout = Observables([*strings, SparsePauliOp(["Z" * n, "I" * n], [0.5, -0.25])])
    return CircuitModel(encoding, ansatz, readout)


def values(model: CircuitModel, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng([seed, 1])
    x = draw.uniform(-2, 2, (ROWS, model.num_features))
    return x, draw.uniform(-2, 2, model.num_weights)


def observables(model: CircuitModel) -> list[SparsePauliOp]:
    if isinstance(model.readout, Observables):
        return list(model.readout.operators)
    return [SparsePauliOp(["Z" * model.num_qubits, "X" * model.num_qubits], [0.5, 1.0])]


def states(model: CircuitModel, seed: int) -> Iterator[Statevector]:
    x, w = values(model, seed)
    for row in x:
        yield Statevector(model.circuit.assign_parameters([*row, *w]))


def expected(model: CircuitModel, seed: int) -> np.ndarray:
    if isinstance(model.readout, Observables):
        return np.array(
            [[s.expectation_value(o).real for o in observables(model)] for s in states(model, seed)]
        )
    return np.array(
        [model.readout.of_probabilities(s.probabilities()) for s in states(model, seed)]
    )


EXACT = {
    "exact": ExactOptions(kind="exact"),
    "aer": AerOptions(kind="aer"),
    "noisy": NoisyOptions(kind="noisy", noise=NOISELESS, optimization_level=1),
}


def backend(name: str, **changes: Any) -> Backend:
    return Backend(name, EXACT[name].model_copy(update=changes), "")


SAMPLED: dict[str, Callable[[int], Any]] = {
    "exact with shots": lambda seed: backend("exact", shots=SHOTS).engine(seed=seed),
    "aer with shots": lambda seed: backend("aer", shots=SHOTS).engine(seed=seed),
    "noisy with shots": lambda seed: backend("noisy", shots=SHOTS).engine(seed=seed),
    "noisy by Aer": lambda seed: backend("noisy", shots=SHOTS, sampled_by="qiskit_aer").engine(
        seed=seed
    ),
    "engine on Aer's sampler": lambda seed: sampler_engine(SamplerV2(seed=seed), shots=SHOTS),
    "engine on Qiskit's sampler": lambda seed: sampler_engine(
        StatevectorSampler(seed=seed), shots=SHOTS
    ),
}
AT_RUN_TIME = {"run_options": {"runtime_parameter_bind_enable": True}}
# With each primitive, the backend whose pass manager makes its circuits; None: any circuit will do.
SAMPLERS: dict[str, tuple[Callable[[int], Any], str | None]] = {
    "our sampler": (lambda seed: backend("aer").sampler(seed=seed), None),
    "our noisy sampler": (lambda seed: backend("noisy").sampler(seed=seed), "noisy"),
    "Aer's sampler": (lambda seed: SamplerV2(seed=seed), "aer"),
    "Aer's, bound by the run": (lambda seed: SamplerV2(seed=seed, options=AT_RUN_TIME), "aer"),
}
ESTIMATORS: dict[str, tuple[Callable[[], Any], str | None]] = {
    "our estimator": (lambda: backend("aer").estimator(), None),
    "our noisy estimator": (lambda: backend("noisy").estimator(), "noisy"),
    "Qiskit's estimator": (StatevectorEstimator, "exact"),
    "Aer's estimator": (EstimatorV2, "aer"),
}


def compiled(circuit: QuantumCircuit, by: str | None) -> tuple[QuantumCircuit, list[int]]:
    """The circuit as a primitive wants it, and where its parameters stand in the original."""
    made = circuit if by is None else backend(by).pass_manager().run(circuit)
    order = list(circuit.parameters)
    return made, [order.index(p) for p in made.parameters]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--fuzz")))


# Qiskit's exponential of a sparse operator.
pytestmark = pytest.mark.filterwarnings("ignore::scipy.sparse.SparseEfficiencyWarning")


def test_engines_are_exact(seed: int) -> None:
    model = random_model(seed)
    x, w = values(model, seed)
    wanted = expected(model, seed)
    for name, options in EXACT.items():
        found = Backend(name, options, "").engine(seed=0).outputs(model, x, w)
        assert np.abs(found - wanted).max() < 1e-10, name


def within(found: np.ndarray, wanted: np.ndarray, shots: int, scale: float = 1.0) -> bool:
    """Six standard errors of a bounded value, however it is distributed."""
    spread = np.sqrt(np.maximum(scale**2 - wanted**2, 0) / shots)
    return bool((np.abs(found - wanted) <= 6 * spread + 4 * scale / shots).all())


def test_sampled_engines_are_within_noise(seed: int) -> None:
    model = random_model([seed, 1])
    x, w = values(model, seed)
    wanted = expected(model, seed)
    for name, make in SAMPLED.items():
        found = make(seed).outputs(model, x, w)
        assert within(found, wanted, SHOTS), name


def test_plain_samplers_are_within_noise(seed: int) -> None:
    model = random_model([seed, 2], general=False)
    x, w = values(model, seed)
    rows = np.concatenate([x, np.tile(w, (ROWS, 1))], axis=1)
    wanted = np.array([s.probabilities() for s in states(model, seed)])
    circuit = model.circuit.copy()
    circuit.measure_all()
    for name, (make, by) in SAMPLERS.items():
        chosen, columns = compiled(circuit, by)
        bits = make(seed).run([(chosen, rows[:, columns], SHOTS)]).result()[0].data.meas
        found = np.zeros_like(wanted)
        for row, each in enumerate(bits):
            for outcome, count in each.get_int_counts().items():
                found[row, outcome] = count / SHOTS
        assert within(2 * found - 1, 2 * wanted - 1, SHOTS), name


def test_plain_estimators_are_exact(seed: int) -> None:
    model = random_model([seed, 3], general=True)
    x, w = values(model, seed)
    rows = np.concatenate([x, np.tile(w, (ROWS, 1))], axis=1)
    operators = observables(model)
    wanted = expected(model, seed)
    for name, (make, by) in ESTIMATORS.items():
        chosen, columns = compiled(model.circuit, by)
        moved = [op.apply_layout(chosen.layout) if chosen.layout else op for op in operators]
        pub = (chosen, [[op] for op in moved], rows[:, columns])
        found = make().run([pub], precision=0.0).result()[0].data.evs
        assert np.abs(np.asarray(found).T - wanted).max() < 1e-8, name
