# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import CZGate
from qiskit.transpiler import Target

from qiskit_kd.execution.compiled import circuit_digest
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.runtime import compiler as compiler_module
from qiskit_kd.execution.runtime.compiler import Compiled, Compiler
from qiskit_kd.execution.runtime.device import Device
from qiskit_kd.execution.runtime.journal import Journal
from qiskit_kd.execution.schema import RuntimeOptions


class Lagos:
    """A fake device of seven qubits on some day."""

    def __init__(self, target: Target | None = None) -> None:
        self._real = fake_device("fake_lagos")
        self.target = self._real.target if target is None else target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def rebuilt(*, lacks: tuple[tuple[int, int], ...] = (), pair_gate: Any = None) -> Target:
    """Its target without some couplings, and perhaps with another gate of two qubits."""
    old = fake_device("fake_lagos").target
    found = Target(num_qubits=old.num_qubits, dt=old.dt)
    for name in old.operation_names:
        operation = old.operation_from_name(name)
        if old[name] is None or None in old[name]:
            found.add_instruction(operation, name=name)
            continue
        if name == "cx" and pair_gate is not None:
            operation = pair_gate
        facts = {
            where: what for where, what in old[name].items() if not {where, where[::-1]} & {*lacks}
        }
        found.add_instruction(operation, facts)
    return found


def without(*pairs: tuple[int, int]) -> Target:
    """Its target as IBM's converter makes it of a calibration with these couplings faulty."""
    return rebuilt(lacks=pairs)


def worn(*pairs: tuple[int, int]) -> Target:
    """Its target where these couplings are there and always go wrong."""
    found = copy.deepcopy(fake_device("fake_lagos").target)
    for pair in pairs:
        for where in (pair, pair[::-1]):
            if where in found["cx"]:
                facts = copy.copy(found["cx"][where])
                facts.error = 1.0
                found.update_instruction_properties("cx", where, facts)
    return found


def student() -> QuantumCircuit:
    found = QuantumCircuit(2)
    found.rx(Parameter("weight_0"), 0)
    found.cx(0, 1)
    found.measure_all()
    return found


@pytest.fixture(params=[1, 2], ids=["alone", "tiled"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"tiles": request.param}


class Lab:
    """A journal, and a process for each day."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path / "jobs.db"
        self.options = RuntimeOptions.model_validate(
            {"kind": "runtime", "device": "fake_lagos", **settings}
        )

    def on(self, target: Target | None = None, **changes: Any) -> tuple[str, Compiled, int]:
        """Digest of the circuit of a day, what it is, and how many circuits were transpiled."""
        options = self.options.model_copy(update=changes)
        device = Device("fake_lagos", Lagos(target), None, True)  # type: ignore[arg-type]
        found = Compiler(device, options, Journal(self.path))
        compiled = found.compiled(student())
        return circuit_digest(whole(compiled)), compiled, found.transpilations

    def pins(self) -> list[str]:
        with closing(sqlite3.connect(self.path)) as file:
            return [name for (name,) in file.execute("SELECT name FROM pins")]


def whole(compiled: Compiled) -> QuantumCircuit:
    return compiled.circuit if compiled.tiling is None else compiled.tiling.circuit


def pairs_of(compiled: Compiled) -> set[tuple[int, int]]:
    circuit = whole(compiled)
    found = [
        [circuit.find_bit(q).index for q in item.qubits]
        for item in circuit.data
        if item.operation.name == "cx"
    ]
    return {(min(pair), max(pair)) for pair in found}  # type: ignore[misc]


COUPLINGS = {(0, 1), (1, 2), (1, 3), (3, 5), (4, 5), (5, 6)}


@pytest.fixture
def lab(tmp_path: Path, settings: dict[str, Any]) -> Lab:
    return Lab(tmp_path, settings)


@pytest.mark.parametrize("fault", [without, worn])
def test_a_fault_elsewhere_changes_no_circuit(lab: Lab, fault: Any) -> None:
    before, compiled, count = lab.on()
    assert count == 1
    for pair in COUPLINGS - pairs_of(compiled):
        after, _, count = lab.on(fault(pair))
        assert (after, count) == (before, 0), pair


@pytest.mark.parametrize("fault", [without, worn])
def test_a_fault_of_its_own_gives_another_circuit_that_lasts(lab: Lab, fault: Any) -> None:
    before, compiled, _ = lab.on()
    lost = pairs_of(compiled)
    moved, other, count = lab.on(fault(*lost))
    assert moved != before
    assert count == 1
    assert not pairs_of(other) & lost
    (elsewhere, *_) = COUPLINGS - lost - pairs_of(other)
    for target in (fault(*lost), fault(*lost, elsewhere), None):
        # Also once the fault is repaired: the work in hand has gone on with the other circuit.
        again, _, count = lab.on(target)
        assert (again, count) == (moved, 0)


def test_faults_everywhere_are_no_reason_for_a_new_circuit(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {"tiles": 1})
    nowhere_good = worn(*COUPLINGS)
    assert len({lab.on(nowhere_good)[0] for _ in range(3)}) == 1
    assert len(lab.pins()) == 1


def test_a_gate_that_the_device_no_longer_has(lab: Lab) -> None:
    before, _, _ = lab.on()
    other = rebuilt(pair_gate=CZGate())
    after, compiled, count = lab.on(other)
    assert after != before
    assert count == 1
    assert {item.operation.name for item in whole(compiled).data} >= {"cz"}


def test_other_settings_are_another_circuit(lab: Lab) -> None:
    lab.on()
    assert [
        lab.on(None, **{name: value})[2]
        for name, value in (
            ("optimization_level", 1),
            ("seed_transpiler", 5),
            ("fractional_gates", True),
        )
    ] == [1, 1, 1]
    assert lab.on()[2] == 0


def test_of_two_processes_the_first_decides(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.on()[0]
    lost = pairs_of(lab.on()[1])
    # The other one looked before the first had pinned its circuit.
    asked = Compiler._pins
    looks: list[int] = []

    def late(self: Compiler, name: str) -> list[bytes]:
        looks.append(1)
        return [] if len(looks) == 1 else asked(self, name)

    monkeypatch.setattr(compiler_module.Compiler, "_pins", late)
    assert lab.on()[0] == first
    assert lab.on(without(*lost))[0] != first
