# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives import BaseEstimatorV2, BaseSamplerV2
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.neural_networks import SamplerQNN

from qiskit_kd import QuantumLayer
from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle
from qiskit_kd.circuits.model import CircuitModel, Encoding
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import CircuitError, ConfigError, StorageError, UnknownNameError
from qiskit_kd.execution import backends as module
from qiskit_kd.execution.aer import AerSource
from qiskit_kd.execution.backends import backend_file, backends_path, list_backends, load_backend
from qiskit_kd.execution.engine_source import EngineSource
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.kinds import kinds
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.noisy import NoisyEngine
from qiskit_kd.execution.noisy.sampled import NoisySource
from qiskit_kd.execution.primitives import PrimitiveSource
from qiskit_kd.execution.snapshots import save_snapshot
from qiskit_kd.registry import add_plugins
from tests.reference import reference_outputs

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "backends.yaml"
NAMES = ["exact", "exact_shots", "aer", "aer_shots"]  # without noise


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("QISKIT_KD_BACKENDS", raising=False)
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.write_text("schema: 1\nbackends:\n" + text)
    return path


def model() -> CircuitModel:
    return CircuitModel(angle(3), hardware_efficient(3, 1), ClassGroups(3, 3))


def test_shipped_file_has_these_entries() -> None:
    backends = list_backends(SHIPPED)
    assert list(backends) == [*NAMES, "noisy", "fake_device", "ibm"]
    kinds = ["exact", "exact", "aer", "aer", "noisy", "runtime", "runtime"]
    assert [b.kind for b in backends.values()] == kinds
    assert [b.shots for b in backends.values()] == [None, 1024, None, 1024, None, 1024, 1024]
    assert all(b.options.description for b in backends.values())


@pytest.mark.parametrize(
    ("name", "kind"),
    list(zip(NAMES, [ExactEngine, EngineSource, AerSource, PrimitiveSource], strict=True)),
)
def test_engines_run_models(name: str, kind: type) -> None:
    backend = load_backend(name, SHIPPED)
    engine = backend.engine(seed=1)
    assert type(getattr(engine, "source", engine)) is kind
    assert engine.name == name
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3)), rng.normal(size=model().num_weights)
    expected = reference_outputs(model(), x, w)
    tolerance = 1e-10 if backend.shots is None else 5 * 0.5 / 32
    for each in (engine, copy.deepcopy(engine), pickle.loads(pickle.dumps(engine))):
        np.testing.assert_allclose(each.outputs(model(), x, w), expected, atol=tolerance)


def test_options_of_the_call_win_over_the_file(tmp_path) -> None:
    path = write(
        tmp_path / "b.yaml",
        "  mine:\n    {kind: aer, shots: 50, gradient: shift, seed: 7, perturbations: 2, "
        "epsilon: 0.3}\n",
    )
    engine = load_backend("mine", path).engine()
    assert isinstance(engine.source, PrimitiveSource)
    assert (engine.shots, engine.gradient, engine.seed) == (50, "shift", 7)
    assert (engine.perturbations, engine.epsilon) == (2, 0.3)
    engine = load_backend("mine", path).engine(shots=60, gradient="spsa", seed=8)
    assert isinstance(engine.source, PrimitiveSource)
    assert (engine.shots, engine.gradient, engine.seed) == (60, "spsa", 8)
    exact = load_backend("exact", SHIPPED)
    assert type(exact.engine(shots=10).source) is EngineSource
    shifted = exact.engine(gradient="shift")
    assert isinstance(shifted.source, EngineSource)
    assert (shifted.shots, shifted.gradient) == (None, "shift")


