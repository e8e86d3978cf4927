# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import combinations, pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import Parameter
from qiskit.circuit.library import CZGate, Measure, RZGate, SXGate
from qiskit.transpiler import InstructionProperties, Target

from qiskit_kd.errors import DeviceError
from qiskit_kd.execution.aer import aer_target
from qiskit_kd.execution.noise_sources import fake_device
from qiskit_kd.execution.runtime.placement import Tile, Uses, device_costs, left_out, paths


def device(
    qubits: int, couplings: dict[tuple[int, int], float | None], *, sx=None, readout=None
) -> Target:
    target = Target(num_qubits=qubits)
    sx, readout = sx or [0.0] * qubits, readout or [0.0] * qubits
    for gate, errors in ((SXGate(), sx), (Measure(), readout)):
        places = {(q,): InstructionProperties(1e-8, e) for q, e in enumerate(errors)}
        target.add_instruction(gate, places)
    target.add_instruction(RZGate(Parameter("a")), {(q,): None for q in range(qubits)})
    target.add_instruction(
        CZGate(), {pair: InstructionProperties(1e-7, e) for pair, e in couplings.items()}
    )
    return target


def line(*errors: float | None, **options) -> Target:
    couplings = {(k, k + 1): error for k, error in enumerate(errors)}
    return device(len(errors) + 1, couplings, **options)


def faults(target: Target, qubits: tuple[int, ...]) -> float:
    """By the definition, with the errors of the target."""
    chances = [target["sx"][(q,)].error for q in qubits]
    chances += [target["measure"][(q,)].error for q in qubits]
    for pair in pairwise(qubits):
        chances.append(min(target["cz"][p].error for p in (pair, pair[::-1]) if p in target["cz"]))
    return float(-np.log1p(-np.array(chances)).sum())


@pytest.mark.parametrize(
    ("name", "most", "usual"), [("fake_torino", 15, 15), ("fake_marrakesh", 19, 15)]
)
def test_at_least_as_many_tiles_as_a_greedy_choice(name: str, most: int, usual: int) -> None:
    target = fake_device(name).target
    for worst, at_least in ((1e9, most), (3.0, usual)):
        found = paths(target, 6, worst=worst)
        assert len(found) >= at_least
        used = [q for tile in found for q in tile.qubits]
        assert len(used) == len(set(used)) == 6 * len(found)
        for tile in found:
            assert tile.error == pytest.approx(faults(target, tile.qubits), rel=1e-9)
        errors = [tile.error for tile in found]
        assert errors == sorted(errors)
    assert errors[-1] <= 3 * errors[0]
    assert found == paths(target, 6)  # nothing is random


