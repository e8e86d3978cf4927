# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import itertools
import pickle
from functools import partial

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.primitives import BitArray, StatevectorEstimator, StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import SparsePauliOp

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude, angle, reuploading
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import ConfigError, ExecutionError, ResourceError
from qiskit_kd.execution import engine_source as exact_shots_module
from qiskit_kd.execution import measurement, memory
from qiskit_kd.execution.aer import AerEstimator, AerSampler, aer_pass_manager
from qiskit_kd.execution.engine import Engine, Needs
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.measurement import bases, measured
from qiskit_kd.execution.primitives import outcomes
from qiskit_kd.execution.sampled import SampledEngine
from tests.execution import engines
from tests.execution.engines import sampler_engine
from tests.reference import reference_outputs, reference_weight_gradient

BOTH = Needs(features=True, weights=True)
WEIGHTS = Needs(features=False, weights=True)
NOTHING = Needs(features=False, weights=False)
GENERAL = Observables(["XIY", SparsePauliOp(["ZZI", "IXI", "YII"], [1.0, -0.5, 2.0]), "III"])


def aer_sampler(seed: int) -> AerSampler:
    return AerSampler(seed=seed % 2**31)


def aer_estimator(seed: int) -> AerEstimator:
    return AerEstimator(seed=seed % 2**31)


def aer(shots: int, **options) -> SampledEngine:
    return sampler_engine(
        aer_sampler, pass_manager=aer_pass_manager, shots=shots, simulated=True, **options
    )


def exact_shots(shots: int, **options) -> SampledEngine:
    return engines.exact_shots(ExactEngine(), shots=shots, **options)


ENGINES = {"aer": aer, "exact_shots": exact_shots}


def draw(model: CircuitModel, *, batch: int = 3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, model.num_features))
    return x, rng.normal(size=model.num_weights), rng.normal(size=(batch, model.num_outputs))


def small(readout=None, encoding=None) -> CircuitModel:
    return CircuitModel(
        encoding or angle(3), hardware_efficient(3, 1), readout or ClassGroups(3, 3)
    )


def test_outcomes_are_big_endian_bytes() -> None:
    numbers = np.array([[3, 70_000], [255, 256]])
    samples = [format(v, "017b") for v in numbers.ravel()]
    bits = BitArray.from_samples(samples, 17)
    np.testing.assert_array_equal(outcomes(bits), numbers.ravel())
    shaped = BitArray(bits.array.reshape(2, 2, 3), 17)
    np.testing.assert_array_equal(outcomes(shaped), numbers)


def test_measured_circuits_name_their_register_and_keep_logical_order() -> None:
    model = small(ClassGroups(2, 3, qubits=(2, 0)))
    (basis,) = bases(model.readout)
    circuit = measured(model.circuit, basis)
    assert [(r.name, r.size) for r in circuit.cregs] == [("meas", 2)]
    places = [
        (circuit.find_bit(i.qubits[0]).index, circuit.find_bit(i.clbits[0]).index)
        for i in circuit.data
        if i.operation.name == "measure"
    ]
    assert places == [(2, 0), (0, 1)]


@pytest.mark.parametrize("dense", [True, False])
def test_histograms_equal_looking_up_each_shot(dense: bool, monkeypatch) -> None:
    monkeypatch.setattr(measurement, "_DENSE", 2**12 if dense else 0)
    (basis,) = bases(Observables(["ZII", "IZZ"]))
    assert basis.qubits == (0, 1, 2)
    states = np.random.default_rng(0).integers(0, 8, (4, 100))
    expected = [[basis.matrix[k] for k in row] for row in states]
    np.testing.assert_allclose(basis.of_outcomes(states), np.mean(expected, axis=1))


@pytest.mark.parametrize(
    ("strings", "touched"),
    [(["IZII", "IIIZ"], [(0, 2)]), (["IIII"], [(0,)]), (["IXII", "IIIY"], [(0, 2)]),
     (["IXII", "IZIZ", "IIII"], [(2,), (0, 2)])],
)  # fmt: skip
@pytest.mark.parametrize("engine", ENGINES)
def test_only_qubits_that_observables_touch_are_measured(engine: str, strings, touched) -> None:
    readout = Observables([SparsePauliOp([s], [2.0]) for s in strings])
    found = bases(readout)
    assert sorted(b.qubits for b in found) == sorted(touched)
    assert all(len(b.matrix) == 2 ** len(b.qubits) for b in found)
    model = CircuitModel(angle(4), hardware_efficient(4, 1), readout)
    x, w, _ = draw(model)
    np.testing.assert_allclose(
        ENGINES[engine](20_000, seed=0).outputs(model, x, w), reference_outputs(model, x, w),
        atol=5 * 2 / np.sqrt(20_000),
    )  # fmt: skip
    exact = engines.exact_shots(ExactEngine(), shots=None)
    np.testing.assert_allclose(
        exact.outputs(model, x, w), reference_outputs(model, x, w), atol=1e-12
    )