@pytest.mark.parametrize("name", NAMES)
def test_primitives_run_plain_circuits(name: str) -> None:
    backend = load_backend(name, SHIPPED)
    theta = Parameter("theta")
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.crx(theta, 0, 1)
    measured = backend.pass_manager().run(circuit.measure_all(inplace=False))
    sampler, estimator = backend.sampler(seed=1), backend.estimator(seed=2)
    assert isinstance(sampler, BaseSamplerV2)
    assert isinstance(estimator, BaseEstimatorV2)
    bits = sampler.run([(measured, [[0.5], [2.0]])]).result()[0].data.meas
    assert bits.num_shots == 1024
    operator = SparsePauliOp(["ZI", "IX"], [1.0, 0.5])
    plain = backend.pass_manager().run(circuit)
    values = estimator.run([(plain, operator, [[0.5], [2.0]])]).result()[0].data.evs
    for k, angle_ in enumerate((0.5, 2.0)):
        state = Statevector(circuit.assign_parameters([angle_]))
        counts = bits[k].get_int_counts()
        seen = np.array([counts.get(s, 0) for s in range(4)]) / 1024
        np.testing.assert_allclose(seen, state.probabilities(), atol=5 * 0.5 / 32)
        expected = state.expectation_value(operator).real
        assert values[k] == pytest.approx(expected, abs=1e-10 if backend.shots is None else 0.25)


@pytest.mark.parametrize("name", NAMES)
def test_primitives_serve_qiskit_machine_learning(name: str) -> None:
    backend = load_backend(name, SHIPPED)
    circuit = model().circuit
    network = SamplerQNN(
        circuit=circuit,
        input_params=list(model().inputs),
        weight_params=list(model().weights),
        interpret=lambda k: k % 3,
        output_shape=3,
        sampler=backend.sampler(seed=3),
        pass_manager=backend.pass_manager(),
    )
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(4, 3)), rng.normal(size=model().num_weights)
    np.testing.assert_allclose(
        network.forward(x, w), reference_outputs(model(), x, w), atol=5 * 0.5 / 32
    )


def test_lookup_order(tmp_path, monkeypatch) -> None:
    assert backends_path() == SHIPPED  # running from a source tree
    local = write(tmp_path / "backends.yaml", "  here: {kind: exact}\n")
    assert list(list_backends()) == ["here"]
    named = write(tmp_path / "other.yaml", "  there: {kind: aer}\n")
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(named))
    assert list(list_backends()) == ["there"]
    assert list(list_backends(local)) == ["here"]
    monkeypatch.setenv("QISKIT_KD_BACKENDS", "nowhere.yaml")
    with pytest.raises(
        ConfigError,
        match=r"a backend file must exist; got no nowhere\.yaml\. Correct the path or "
        r"QISKIT_KD_BACKENDS, or write a backends\.yaml\.",
    ):
        list_backends()


def test_lookup_ends_with_the_packaged_file(tmp_path, monkeypatch) -> None:
    installed = tmp_path / "lib" / "qiskit_kd" / "execution"
    monkeypatch.setattr(module, "__file__", str(installed / "backends.py"))
    (tmp_path / "data").mkdir()
    packaged = tmp_path / "data" / "_data" / "backends.yaml"
    monkeypatch.setattr(module.importlib.resources, "files", lambda _: tmp_path / "data")
    with pytest.raises(ConfigError, match=r"got no backends\.yaml, no .*_data.backends\.yaml\."):
        backends_path()
    packaged.parent.mkdir()
    write(packaged, "  packed: {kind: exact}\n")
    assert list(list_backends()) == ["packed"]


def test_describe_is_plain_data() -> None:
    described = load_backend("aer_shots", SHIPPED).describe()
    assert described["name"] == "aer_shots"
    assert described["source"] == str(SHIPPED)
    assert (described["kind"], described["shots"], described["gradient"]) == ("aer", 1024, "auto")
    assert repr(load_backend("aer", SHIPPED)) == "Backend('aer', kind='aer', shots=None)"


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError,
        match=r"unknown backend; got 'aer_shot'\. did you mean 'aer_shots'\? known: aer, aer_shots",
    ):
        load_backend("aer_shot", SHIPPED)
    backend = load_backend("aer", SHIPPED)
    with pytest.raises(UnknownNameError, match=r"unknown gradient rule; got 'shfit'\. did you m"):
        backend.engine(gradient="shfit")