def best_packing(target: Target, couplings, qubits: int, size: int) -> tuple[int, float]:
    """Number and sum of errors of the best packing, by trying all."""
    joined = {frozenset(pair) for pair in couplings}
    candidates = [
        path
        for path in permutations(range(qubits), size)
        if path <= path[::-1] and all(frozenset(pair) in joined for pair in pairwise(path))
    ]
    for count in range(qubits // size, 0, -1):
        sums = [
            sum(faults(target, path) for path in chosen)
            for chosen in combinations(candidates, count)
            if len({q for path in chosen for q in path}) == count * size
        ]
        if sums:
            return count, min(sums)
    return 0, 0.0


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_as_many_as_possible_and_then_the_best(data) -> None:
    qubits, size = data.draw(st.sampled_from([(4, 2), (6, 2), (6, 3), (7, 3)]))
    pairs = list(combinations(range(qubits), 2))
    chosen = data.draw(st.lists(st.sampled_from(pairs), min_size=3, max_size=8, unique=True))
    chance = st.floats(0.001, 0.3)
    couplings = {pair: data.draw(chance) for pair in chosen}
    readout = [data.draw(chance) for _ in range(qubits)]
    target = device(qubits, couplings, sx=[0.002] * qubits, readout=readout)
    count, total = best_packing(target, couplings, qubits, size)
    if count == 0:
        with pytest.raises(DeviceError, match="fits on working qubits"):
            paths(target, size)
        return
    found = paths(target, size, worst=1e9)
    assert len(found) == count
    assert sum(tile.error for tile in found) <= total * 1.01 + 1e-9
    assert len(paths(target, size, tiles=count, worst=1e9)) == count
    (best,) = paths(target, size, tiles=1)
    assert best.error <= min(tile.error for tile in found)
    with pytest.raises(DeviceError, match=f"got tiles: {count + 1} .* expected at most {count}"):
        paths(target, size, tiles=count + 1, worst=1e9)


def test_a_tile_out_of_line_is_left_out() -> None:
    target = line(0.01, 0.5, 0.02, 0.5, 0.04)
    assert [tile.qubits for tile in paths(target, 2)] == [(0, 1), (2, 3)]
    assert [tile.qubits for tile in paths(target, 2, worst=5)] == [(0, 1), (2, 3), (4, 5)]
    assert left_out(target, 2, paths(target, 2)) == paths(target, 2, worst=5)[2:]
    assert left_out(target, 2, paths(target, 2, worst=5)) == []
    with pytest.raises(DeviceError) as caught:
        paths(target, 2, tiles=3)
    assert str(caught.value) == (
        "tiles fit on the device beside each other, none with over 3 times the errors of the best; "
        "got tiles: 3 of 2 qubits; expected at most 2. Ask for fewer, or set tiles: auto."
    )


def test_what_is_out_of_order_is_avoided() -> None:
    whole = [tile.qubits for tile in paths(line(0.01, 0.3, 0.01), 2)]
    assert whole == [(0, 1), (2, 3)]
    for broken in (
        line(1.0, 0.02, 0.03),
        line(None, 0.02, 0.03),
        line(0.01, 0.02, 0.03, sx=[1.0, 0, 0, 0]),
        line(0.01, 0.02, 0.03, readout=[None, 0, 0, 0]),
        line(0.01, 0.02, 0.03, readout=[1.0, 0, 0, 0]),
    ):
        assert all(0 not in tile.qubits for tile in paths(broken, 2, worst=1e9))
    costs = device_costs(line(None, None))
    assert costs.coupling == {(0, 1): 0, (1, 2): 0}  # no calibration at all is no reason


def test_the_way_round_follows_the_circuit() -> None:
    target = line(0.1, 0.001)
    uses = Uses((1.0, 10.0), (1.0,) * 3, (1.0,) * 3)
    assert paths(target, 3, uses=uses) == [Tile((0, 1, 2), pytest.approx(0.1154, abs=1e-3))]
    uses = Uses((10.0, 1.0), (1.0,) * 3, (1.0,) * 3)
    assert paths(target, 3, uses=uses)[0].qubits == (2, 1, 0)
    unread = Uses((1.0, 1.0), (1.0,) * 3, (0.0, 1.0, 1.0))
    one_blind = line(0.1, 0.1, readout=[0.0, 0.0, 1.0])
    assert paths(one_blind, 3, uses=unread)[0].qubits == (2, 1, 0)


def test_either_direction_of_a_coupling_and_single_qubits() -> None:
    target = device(3, {(1, 0): 0.2, (0, 1): 0.1, (2, 1): 0.1})
    assert device_costs(target).coupling == {
        (0, 1): pytest.approx(0.10536, abs=1e-5),
        (1, 2): pytest.approx(0.10536, abs=1e-5),
    }
    assert len(paths(target, 3)) == 1
    alone = paths(line(0.1, 0.1, readout=[0.3, 0.1, 0.2]), 1)
    assert [tile.qubits for tile in alone] == [(1,), (2,)]


def test_where_any_two_qubits_interact() -> None:
    assert device_costs(aer_target()).coupling is None
    found = paths(aer_target(), 5, tiles=3)
    assert [tile.qubits for tile in found] == [tuple(range(5 * k, 5 * k + 5)) for k in range(3)]
    assert {tile.error for tile in found} == {0.0}


def test_dense_couplings_are_no_endless_search() -> None:
    pairs = dict.fromkeys(combinations(range(24), 2), 0.01)
    assert len(paths(device(24, pairs), 8)) == 3


def test_nothing_fits() -> None:
    with pytest.raises(
        DeviceError,
        match=r"working qubits of the device; got 5 qubits in a row; expected a path on the 3 "
        r"qubits of the device\. Use fewer qubits or a larger device\.",
    ):
        paths(line(0.1, 0.1), 5)
