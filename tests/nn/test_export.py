# SPDX-License-Identifier: Apache-2.0
"""Exported students: the same probabilities by Qiskit and NumPy alone, in every form."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.circuit import ParameterVector
from qiskit.primitives import StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Statevector
from safetensors.torch import load_file
from torch import nn

import qiskit_kd as qkd
from qiskit_kd.errors import ConfigError
from qiskit_kd.nn import FullyQuantumStudent

pytestmark = pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")

ROOT = Path(__file__).parents[2]
ENCODINGS = {"amplitude": 8, "angle": 3, "dense_angle": 6, "reuploading": 3}


def plain_of(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("plain", folder / "plain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shares(circuit: QuantumCircuit, folder: Path, x: np.ndarray) -> np.ndarray:
    """Exact shares of the measured bits."""
    bits = json.loads((folder / "student.json").read_text())["measured"]
    bare = circuit.remove_final_measurements(inplace=False)
    rows = [
        Statevector(bare.assign_parameters(angles)).probabilities(bits)
        for angles in plain_of(folder).angles(x)
    ]
    return np.array(rows)


def mixed() -> nn.Module:
    x, w = ParameterVector("x", 2), ParameterVector("w", 4)
    circuit = QuantumCircuit(2)
    for k in range(2):
        circuit.ry(x[0] * w[2 * k], 0)
        circuit.rx(x[1] + w[2 * k + 1], 1)
        circuit.cx(0, 1)
    model = qkd.CircuitModel.from_circuit(circuit, x, w, qkd.ClassGroups(2, 2))
    return qkd.QuantumLayer(model, dtype=torch.float64)


def student_of(kind: str, encoding: str) -> tuple[nn.Module, int]:
    if kind == "mixed":
        return mixed(), 2
    own: dict[str, Any] = {"sharpness": "learnable"} if kind == "fully_quantum" else {}
    if encoding == "angle":
        own |= {"head": [5]} if kind == "hybrid" else {"qubits": [2, 0]}
    width = ENCODINGS[encoding]
    return qkd.students[kind](width, 3, seed=1, encoding=encoding, **own).double(), width


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("mixed", "")] + [(kind, each) for kind in ("fully_quantum", "hybrid") for each in ENCODINGS],
)
def test_the_same_logits_by_qiskit_alone(kind: str, encoding: str, tmp_path: Path) -> None:
    student, width = student_of(kind, encoding)
    x = np.random.default_rng(0).normal(size=(4, width))
    folder = qkd.export(student, tmp_path / "out")
    with (folder / "bound.qpy").open("rb") as file:
        circuit = qpy.load(file)[0]
    plain = plain_of(folder)
    found = torch.tensor(plain.logits(shares(circuit, folder, x))).softmax(1)
    whole = student if not isinstance(student, qkd.QuantumLayer) else FullyQuantumStudent(student)
    want = whole(torch.tensor(x)).softmax(1)
    torch.testing.assert_close(found, want, atol=1e-10, rtol=0)
    assert plain.predict(shares(circuit, folder, x)).tolist() == want.argmax(1).tolist()
    # The form with free weights is the same circuit, and so are both as OpenQASM 3.
    facts = plain.facts()
    with (folder / "circuit.qpy").open("rb") as file:
        free = qpy.load(file)[0]
    order = [*facts["parameters"]["inputs"], *facts["parameters"]["weights"]]
    assert [p.name for p in free.parameters] == order
    row = np.concatenate([plain.angles(x[:1])[0], facts["weights"]])
    state = Statevector(free.assign_parameters(row))
    assert np.isclose(state.probabilities(facts["measured"]), shares(circuit, folder, x)[0]).all()
    assert load_file(folder / "weights.safetensors").keys() == whole.state_dict().keys()
    if importlib.util.find_spec("qiskit_qasm3_import"):
        text = qasm3.loads((folder / "bound.qasm").read_text())
        np.testing.assert_allclose(shares(text, folder, x), shares(circuit, folder, x), atol=1e-10)


def test_the_form_for_a_device_and_the_card(tmp_path: Path) -> None:
    student = qkd.students["fully_quantum"](4, 2, seed=1)
    about = {"seeds": "0 to 4", "teacher": "a forest"}
    folder = qkd.export(student, tmp_path, backend="noisy", labels=["yes", "no"], about=about)
    with (folder / "isa.qpy").open("rb") as file:
        isa = qpy.load(file)[0]
    assert isa.layout is not None
    assert isa.num_qubits > 2
    with (folder / "bound.qpy").open("rb") as file:
        bound = qpy.load(file)[0]
    x = np.random.default_rng(0).normal(size=(2, 4))
    angles = plain_of(folder).angles(x)
    isa_bits = (
        StatevectorSampler(seed=0)
        .run([(_compact(isa), angles), (bound, angles)], shots=20_000)
        .result()
    )
    found, want = (np.array([[
        bits.data.meas[row].get_int_counts().get(k, 0) / 20_000 for k in range(4)
    ] for row in range(2)]) for bits in isa_bits)  # fmt: skip
    np.testing.assert_allclose(found, want, atol=0.02)
    card = (folder / "README.md").read_text()
    assert "| seeds | 0 to 4 |" in card
    assert "| labels | yes, no |" in card
    assert set(plain_of(folder).predict(want)) <= {"yes", "no"}


def _compact(circuit: QuantumCircuit) -> QuantumCircuit:
    """On the qubits that do something: a statevector of a device would not fit."""
    used = sorted({circuit.find_bit(q).index for item in circuit.data for q in item.qubits
                   if item.operation.name not in ("barrier", "delay")})  # fmt: skip
    small = QuantumCircuit(len(used))
    small.add_register(*circuit.cregs)
    for item in circuit.data:
        if item.operation.name not in ("barrier", "delay"):
            places = [used.index(circuit.find_bit(q).index) for q in item.qubits]
            small.append(item.operation, places, item.clbits)
    return small


@pytest.mark.slow
def test_the_example_needs_none_of_this_package(tmp_path: Path) -> None:
    student = qkd.students["fully_quantum"](4, 2, seed=1, initial_sharpness=4.0)
    folder = qkd.export(student, tmp_path / "out", labels=["no", "yes"])
    x = np.random.default_rng(0).normal(size=(12, 4))
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, runpy; sys.modules['qiskit_kd'] = None; sys.modules['torch'] = None;"
        f"sys.argv = ['plain_qiskit.py', {str(folder)!r}, {str(tmp_path / 'x.npy')!r}];"
        f"runpy.run_path({str(ROOT / 'examples' / 'plain_qiskit.py')!r})"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    ).stdout.split()
    p = student(torch.tensor(x, dtype=torch.float32)).softmax(1).detach().numpy()
    want = np.array(["no", "yes"])[p.argmax(1)]
    clear = np.abs(p[:, 0] - 0.5) > 0.1
    assert clear.sum() > 3
    assert (np.array(out) == want)[clear].all()


def test_short_enough_to_be_read() -> None:
    example = (ROOT / "examples" / "plain_qiskit.py").read_text().splitlines()
    assert len(example) <= 25
    assert len((ROOT / "src/qiskit_kd/nn/plain.py").read_text().splitlines()) <= 60


def test_distilled_leaves_with_its_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = np.where(x[:, 0] > 0, "right", "left")
    ansatz = qkd.circuits.hardware_efficient(2, 1, final_ry=True)
    model = qkd.CircuitModel(qkd.circuits.angle(2), ansatz, qkd.ClassGroups(2, 2))
    found = qkd.distill(None, model, (x, y), epochs=1)
    folder = found.export(tmp_path, data="two halves")
    assert plain_of(folder).facts()["labels"] == ["left", "right"]
    assert "| data | two halves |" in (folder / "README.md").read_text()


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"one circuit with its readout; got Linear.*torch.onnx"):
        qkd.export(nn.Linear(2, 2), tmp_path)
    student = qkd.students["fully_quantum"](8, 2, seed=0, encoding="amplitude_mps")
    with pytest.raises(ConfigError, match="or amplitudes; got the encoding 'amplitude_mps'"):
        qkd.export(student, tmp_path)
    bare = mixed()
    with pytest.raises(ConfigError, match="every class has a label; got 1 labels; expected 2 of"):
        qkd.export(bare, tmp_path, labels=["a"])
    with pytest.raises(ConfigError, match="lines of a model card are named; got 3"):
        qkd.export(bare, tmp_path, about=3)
    ansatz = qkd.circuits.hardware_efficient(2, 1)
    model = qkd.CircuitModel(qkd.circuits.angle(2), ansatz, qkd.Observables(["XZ"]))
    hybrid = qkd.nn.HybridStudent(qkd.QuantumLayer(model), nn.Linear(1, 2), {})
    with pytest.raises(ConfigError, match="those of its qubits as they are; got observables of X"):
        qkd.export(hybrid, tmp_path)
    z = qkd.CircuitModel(qkd.circuits.angle(2), ansatz, qkd.Observables(["ZZ"]))
    odd = qkd.nn.HybridStudent(qkd.QuantumLayer(z), nn.Sequential(nn.GELU(), nn.Linear(1, 2)), {})
    with pytest.raises(ConfigError, match="linear layers, tanh and relu; got GELU"):
        qkd.export(odd, tmp_path)


def test_amplitudes_by_a_map_of_ones_own_do_not_leave_by_another(tmp_path: Path) -> None:
    t, w = ParameterVector("t", 1), ParameterVector("w", 1)
    first, then = QuantumCircuit(1), QuantumCircuit(1)
    first.ry(2 * t[0], 0)
    then.ry(w[0], 0)
    own = qkd.Encoding(
        "own", first, 2, lambda x: np.arctan2(x[:, 1], x[:, 0])[:, None], is_amplitude=True
    )
    layer = qkd.QuantumLayer(qkd.CircuitModel(own, then, qkd.ClassGroups(2, 1)))
    with pytest.raises(ConfigError, match="times a number, or amplitudes; got the encoding 'own'"):
        qkd.export(layer, tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_student_wider_than_the_backend_and_labels_that_are_one(tmp_path: Path) -> None:
    student = qkd.students["fully_quantum"](8, 2, seed=0)
    with pytest.raises(ConfigError, match="for a backend fits it; got 3 qubits for"):
        qkd.export(student, tmp_path / "wide", backend=GenericBackendV2(2, seed=1))
    with pytest.raises(ConfigError, match="labels differ from each other"):
        qkd.export(student, tmp_path / "same", labels=["a", "a"])