@pytest.mark.parametrize("shots", [0, -1, 1.5, 10.0, "a", True])
def test_shots_that_are_none(shots: Any) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"a number of shots is a positive integer; got {shots!r}; expected 1 or more, or "
        r"None for what the file says\. For exact values choose a backend without shots, e\.g\. "
        r"'exact' or 'aer'\.",
    ):
        load_backend("aer", SHIPPED).engine(shots=shots)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True])
@pytest.mark.parametrize("make", ["engine", "sampler", "estimator"])
def test_seeds_that_are_none(make: str, seed: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"a seed is an integer from 0; got {seed!r}; expected 0 or more, or"
    ):
        getattr(load_backend("aer", SHIPPED), make)(seed=seed)


def test_numpy_integers_are_integers() -> None:
    engine = load_backend("exact", SHIPPED).engine(shots=np.int64(5), seed=np.int64(1))
    assert engine.shots == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_seeded_sampler_repeats_its_shots(name: str) -> None:
    """As the docstring says; an engine's jobs do not repeat each other (test_primitives)."""
    backend = load_backend(name, SHIPPED)
    circuit = QuantumCircuit(4)
    circuit.h(range(4))
    circuit.measure_all()
    sampler = backend.sampler(seed=3)
    first, second = (sampler.run([circuit]).result()[0].data.meas.array for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", ["exact_shots", "aer_shots"])
@pytest.mark.parametrize("coefficient", [1.0, 100.0])
def test_observables_follow_the_law_of_sampling(name: str, coefficient: float) -> None:
    """Variance `c**2 (1 - mean**2) / shots`, zero in an eigenstate; not one normal width."""
    theta = Parameter("theta")
    ansatz = QuantumCircuit(2)
    ansatz.ry(np.pi / 2, 0)
    ansatz.ry(theta, 1)
    plus_x, other_x, other_z = (SparsePauliOp([p], [coefficient]) for p in ("IX", "XI", "ZI"))
    nothing = Encoding("nothing", angle(2).circuit, 2, lambda x: 0 * x)
    one = CircuitModel(nothing, ansatz, Observables([plus_x, other_x, other_z]))
    engine = load_backend(name, SHIPPED).engine(shots=64, seed=2)
    runs, turn = 2000, 0.7
    y = engine.outputs(one, np.zeros((runs, 2)), np.array([turn]))
    np.testing.assert_allclose(y[:, 0], coefficient, rtol=1e-12)  # an eigenstate: no noise
    means = coefficient * np.array([np.sin(turn), np.cos(turn)])
    sigmas = np.sqrt((coefficient**2 - means**2) / 64)
    assert (np.abs(y[:, 1:].mean(0) - means) < 5 * sigmas / np.sqrt(runs)).all()
    # The relative standard error of a standard deviation is about 1 / sqrt(2 runs).
    np.testing.assert_allclose(y[:, 1:].std(0), sigmas, rtol=5 / np.sqrt(2 * runs))
    counts = (y[:, 1:] / coefficient + 1) * 32
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-9)  # shares of 64 shots


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a: {kind: aer, shotz: 3}", r":3:18: backends\.a\.shotz: unknown key; got 'shotz'\. did "
         r"you mean 'shots'\? known: description, epsilon, gradient, kind, optimization_level"),
        ("a: {kind: exact, optimization_level: 1}", r"optimization_level: unknown key; got"),
        ("a: {kind: qpu}", r"backends\.a\.kind: unknown value; got 'qpu'\. known: aer, exact, no"),
        ("a: {shots: 3}", r"backends\.a\.kind: the key is missing\. Add it\."),
        ("a: {kind: aer, shots: '3'}", r":3:25: backends\.a\.shots: wrong type; got '3' \(str\);"),
        ("a: {kind: aer, shots: 1e3}", r"shots: wrong type; got 1000\.0 \(float\); expected a va"),
        ("a: {kind: aer, shots: 0}", r"wrong value; got 0 \(int\); expected greater than or equal"),
        ("a: {kind: aer, gradient: shft}", r"unknown value; got 'shft' \(str\)\. did you mean 'sh"),
        ("a: {kind: aer, epsilon: .inf}", r"epsilon: wrong value; got inf.*expected a finite num"),
        ("a: {kind: aer, seed: -1}", r"seed: wrong value; got -1 \(int\); expected greater than"),
        ("a: {kind: aer, epsilon: 0}", r"epsilon: wrong value; got 0.*expected greater than 0"),
    ],
)  # fmt: skip
def test_faults_of_the_file(tmp_path, line: str, message: str) -> None:
    path = write(tmp_path / "bad.yaml", f"  {line}\n")
    with pytest.raises(ConfigError, match=re.escape(str(path)) + ".*" + message):
        list_backends(path)


