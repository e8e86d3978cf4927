# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
from qiskit.quantum_info import SuperOp, average_gate_fidelity
from qiskit_aer.noise import depolarizing_error, thermal_relaxation_error

from qiskit_kd.errors import CircuitError, ConfigError, UnknownNameError
from qiskit_kd.execution.noise_sources import (
    DeviceNoise,
    fake_device,
    fake_device_names,
    rate_device,
    readout_rates,
)


def torino(**options) -> DeviceNoise:
    backend = fake_device("fake_torino")
    return DeviceNoise("fake_torino", backend.target, readout_rates(backend), **options)


def rates(**options) -> DeviceNoise:
    return DeviceNoise("rates", *rate_device(4, **options))


def test_fake_devices_go_by_their_own_names() -> None:
    names = fake_device_names()
    assert {"fake_torino", "fake_marrakesh", "fake_lima"} <= set(names)
    assert len(names) == len(set(names)) > 50
    assert fake_device("fake_lima").name == "fake_lima"
    with pytest.raises(
        UnknownNameError,
        match=r"unknown fake device; got 'fake_torin'\. did you mean 'fake_torino'\? known: fake_",
    ):
        fake_device("fake_torin")


def test_a_calibrated_gate_errs_as_calibrated() -> None:
    noise = torino()
    pair = next(p for p, k in noise.target["cz"].items() if k.error and k.error < 0.1)
    error = noise.gate_error("cz", pair)
    assert 1 - average_gate_fidelity(error.to_quantumchannel()) == pytest.approx(
        noise.target["cz"][pair].error, rel=1e-6
    )
    assert noise.gate_error("cz", pair) is error  # made once
    assert noise.gate_error("rz", (0,)) is None  # a change of frame


def test_rates_are_depolarising_noise_and_relaxation() -> None:
    noise = rates(
        one_qubit=1e-3, two_qubit=1e-2, t1=1e-4, t2=8e-5, one_qubit_time=4e-8, two_qubit_time=2e-7,
        readout=(0.01, 0.03),
    )  # fmt: skip
    for name, qubits, p, seconds in (("sx", (2,), 1e-3, 4e-8), ("cz", (1, 0), 1e-2, 2e-7)):
        one = thermal_relaxation_error(1e-4, 8e-5, seconds)
        relax = one if len(qubits) == 1 else one.expand(one)
        expected = depolarizing_error(p, len(qubits)).compose(relax)
        found = noise.gate_error(name, qubits)
        np.testing.assert_allclose(SuperOp(found).data, SuperOp(expected).data, atol=1e-12)
    np.testing.assert_allclose(noise.assignment(1), [[0.99, 0.03], [0.01, 0.97]])
    assert noise.gate_error("rz", (0,)) is None
    with pytest.raises(CircuitError, match=r"got 'cz' on qubits \[0, 2\]"):
        noise.gate_error("cz", (0, 2))
    full = rates(two_qubit=0.1, coupling="full")
    assert full.gate_error("cz", (0, 2)) is not None
    assert full.gate_error("sx", (0,)) is None


def test_the_readout_errors_of_both_states() -> None:
    backend = fake_device("fake_torino")
    found = readout_rates(backend)
    items = {item.name: item.value for item in backend.properties().qubits[7]}
    assert found[7].tolist() == [items["prob_meas1_prep0"], items["prob_meas0_prep1"]]
    assert found[7, 0] != found[7, 1]
    matrix = torino().assignment(7)
    np.testing.assert_allclose(matrix.sum(0), 1)
    assert (matrix[1, 0], matrix[0, 1]) == tuple(found[7])


def test_waiting_relaxes() -> None:
    noise = rates(t1=1e-4, t2=8e-5)
    error = SuperOp(noise.idle_error(2, 1e-6))
    np.testing.assert_allclose(error.data, SuperOp(thermal_relaxation_error(1e-4, 8e-5, 1e-6)).data)
    assert noise.idle_error(2, 0.0) is None
    assert rates().idle_error(2, 1e-6) is None  # nothing is known


def test_scaling_strengthens_and_weakens() -> None:
    pair, one = (3, 4), 5
    plain = torino()

    def infidelity(noise: DeviceNoise) -> float:
        return 1 - average_gate_fidelity(noise.gate_error("cz", pair).to_quantumchannel())

    for scale in (0.25, 2.0):
        noise = torino(scale=scale)
        assert infidelity(noise) == pytest.approx(scale * infidelity(plain), rel=1e-6)
        np.testing.assert_allclose(
            noise.assignment(one)[1, 0], scale * plain.assignment(one)[1, 0], rtol=1e-12
        )
        wait = SuperOp(noise.idle_error(one, 1e-6)).data
        np.testing.assert_allclose(
            wait, SuperOp(plain.idle_error(one, scale * 1e-6)).data, atol=1e-12
        )
    none = torino(scale=0.0)
    assert none.gate_error("cz", pair) is None
    assert none.idle_error(one, 1e-6) is None
    np.testing.assert_array_equal(none.assignment(one), np.eye(2))
    most = torino(scale=1e4)  # nothing is left, but nothing is unphysical either
    assert most.assignment(one)[1, 0] == 0.5
    assert 0 < infidelity(most) <= 0.8 + 1e-9
    np.testing.assert_array_equal(torino(readout_error=False).assignment(one), np.eye(2))


def test_t2_of_a_calibration_may_exceed_its_bound() -> None:
    noise = DeviceNoise("odd", *rate_device(1, t1=1e-4, t2=5e-4))
    found = SuperOp(noise.idle_error(0, 1e-5)).data
    np.testing.assert_allclose(found, SuperOp(thermal_relaxation_error(1e-4, 2e-4, 1e-5)).data)


@pytest.mark.parametrize("scale", [-1.0, math.inf, math.nan])
def test_scales_that_are_none(scale) -> None:
    with pytest.raises(
        ConfigError, match=r"noise is scaled by a finite factor; got .*; expected 0 \(no noise\) or"
    ):
        torino(scale=scale)


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan])
def test_readout_errors_are_probabilities(value) -> None:
    target, readout = rate_device(3)
    readout[2, 1] = value
    with pytest.raises(
        ConfigError,
        match=rf"a readout error is a probability; got {value} for qubit 2; expected 0 to 1",
    ):
        DeviceNoise("odd", target, readout)
