# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.primitives import StatevectorSampler
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.transpiler import Target

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import angle, reuploading
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups, Observables
from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.compiled import circuit_duration
from qiskit_kd.execution.engine import Needs
from qiskit_kd.execution.expansion import Expansion
from qiskit_kd.execution.runtime.cost import (
    MAX_EXECUTIONS,
    STOCK_SHOTS,
    Call,
    Cost,
    Tariff,
    ceiling,
    circuits_of,
    cost_of_call,
    cost_of_pubs,
    gradient_points,
    rows_per_job,
    split_rows,
    stock_cost,
    total,
)
from tests.execution.engines import sampler_engine

THUMB = Tariff(duration=100e-6, rep_delay=250e-6)  # 0.35 ms for an execution


@cache
def models() -> dict[str, CircuitModel]:
    crx = QuantumCircuit(2)
    from qiskit.circuit import Parameter

    crx.crx(Parameter("a"), 0, 1)  # two frequencies: four shifted circuits
    crx.ry(Parameter("b"), 0)
    groups = ClassGroups(2, 2)
    return {
        "plain": CircuitModel(angle(2), hardware_efficient(2, 1), groups),
        "controlled": CircuitModel(angle(2), crx, groups),
        "layers": CircuitModel(
            reuploading(2, layers=2), hardware_efficient(2, 1, final_ry=True), groups
        ),
        "bases": CircuitModel(angle(2), hardware_efficient(2, 1), Observables(["XI", "ZZ", "IY"])),
    }