RATES = (
    "{one_qubit: 0.001, two_qubit: 0.01, readout: [0.01, 0.03], t1_us: 100, t2_us: 80, "
    "two_qubit_ns: 300}"
)


def test_noise_from_each_source(tmp_path) -> None:
    save_snapshot(fake_device("fake_lima"), tmp_path / "lima.json")
    path = write(
        tmp_path / "b.yaml",
        "  fake: {kind: noisy, noise: {device: fake_lima}}\n"
        "  saved: {kind: noisy, noise: {snapshot: lima.json}}\n"
        f"  rates: {{kind: noisy, noise: {{rates: {RATES}}}}}\n"
        f"  full: {{kind: noisy, noise: {{rates: {RATES[:-1]}, coupling: full}}}}}}\n"
        "  perfect: {kind: noisy, noise: {device: fake_lima}, scale: 0}\n"
        "  silent: {kind: noisy, noise: {device: fake_lima}, readout: false, idle: true,"
        " optimization_level: 1, seed_transpiler: 3, cache_gib: 0.5}\n"
        "  sampled: {kind: noisy, noise: {device: fake_lima}, shots: 4000, gradient: shift}\n",
    )
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3)), rng.normal(size=model().num_weights)
    found = {
        name: backend.engine(seed=1).outputs(model(), x, w)
        for name, backend in list_backends(path).items()
    }
    np.testing.assert_allclose(found["saved"], found["fake"], atol=1e-12)
    exact = reference_outputs(model(), x, w)
    np.testing.assert_allclose(found["perfect"], exact, atol=1e-12)
    for name in ("fake", "rates", "full", "silent"):
        assert 1e-3 < np.abs(found[name] - exact).max() < 0.3
    assert np.abs(found["silent"] - found["fake"]).max() > 1e-4
    np.testing.assert_allclose(found["sampled"], found["fake"], atol=5 * 0.5 / 4000**0.5)
    sampled = load_backend("sampled", path).engine()
    assert isinstance(sampled.source, EngineSource)
    assert (sampled.shots, sampled.gradient) == (4000, "shift")
    first, second = (load_backend("fake", path).engine() for _ in range(2))
    assert first.programs is second.programs  # students of one study share circuits and data


def test_sampled_noise(tmp_path) -> None:
    head = f"kind: noisy, noise: {{rates: {RATES}}}"
    path = write(
        tmp_path / "b.yaml",
        f"  exact: {{{head}}}\n"
        f"  silent: {{{head}, readout: false}}\n"
        f"  plain: {{{head}, shots: 4000}}\n"
        f"  mitigated: {{{head}, shots: 4000, mitigation: tensored, gradient: shift, seed: 3}}\n"
        f"  aer: {{{head}, shots: 4000, sampled_by: qiskit_aer, perturbations: 2}}\n"
        f"  both: {{{head}, sampled_by: qiskit_aer, mitigation: tensored}}\n",
    )
    engines = {
        name: backend.engine(seed=1, shots=4000 if name == "both" else None)
        for name, backend in list_backends(path).items()
    }
    sources = [NoisyEngine, NoisyEngine, EngineSource, *[NoisySource] * 3]
    assert [type(getattr(e, "source", e)) for e in engines.values()] == sources
    assert [engine.name for engine in engines.values()] == list(engines)
    assert engines["mitigated"].gradient == "shift"
    assert (engines["aer"].gradient, engines["aer"].perturbations) == ("spsa", 2)
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3)), rng.normal(size=model().num_weights)
    found = {name: engine.outputs(model(), x, w) for name, engine in engines.items()}
    noise = 5 * 0.5 / 4000**0.5
    for name in ("plain", "aer"):
        np.testing.assert_allclose(found[name], found["exact"], atol=noise)
    for name in ("mitigated", "both"):
        np.testing.assert_allclose(found[name], found["silent"], atol=1.2 * noise)
    # Entries that differ in what is drawn share circuits and encoded data.
    plain, mitigated = engines["plain"].source.engine, engines["mitigated"].source.engine
    assert plain.programs is mitigated.programs is engines["exact"].programs
    assert engines["silent"].programs is not engines["exact"].programs
    assert load_backend("both", path).describe()["mitigation"] == "tensored"
    with pytest.raises(ConfigError, match=r"readout mitigation corrects shots of a device; got no"):
        load_backend("both", path).engine()