def test_outcomes_that_count_alike_are_one_class(monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(exact_shots_module, "require_memory", lambda n, *_: seen.append(n))
    model = CircuitModel(angle(12), hardware_efficient(12, 1), Observables(["Z" * 12]))
    x, w, _ = draw(model, batch=1)
    engine = exact_shots(10_000, seed=0)
    np.testing.assert_allclose(
        engine.outputs(model, x, w), reference_outputs(model, x, w), atol=5 / 100
    )
    assert max(seen) == 4 * 8 * 2**12 * 2  # two classes, not an identity of 4096


def test_tables_that_do_not_fit_are_refused_before_they_are_made(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**30)
    each = ["I" * (13 - q) + "Z" + "I" * q for q in range(14)]
    model = CircuitModel(angle(14), hardware_efficient(14, 1), Observables(each))
    with pytest.raises(
        ResourceError,
        match=r"the probabilities of 16,384 outcomes of 14 qubits must fit into memory; got "
        r"8\.0 GiB needed; .* Read fewer qubits, or use a backend of kind aer with shots\.",
    ):
        exact_shots(10).outputs(model, np.zeros((1, 14)), np.zeros(model.num_weights))
    wide, ansatz = QuantumCircuit(40), QuantumCircuit(40)
    wide.rx(Parameter("input_0"), 0)
    ansatz.ry(Parameter("weight_0"), 39)
    many = CircuitModel(
        Encoding("wide", wide, 1, np.asarray), ansatz, Observables(["Z" * 40, "X" * 40])
    )
    for engine in (exact_shots(10), aer(10)):
        with pytest.raises(ResourceError, match=r"40 qubits.* must fit into memory; got"):
            engine.outputs(many, np.zeros((1, 1)), np.zeros(1))
    with pytest.raises(
        ResourceError,
        match=r"the table of 40 measured qubits and 2 outputs must fit into memory; got .* Read "
        r"fewer qubits\.",
    ):
        bases(many.readout)
    few = Observables(["I" * 39 + "Z", "X" + "I" * 39])
    assert [b.qubits for b in bases(few)] == [(0, 39)]  # a device of any size will do


def test_commuting_observables_share_a_basis() -> None:
    assert len(bases(Observables(["XXI", "IXX", "XIX"]))) == 1
    assert len(bases(Observables(["XXI", "ZZI", "IIY"]))) == 2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "model",
    [small(), small(ClassGroups(2, 3, qubits=(2, 1))), small(encoding=amplitude(3)),
     small(encoding=reuploading(3, 2))],
    ids=["all", "selected", "amplitude", "reuploading"],
)  # fmt: skip
def test_frequencies_agree_with_probabilities(engine: str, model: CircuitModel) -> None:
    x, w, _ = draw(model, batch=2)
    shots = 200_000
    p = reference_outputs(model, x, w)
    seen = ENGINES[engine](shots, seed=11).outputs(model, x, w)
    sigma = np.sqrt(p * (1 - p) / shots)
    assert (np.abs(seen - p) < 5 * sigma).all()
    assert (np.abs(seen - p) > 0).any()  # samples, not probabilities
    np.testing.assert_allclose(seen.sum(-1), 1)
    np.testing.assert_allclose(seen * shots, np.round(seen * shots), atol=1e-6)


@pytest.mark.parametrize("engine", ["aer", "exact_shots", "estimator"])
@pytest.mark.parametrize("encoding", [angle(3), reuploading(3, 2)], ids=lambda e: e.name)
def test_observables_that_are_not_diagonal(engine: str, encoding) -> None:
    model, shots = small(GENERAL, encoding), 2_000 if engine == "aer" else 200_000
    x, w, upstream = draw(model)
    if engine == "estimator":
        chosen: Engine = aer(shots, estimator=aer_estimator, gradient="shift", seed=1)
    else:
        chosen = ENGINES[engine](shots, gradient="shift", seed=1)
    values, pullback = chosen.vjp(model, x, w, BOTH)
    # At most sum |coefficient| = 3.5 standard deviations of a +-1 variable each.
    np.testing.assert_allclose(
        values, reference_outputs(model, x, w), atol=5 * 3.5 / np.sqrt(shots)
    )
    gx, gw = pullback(upstream)
    expected = reference_weight_gradient(model, x, w, upstream)
    sigma = 3.5 * np.linalg.norm(upstream) / np.sqrt(2 * shots)
    np.testing.assert_allclose(gw, expected, atol=5 * sigma)
    assert gx is not None
    rows = len(x) * (1 + shifted_rows(model))
    assert (chosen.usage.jobs, chosen.usage.pubs) == (1, 1 if engine == "estimator" else 3)
    assert chosen.usage.executions == 3 * rows * shots