# The published sizes of one epoch of 300 samples: circuits per sample, shots, jobs, and the table's
# executions and seconds.
TABLE = {
    "forward only": (1, 1024, 1, 0.31e6, 110),
    "parameter shift, 63 weights": (1 + 2 * 63, 1024, None, 39.0e6, 13_660),
    "parameter shift, 120 weights": (1 + 2 * 120, 1024, None, 74.0e6, 25_900),
    "parameter shift, few shots": (1 + 2 * 63, 128, None, 4.9e6, 1_710),
    "random subset of 8": (1 + 2 * 8, 64, 10, 0.33e6, 134),
    "SPSA": (2, 1024, 10, 0.61e6, 235),
    "SPSA, few shots": (2, 64, 10, 38e3, 33),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_published_table(name: str) -> None:
    each, shots, jobs, executions, seconds = TABLE[name]
    steps = jobs or 1
    found = total(THUMB.cost(300 // steps * each, shots) for _ in range(steps))
    assert found.executions == pytest.approx(executions, rel=0.02)
    assert found.seconds == pytest.approx(seconds, rel=0.015)
    assert found.usd is None
    if jobs is not None:
        assert found.jobs == jobs


@pytest.mark.parametrize(("weights", "jobs"), [(63, 4), (120, 8)])
def test_a_shift_too_large_for_a_job_is_several(weights: int, jobs: int) -> None:
    cost = THUMB.cost(300 * (1 + 2 * weights), 1024)
    assert (cost.jobs, cost.pubs) == (jobs, jobs)


def test_costs_add_up() -> None:
    one = Tariff(0.0, 1e-3, usd_per_second=2.0).cost(10, 100)
    assert one == Cost(1000, 1, 1, 3.0, 6.0)
    assert one + one == one * 2 == Cost(2000, 2, 2, 6.0, 12.0)
    assert total([one, one, one]) == one * 3
    assert total([]) == Cost() == Cost(0, 0, 0, 0.0, 0.0)
    assert one.as_dict() == {"executions": 1000, "jobs": 1, "pubs": 1, "seconds": 3.0, "usd": 6.0}


def test_an_unknown_price_stays_unknown() -> None:
    known, unknown = Cost(1, 1, 1, 2.0, 3.0), Cost(1, 1, 1, 2.0, None)
    assert (known + unknown).usd is None
    assert (unknown * 2).usd is None
    assert (Cost() + unknown).usd is None


def test_nothing_costs_nothing() -> None:
    assert THUMB.cost(0, 1024) == Cost()
    assert THUMB.cost(5, 1024, pubs=0) == Cost(0, 0, 0, 0.0, None)
    assert cost_of_pubs([], target=None) == Cost()


def test_negative_times() -> None:
    with pytest.raises(
        ConfigError,
        match=r"no negative time; got a circuit of 1e-06 s, a delay "
        r"of -1\.0 s; expected seconds from 0 on",
    ):
        Tariff(1e-6, -1.0)


@pytest.mark.parametrize("shots", [0, MAX_EXECUTIONS + 1])
def test_shots_beyond_a_job(shots: int) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"fit into one job; got {shots:,}; expected 1 to "
        r"10,000,000\. Use fewer shots",
    ):
        rows_per_job(shots)


@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    shots=st.sampled_from([1, 1_000_000, 2_500_000, 6_000_000, 10_000_000]),
)
def test_split_rows(sizes: list[int], shots: int) -> None:
    jobs = split_rows(sizes, shots)
    sent = [
        (place, row) for job in jobs for place, part in job for row in range(part.start, part.stop)
    ]
    assert sent == [(place, row) for place, size in enumerate(sizes) for row in range(size)]
    filled = [sum(part.stop - part.start for _, part in job) * shots for job in jobs]
    assert all(load <= MAX_EXECUTIONS for load in filled)
    assert all(load + shots > MAX_EXECUTIONS for load in filled[:-1])


@given(
    rows=st.integers(0, 30),
    pubs=st.integers(1, 5),
    shots=st.sampled_from([10, 2_000_000, 3_000_000, 10_000_000]),
)
def test_jobs_and_pubs_are_those_of_the_split(rows: int, pubs: int, shots: int) -> None:
    jobs = split_rows([rows] * pubs, shots)
    cost = THUMB.cost(rows, shots, pubs=pubs)
    assert (cost.jobs, cost.pubs) == (len(jobs), sum(map(len, jobs)))


def test_duration_is_that_of_the_device() -> None:
    from qiskit_ibm_runtime.fake_provider import FakeLagosV2

    device = FakeLagosV2()
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    circuit.measure_all()
    manager = generate_preset_pass_manager(1, target=device.target, initial_layout=[0, 1])
    isa = manager.run(circuit)
    target = device.target
    expected = target["cx"][0, 1].duration + max(target["measure"][q,].duration for q in ((0), (1)))
    assert circuit_duration(isa, target) == pytest.approx(expected)


@pytest.mark.parametrize("target", [None, Target.from_configuration(["h", "cx"], 2)])
def test_without_times_a_circuit_has_the_usual_length(target: Target | None) -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    assert circuit_duration(circuit, target) == 5e-6


@pytest.mark.parametrize("name", ["plain", "controlled", "layers", "bases"])
@pytest.mark.parametrize("gradient", ["shift", "spsa", "auto"])
@pytest.mark.parametrize("needs", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("settings", [1, 2])
def test_calls_cost_what_the_engine_counts(
    name: str, gradient: str, needs: tuple[bool, bool], settings: int
) -> None:
    model, shots = models()[name], 3
    engine = sampler_engine(
        StatevectorSampler(seed=0), shots=shots, gradient=gradient, perturbations=5, seed=0
    )
    rows = np.random.default_rng(0).uniform(size=(4, model.num_features))
    weights = np.zeros((settings, model.num_weights))
    engine.vjp(model, rows, weights, Needs(features=needs[0], weights=needs[1]))
    call = Call(4, settings, weights=needs[1], features=needs[0])
    cost = cost_of_call(
        call, Expansion(model), THUMB, shots=shots, gradient=gradient, perturbations=5
    )
    assert cost.executions == engine.usage.executions > 0
    assert (cost.jobs, cost.pubs) == (engine.usage.jobs, engine.usage.pubs)
    assert cost.seconds == pytest.approx(2 + 0.35e-3 * engine.usage.executions)


def test_a_shift_rule_counts_frequencies() -> None:
    assert gradient_points(Expansion(models()["controlled"]), "shift") == 4 + 2
    twice = Expansion(models()["layers"])  # six rotations and one controlled, two times
    assert gradient_points(twice, "shift") == 2 * (6 * 2 + 4)
    assert gradient_points(twice, "spsa", perturbations=7) == 14


def test_tiles_divide_the_rows_of_each_pub() -> None:
    expansion, call = Expansion(models()["bases"]), Call(10, weights=True)
    assert circuits_of(call, expansion, "spsa") == 90
    alone = cost_of_call(call, expansion, THUMB, shots=100, gradient="spsa")
    tiled = cost_of_call(call, expansion, THUMB, shots=100, gradient="spsa", tiles=13)
    measures = alone.pubs
    assert measures > 1
    assert alone.executions == measures * 90 * 100
    assert tiled.executions == measures * 7 * 100  # 6 of the last row's 13 places are filled
    assert (tiled.jobs, tiled.pubs) == (1, measures)


def test_stock_networks() -> None:
    plain = Expansion(models()["plain"])
    forward = stock_cost(Call(8), plain, THUMB)
    assert (forward.executions, forward.jobs, forward.pubs) == (8 * STOCK_SHOTS, 1, 1)
    trained = stock_cost(Call(8, weights=True), plain, THUMB, shots=100)
    shifted = 8 * (4 * 2 + 4)
    assert trained.executions == (8 + shifted) * 100
    assert (trained.jobs, trained.pubs) == (2, 1 + shifted)
    observed = stock_cost(Call(8, weights=True), Expansion(models()["bases"]), THUMB, shots=100)
    assert observed.executions == 3 * trained.executions
    assert (observed.jobs, observed.pubs) == (2, 3 * (1 + shifted))


def test_stock_network_is_the_published_one() -> None:
    """qiskit-machine-learning's own classes ask the sampler for as much as is counted here."""
    from qiskit_machine_learning.gradients import ParamShiftSamplerGradient
    from qiskit_machine_learning.neural_networks import SamplerQNN

    sent: list[list[SamplerPub]] = []

    class Watched(StatevectorSampler):
        def run(self, pubs, *, shots=None):
            sent.append([SamplerPub.coerce(pub, shots) for pub in pubs])
            return super().run(pubs, shots=shots)

    model = models()["plain"]
    sampler = Watched(seed=0)
    circuit = model.circuit.measure_all(inplace=False)
    network = SamplerQNN(
        circuit=circuit,
        sampler=sampler,
        input_params=list(model.inputs),
        weight_params=[p for p in circuit.parameters if p not in set(model.inputs)],
        gradient=ParamShiftSamplerGradient(sampler),
    )
    rows = np.random.default_rng(0).uniform(size=(3, model.num_features))
    weights = np.zeros(model.num_weights)
    network.forward(rows, weights)
    network.backward(rows, weights)
    cost = stock_cost(Call(3, weights=True), Expansion(model), THUMB, shots=1)
    assert cost.jobs == len(sent)
    assert cost.pubs == sum(map(len, sent))
    assert cost.executions == sum(pub.size for pubs in sent for pub in pubs)


def test_pubs_of_a_sampler() -> None:
    circuit = hardware_efficient(2, 1)
    circuit.measure_all()
    values = np.zeros((6, circuit.num_parameters))
    pubs = [SamplerPub.coerce((circuit, values), 50), SamplerPub.coerce((circuit, values[:2]), 50)]
    cost = cost_of_pubs(pubs, target=None, rep_delay=1e-3, usd_per_second=2.0)
    seconds = 2 + 8 * 50 * (1e-3 + 5e-6)
    assert cost == Cost(400, 1, 2, pytest.approx(seconds), pytest.approx(2 * seconds))
    assert cost_of_pubs(pubs, target=None).seconds == pytest.approx(2 + 400 * 255e-6)
    unsized = SamplerPub.coerce((circuit, values))
    assert cost_of_pubs([unsized], target=None, shots=10).executions == 60
    with pytest.raises(
        ConfigError,
        match="a price needs the number of shots; got a PUB without "
        r"shots\. Name the shots",
    ):
        cost_of_pubs([unsized], target=None)


def test_pubs_of_an_estimator() -> None:
    circuit = hardware_efficient(2, 1)
    values = np.zeros((6, circuit.num_parameters))
    observables = [[entry] for entry in ("XI", "ZZ", "IZ")]
    pub = EstimatorPub.coerce((circuit, observables, values, 0.1))
    cost = cost_of_pubs([pub], target=None)
    assert cost.executions == 2 * 6 * 100  # ZZ and IZ are measured together
    assert (cost.jobs, cost.pubs) == (1, 1)
    projector = EstimatorPub.coerce((circuit, ["0I", "ZZ"], values[0], 0.1))
    assert cost_of_pubs([projector], target=None).executions == 2 * 100


@pytest.mark.parametrize(
    ("estimate", "limit"),
    [
        (0.0, 60),
        (2.5, 60),
        (20.0, 60),
        (20.1, 61),
        (100.0, 300),
        (3_600.0, 10_800),
        (9_000.0, 10_800),
    ],
)
def test_a_job_is_cut_off_far_above_what_is_expected_of_it(estimate: float, limit: int) -> None:
    assert ceiling(estimate) == limit