def test_a_snapshot_counts_by_its_content(tmp_path) -> None:
    save_snapshot(fake_device("fake_lima"), tmp_path / "device.json")
    line = "  saved: {kind: noisy, noise: {snapshot: device.json}}\n"
    path = write(tmp_path / "b.yaml", line)
    before = load_backend("saved", path).describe()["noise"]
    assert before["snapshot"] == "device.json"  # where it lies does not matter
    assert len(before["sha256"]) == 64
    save_snapshot(fake_device("fake_quito"), tmp_path / "device.json")
    backend = load_backend("saved", path)
    assert backend.describe()["noise"]["sha256"] != before["sha256"]
    assert backend.engine().programs.device(1).name == "fake_quito"
    (tmp_path / "device.json").unlink()
    assert backend.describe()["noise"]["sha256"] is None
    with pytest.raises(StorageError, match="a device snapshot cannot be read"):
        backend.engine()


def test_an_unknown_device_is_answered_with_the_nearest(tmp_path) -> None:
    path = write(tmp_path / "b.yaml", "  a: {kind: noisy, noise: {device: fake_torin}}\n")
    backend = load_backend("a", path)
    for make in (backend.engine, backend.sampler, backend.estimator, backend.pass_manager):
        with pytest.raises(
            UnknownNameError,
            match=r"got 'fake_torin', and no fake_torin\.json beside .*; expected"
            r" a fake device such as fake_torino, fake_toronto",
        ):
            make()


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ("{}", r"backends\.a\.noise: noise comes from one source; got none; expected one of devic"),
        ("{device: a, snapshot: b}", r"noise: noise comes from one source; got device and snapsho"),
        ("{devise: fake_lima}", r"noise\.devise: unknown key; got 'devise'\. did you mean 'device"),
        ("{rates: {t1_us: 100, t2_us: 201}}", r"noise\.rates: T2 is at most 2 T1: a qubit that "
         r"relaxes loses its phase; got t2_us: 201 beside t1_us: 100; expected t2_us up to 200"),
        ("{rates: {two_qubit: 1.2}}", r"rates\.two_qubit: wrong value; got 1\.2 \(float\); expect"
         r"ed less than or equal to 1"),
        ("{rates: {one_qubit: -0.1}}", r"rates\.one_qubit: wrong value; got -0\.1"),
        ("{rates: {readout: 1.5}}", r"rates\.readout.*less than or equal to 1"),
        ("{rates: {readout: [0.1, -0.2]}}", r"rates\.readout.*greater than or equal to 0"),
        ("{rates: {t1_us: 0}}", r"rates\.t1_us: wrong value; got 0.*greater than 0"),
        ("{rates: {coupling: ring}}", r"coupling: unknown value; got 'ring'.*known: full, line"),
        ("{rates: {num_qubits: 0}}", r"num_qubits: wrong value; got 0"),
    ],
)  # fmt: skip
def test_faults_of_noise(tmp_path, noise: str, message: str) -> None:
    path = write(tmp_path / "bad.yaml", f"  a: {{kind: noisy, noise: {noise}}}\n")
    with pytest.raises(ConfigError, match=re.escape(str(path)) + ".*" + message):
        list_backends(path)