def shifted_rows(model: CircuitModel) -> int:
    """Shifted rows per sample: two per rotation, four per CRX, two per input; all repeated."""
    return model.encoding.layers * (2 * 6 + 4 * 2 + 2 * model.num_inputs)


@pytest.mark.parametrize("engine", ENGINES)
def test_sampled_shift_gradients(engine: str) -> None:
    model, shots = small(), 5_000 if engine == "aer" else 500_000
    x, w, upstream = draw(model)
    chosen = ENGINES[engine](shots, gradient="shift", seed=2)
    _, gw = chosen.vjp(model, x, w, WEIGHTS)[1](upstream)
    expected = reference_weight_gradient(model, x, w, upstream)
    # Each term has variance below c**2 |upstream|**2 / shots.
    sigma = np.linalg.norm(upstream) / np.sqrt(2 * shots)
    assert (np.abs(gw - expected) < 5 * sigma).all()
    assert (np.abs(gw - expected) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_sampled_spsa_averages_to_the_gradient(engine: str) -> None:
    model = small()
    x, w, upstream = draw(model)
    epsilon = 0.05
    chosen = ENGINES[engine](256, seed=4, epsilon=epsilon)
    assert chosen.gradient == "spsa"
    draws = [chosen.vjp(model, x, w, WEIGHTS)[1](upstream)[1] for _ in range(150)]
    error = np.std(draws, axis=0) / np.sqrt(len(draws))
    expected = reference_weight_gradient(model, x, w, upstream)
    # The mean of the estimate: that of exact values over all signs that may be drawn.
    exact = ExactEngine()
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=model.num_weights)))
    moved = [
        (exact.outputs(model, x, w + s * epsilon * signs) * upstream).sum((1, 2)) for s in (1, -1)
    ]
    stated = ((moved[0] - moved[1])[:, None] * signs).mean(0) / (2 * epsilon)
    assert (np.abs(np.mean(draws, axis=0) - stated) < 4 * error).all()
    # That mean is the gradient up to O(num_weights * epsilon**2), as the docstring says.
    bound = model.num_weights * epsilon**2 * np.abs(expected).max()
    assert (np.abs(stated - expected) < bound).all()
    assert (error < np.linalg.norm(upstream) / (epsilon * np.sqrt(256 * len(draws)))).all()


@pytest.mark.parametrize("gradient", ["shift", "spsa"])
def test_one_job_one_pub_no_second_transpilation(gradient: str) -> None:
    model = small()
    x, w, upstream = draw(model)
    engine = aer(100, gradient=gradient, seed=0)
    for step in range(1, 4):
        engine.vjp(model, x, w, WEIGHTS)[1](upstream)
        usage = engine.usage
        assert (usage.jobs, usage.pubs, usage.transpilations) == (step, step, 1)
        assert usage.backward == step
    rows = 1 + (2 * 6 + 4 * 2 if gradient == "shift" else 2 * 4)
    assert engine.usage.executions == 3 * len(x) * rows * 100
    # An equal model, made anew, is not transpiled again either.
    engine.outputs(small(), x, w)
    assert (engine.usage.transpilations, engine.usage.jobs) == (1, 4)
    assert engine.usage.executions == (3 * rows + 1) * len(x) * 100  # forward rows only
    assert engine.vjp(model, x, w, NOTHING)[1](upstream) == (None, None)
    assert engine.usage.backward == 3