def test_faults_of_noisy_options(tmp_path) -> None:
    for option, message in (
        ("scale: -1", r"scale: wrong value; got -1"),
        ("scale: .inf", r"scale: wrong value; got inf"),
        ("cache_gib: 0", r"cache_gib: wrong value; got 0"),
        ("mitigation: tensord", r"mitigation: unknown value; got 'tensord' \(str\)\. did you mean "
         r"'tensored'\? known: none, tensored"),
        ("sampled_by: qiskit", r"sampled_by: unknown value; got 'qiskit' \(str\)\. did you mean "
         r"'qiskit_aer'\? known: probabilities, qiskit_aer"),
        ("mitigations: none", r"mitigations: unknown key; got 'mitigations'\. did you mean 'miti"),
        ("idel: true", r"idel: unknown key; got 'idel'\. did you mean 'idle'"),
    ):  # fmt: skip
        path = write(
            tmp_path / "bad.yaml", f"  a: {{kind: noisy, noise: {{device: x}}, {option}}}\n"
        )
        with pytest.raises(ConfigError, match=message):
            list_backends(path)
    path = write(tmp_path / "bad.yaml", "  a: {kind: noisy}\n")
    with pytest.raises(ConfigError, match=r"backends\.a\.noise: the key is missing\. Add it\."):
        list_backends(path)


def test_a_device_of_rates_is_as_wide_as_it_has_to_be(tmp_path) -> None:
    path = write(
        tmp_path / "b.yaml",
        f"  any: {{kind: noisy, noise: {{rates: {RATES}}}}}\n"
        f"  two: {{kind: noisy, noise: {{rates: {RATES[:-1]}, num_qubits: 2}}}}}}\n",
    )
    assert load_backend("any", path).engine().programs.device(3).num_qubits == 3
    assert load_backend("any", path).pass_manager() is not None
    x, w = np.zeros((1, 3)), np.zeros(model().num_weights)
    with pytest.raises(CircuitError, match=r"got 3 qubits; expected at most the 2 of 'rates'"):
        load_backend("two", path).engine().outputs(model(), x, w)


# With some settings changed.


def test_changed_settings(tmp_path) -> None:
    path = write(
        tmp_path / "b.yaml",
        f"  rates: {{kind: noisy, noise: {{rates: {RATES}}}, scale: 0.5, seed: 3}}\n"
        "  exact: {kind: exact, shots: 70}\n",
    )
    rates, exact = load_backend("rates", path), load_backend("exact", path)
    before = rates.describe()
    other = rates.changed("worse", {"scale": 2.0, "shots": 90})
    assert other.describe() == {**before, "name": "worse", "scale": 2.0, "shots": 90}
    assert rates.describe() == before
    assert (other.name, other.kind, other.shots, other.source) == ("worse", "noisy", 90, str(path))
    engine = other.engine()
    assert (engine.name, engine.shots, engine.seed) == ("worse", 90, 3)
    assert engine.source.engine.programs.device(2).scale == 2.0
    assert exact.changed("whole", {"shots": None}).engine().shots is None
    assert rates.changed("same", {}).options == rates.options
    # A mapping is replaced whole: the rates it does not name are those of any device.
    quiet = rates.changed("quiet", {"noise": {"rates": {"two_qubit": 0.02}}}).options.noise.rates
    assert (quiet.two_qubit, quiet.one_qubit, quiet.readout) == (0.02, 0.0, (0.0, 0.0))
    # Of another kind no option is left but those that are given.
    aer = rates.changed("aer", {"kind": "aer", "shots": 5})
    assert (aer.kind, aer.shots, aer.options.seed) == ("aer", 5, None)
    noisy = exact.changed("noisy", {"kind": "noisy", "noise": {"device": "fake_lima"}})
    assert noisy.engine().programs.device(1).name == "fake_lima"
    assert exact.changed("exact", {"kind": "exact", "seed": 1}).shots == 70


def test_a_changed_snapshot_lies_beside_the_backend_file(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("fake_lima", "fake_quito"):
        save_snapshot(fake_device(name), folder / f"{name}.json")
    write(folder / "b.yaml", "  saved: {kind: noisy, noise: {snapshot: fake_lima.json}}\n"
                             "  rates: {kind: noisy, noise: {rates: {}}}\n")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for path in ("folder/b.yaml", folder / "b.yaml"):  # however the file is named
        saved = load_backend("saved", path)
        for backend, name in (
            (saved.changed("a", {"scale": 2.0}), "fake_lima"),
            (saved.changed("b", {"noise": {"snapshot": "fake_quito.json"}}), "fake_quito"),
            (saved.changed("b", {"noise": {"snapshot": "fake_quito.json"}}).changed(
                "c", {"scale": 0.5}), "fake_quito"),
            (load_backend("rates", path).changed(
                "d", {"noise": {"snapshot": str(folder / "fake_quito.json")}}), "fake_quito"),
        ):  # fmt: skip
            assert backend.engine().programs.device(1).name == name
            assert backend.describe()["noise"]["snapshot"] == f"{name}.json"
            assert len(backend.describe()["noise"]["sha256"]) == 64


def test_a_changed_journal_lies_where_the_work_is_done(tmp_path) -> None:
    path = write(tmp_path / "b.yaml", "  fake: {kind: runtime, device: fake_lima}\n")
    backend = load_backend("fake", path).changed("mine", {"journal": "jobs.db"})
    assert backend.options.journal == Path("jobs.db")
    assert backend.changed("again", {"shots": 3}).options.journal == Path("jobs.db")


@pytest.mark.parametrize(
    ("settings", "place", "message"),
    [
        ({"scale": -1}, ("scale",), "wrong value; got -1 (int); expected greater than or equal to "
         "0"),
        ({"shotz": 3}, ("shotz",), "unknown key; got 'shotz'. did you mean 'shots'? known: cache"),
        ({"kind": "exact", "scale": 1}, ("scale",), "unknown key; got 'scale'. known: description,"
         " epsilon, gradient, kind, perturbations, seed, shots"),
        ({"kind": "exakt"}, ("kind",), "unknown value; got 'exakt'. did you mean 'exact'? known: "
         "aer, exact, noisy, runtime"),
        ({"kind": "runtime"}, ("device",), "the key is missing. Add it."),
        ({"shots": "3"}, ("shots",), "wrong type; got '3' (str); expected a valid integer. Remove "
         "the quotes."),
        ({"noise": 3}, ("noise",), "wrong type; got 3 (int); expected a mapping"),
        ({"noise": {}}, ("noise",), "noise comes from one source; got none; expected one of"),
        ({"noise": {"rates": {"t1_us": 1, "t2_us": 3}}}, ("noise", "rates"),
         "T2 is at most 2 T1: a qubit that relaxes loses its phase; got t2_us: 3 beside t1_us: 1; "
         "expected t2_us up to 2"),
        ({"noise": {"rates": {"two_qubit": 1.2}}}, ("noise", "rates", "two_qubit"),
         "wrong value; got 1.2 (float); expected less than or equal to 1"),
        ({"noise": {"rates": {"readout": [0.1, -0.2]}}}, ("noise", "rates", "readout", "1"),
         "wrong value; got -0.2 (float); expected greater than or equal to 0"),
    ],
)  # fmt: skip
def test_faults_of_changed_settings(tmp_path, settings, place, message) -> None:
    path = write(tmp_path / "b.yaml", f"  a: {{kind: noisy, noise: {{rates: {RATES}}}}}\n")
    backend = load_backend("a", path)
    ((where, what),) = backend.faults(settings)
    assert where == place
    assert what.startswith(message)
    text = f"settings of the backend 'my.own': {'.'.join(place)}: {message}"
    with pytest.raises(ConfigError, match="^" + re.escape(text)):
        backend.changed("my.own", settings)


def test_all_faults_of_changed_settings(tmp_path) -> None:
    path = write(tmp_path / "b.yaml", "  a: {kind: exact}\n")
    backend = load_backend("a", path)
    assert backend.faults({"shots": 3}) == []
    assert [where for where, _ in backend.faults({"shots": 0, "sed": 1})] == [("shots",), ("sed",)]


# One word.


def test_one_model_object_moves_between_backends_by_a_word(tmp_path, monkeypatch) -> None:
    path = write(
        tmp_path / "backends.yaml",
        "  exact: {kind: exact}\n  aer: {kind: aer}\n"
        f"  noisy: {{kind: noisy, noise: {{rates: {RATES}}}}}\n"
        f"  perfect: {{kind: noisy, noise: {{rates: {RATES}}}, scale: 0}}\n",
    )
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(path))
    one = model()
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(3, 3)), requires_grad=True)
    state = QuantumLayer(one, seed=2, dtype=torch.float64).state_dict()

    def values(word: str) -> list[np.ndarray]:
        layer = QuantumLayer(one, backend=word, seed=9, dtype=torch.float64)
        layer.load_state_dict(state)
        assert layer.model is one
        p = layer(x)
        return [p.detach().numpy(), *(
            gradient.numpy() for gradient in torch.autograd.grad(p.square().sum(),
                                                                 [x, layer.weight])
        )]  # fmt: skip

    exact, noisy = values("exact"), values("noisy")
    for word in ("perfect", "aer", "exact", "noisy", "perfect", "exact"):
        expected = noisy if word == "noisy" else exact
        for found, wanted in zip(values(word), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(exact, noisy, strict=True))