@pytest.mark.parametrize("engine", ENGINES)
def test_the_seed_decides_the_samples(engine: str) -> None:
    model = small()
    x, w, _ = draw(model)

    def run(seed: int) -> list:
        chosen = ENGINES[engine](1000, seed=seed)
        return [chosen.outputs(model, x, w) for _ in range(2)]

    first = run(3)
    np.testing.assert_array_equal(first, run(3))
    assert not np.array_equal(first[0], first[1])  # later jobs use fresh seeds
    assert not np.array_equal(first, run(4))
    assert not np.array_equal(ENGINES[engine](1000).outputs(model, x, w), first[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_rows_of_one_job_are_sampled_independently(engine: str) -> None:
    model = small()
    x, w, _ = draw(model, batch=1)
    seen = ENGINES[engine](1000, seed=3).outputs(model, np.repeat(x, 20, axis=0), w)
    assert len(np.unique(seen, axis=0)) > 10


@pytest.mark.parametrize("engine", ENGINES)
def test_copies_continue_where_the_original_was(engine: str) -> None:
    model = small()
    x, w, _ = draw(model)
    original = ENGINES[engine](500, seed=6)
    original.outputs(model, x, w)
    copies = [copy.deepcopy(original), pickle.loads(pickle.dumps(original))]
    values = original.outputs(model, x, w)
    for other in copies:
        np.testing.assert_array_equal(other.outputs(model, x, w), values)


@pytest.mark.parametrize("engine", ENGINES)
def test_leading_axes(engine: str) -> None:
    model, shots = small(), 4_000
    x, _, _ = draw(model)
    w = np.random.default_rng(5).normal(size=(2, 2, model.num_weights)).astype(np.float32)
    chosen = ENGINES[engine](shots, seed=1)
    values, pullback = chosen.vjp(model, x.astype(np.float32), w, BOTH)
    assert (values.shape, values.dtype) == ((2, 2, 3, 3), np.float32)
    for k in np.ndindex(2, 2):
        np.testing.assert_allclose(
            values[k], reference_outputs(model, x, w[k]), atol=5 * 0.5 / np.sqrt(shots)
        )
    gx, gw = pullback(np.ones_like(values))
    assert gx is not None
    assert gw is not None
    assert (gx.shape, gx.dtype, gw.shape, gw.dtype) == (x.shape, np.float32, w.shape, np.float32)
    assert chosen.usage.jobs == 1


def test_a_device_with_another_qubit_order_and_basis() -> None:
    device = GenericBackendV2(5, coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]], seed=1)
    manager = generate_preset_pass_manager(
        optimization_level=1, backend=device, initial_layout=[4, 1, 2], seed_transpiler=3
    )
    shots = 100_000
    for readout in (ClassGroups(2, 3, qubits=(2, 0)), GENERAL):
        model = small(readout)
        x, w, _ = draw(model)
        engine = sampler_engine(
            aer_sampler, estimator=aer_estimator, pass_manager=manager, shots=shots, seed=9
        )
        np.testing.assert_allclose(
            engine.outputs(model, x, w), reference_outputs(model, x, w),
            atol=5 * 3.5 / np.sqrt(shots),
        )  # fmt: skip


def test_any_v2_sampler_will_do() -> None:
    model = small()
    x, w, _ = draw(model)
    engine = sampler_engine(StatevectorSampler(seed=1), shots=20_000, seed=1)
    np.testing.assert_allclose(
        engine.outputs(model, x, w), reference_outputs(model, x, w), atol=0.02
    )
    assert (engine.usage.jobs, engine.usage.pubs, engine.usage.transpilations) == (1, 1, 0)
    general = small(GENERAL)
    engine = sampler_engine(
        StatevectorSampler(seed=1), estimator=StatevectorEstimator(seed=2), shots=20_000
    )
    x, w, _ = draw(general)
    np.testing.assert_allclose(
        engine.outputs(general, x, w), reference_outputs(general, x, w), atol=0.12
    )


def test_rules_on_exact_values() -> None:
    model = small()
    x, w, upstream = draw(model)
    engine = engines.exact_shots(ExactEngine(), shots=None, gradient="shift")
    values, pullback = engine.vjp(model, x, w, BOTH)
    exact_values, exact_pullback = ExactEngine().vjp(model, x, w, BOTH)
    np.testing.assert_allclose(values, exact_values, atol=1e-12)
    for mine, exact in zip(pullback(upstream), exact_pullback(upstream), strict=True):
        np.testing.assert_allclose(mine, exact, atol=1e-12)


class Broken:
    def run(self, _pubs):
        raise TypeError("no qubits today")


def test_errors(monkeypatch) -> None:
    model = small()
    x, w, _ = draw(model)
    with pytest.raises(ExecutionError, match="Broken failed; got TypeError: no qubits today"):
        sampler_engine(Broken()).outputs(model, x, w)
    with pytest.raises(ConfigError, match="a sampler takes at least one shot; got 0"):
        aer(0)
    with pytest.raises(ConfigError, match="sampling takes at least one shot; got -1"):
        exact_shots(-1)
    with pytest.raises(
        ConfigError,
        match=r"the sampler is a V2 primitive or a function that makes one from a seed; got str; "
        r"expected an object with run\(\), or seed -> sampler",
    ):
        sampler_engine("aer")
    with pytest.raises(ConfigError, match="the estimator is a V2 primitive or a function that"):
        sampler_engine(aer_sampler, estimator=3)
    for maker, got in ((Broken, "TypeError: "), (lambda seed: seed, "int")):
        with pytest.raises(ConfigError, match=f"a V2 primitive from a seed; got {got}.*=seed"):
            sampler_engine(maker).outputs(model, x, w)
    monkeypatch.setattr(memory, "available_bytes", lambda: 2**20)
    with pytest.raises(
        ResourceError,
        match=r"6,000 circuits of 3 qubits with 1,024 shots each must fit into memory; got "
        r"0\.\d GiB needed; expected at most the 0\.0 GiB available\. Use a smaller batch, fewer "
        r"shots, fewer qubits or gradient='spsa'\.",
    ):
        sampler_engine(partial(aer_sampler)).outputs(model, np.ones((6000, 3)), w)