def test_a_file_without_backends_is_refused(tmp_path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("schema: 1\nbackends: {}\n")
    with pytest.raises(
        ConfigError, match=r":2:11: backends: too few entries; got 0; expected at least 1"
    ):
        list_backends(path)


def test_the_schema_number_is_checked(tmp_path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("schema: 2\nbackends: {a: {kind: aer}}\n")
    with pytest.raises(
        ConfigError, match=r":1:9: schema: unknown value; got 2 \(int\); expected 1"
    ):
        list_backends(path)
    path.write_text("backends: {a: {kind: aer}}\n")
    with pytest.raises(ConfigError, match=r":1:1: schema: the key is missing\. Add it\."):
        list_backends(path)


def test_there_is_no_place_for_secrets() -> None:
    schema = str(backend_file().model_json_schema())
    secrets = re.compile("token|secret|password|api_?key|credential", re.IGNORECASE)
    assert not secrets.search(schema)
    keys = re.findall(r"^\s*#?\s*([\w-]+):", SHIPPED.read_text(), re.MULTILINE)
    assert {"kind", "shots", "gradient"} <= set(keys)
    assert not [key for key in keys if secrets.search(key)]


PLUGIN = """
from typing import Literal
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.kinds import Kind, kinds
from qiskit_kd.execution.pubs import ExactEstimator, ExactSampler
from qiskit_kd.execution.schema import BackendOptions

class Mine(BackendOptions):
    kind: Literal["mine"]
    extra: int = 3

@kinds.register("mine")
class MineKind(Kind):
    schema = Mine

    def engine(self, gradient, shots, seed):
        return ExactEngine(name=f"{self.name} {self.options.extra}")

    def sampler(self, shots, seed):
        return ExactSampler(default_shots=shots, seed=seed)

    def estimator(self, precision, seed):
        return ExactEstimator(default_precision=precision, seed=seed)

    def pass_manager(self):
        return kinds["exact"](self.name, self.options).pass_manager()
"""


def test_a_new_kind_is_one_file(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kinds, "_parts", dict(kinds._parts))
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    monkeypatch.setenv("QKD_PLUGINS", "")
    add_plugins([plugin])
    path = write(tmp_path / "b.yaml", "  ours: {kind: mine, extra: 5}\n  usual: {kind: exact}\n")
    backend = load_backend("ours", path)
    assert backend.engine().name == "ours 5"
    assert backend.changed("other", {"extra": 6}).engine().name == "other 6"
    assert backend.sampler().default_shots == 1024
    assert load_backend("usual", path).kind == "exact"
    with pytest.raises(ConfigError, match=r"backends\.ours\.extr.*unknown key"):
        load_backend("ours", write(path, "  ours: {kind: mine, extr: 5}\n"))
