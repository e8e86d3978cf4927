# SPDX-License-Identifier: Apache-2.0
"""One training step under the noise of a device, beside its peers, in one run on equal work.

Six qubits, amplitude encoding, the hardware-efficient ansatz with 74 weights, three class groups,
the gates and errors of FakeTorino (readout error off, which the peers would have to add by hand).
Values and gradients are compared before anything is timed.

  * Aer: the `density_matrix` method on the compact circuit (active qubits and their errors alone)
    with parameter shift, its fastest fair form. `--aer-circuits` circuits are timed in one job; a
    step needs one per sample and shift, so its time is extrapolated, and says so.
  * PennyLane: `default.mixed` with backprop through torch, the same gates and Kraus operators, the
    whole batch by parameter broadcasting (a loop over samples that starts from our encoded states
    takes longer). One step is timed.

Run: `python benchmarks/noisy_step.py`. Prints a table on stderr and JSON on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from qiskit.quantum_info import Kraus  # noqa: E402
from qiskit_aer import AerSimulator  # noqa: E402

from qiskit_kd import CircuitModel, ClassGroups, QuantumLayer, circuits  # noqa: E402
from qiskit_kd.execution.engine import Needs  # noqa: E402
from qiskit_kd.execution.expansion import Expansion  # noqa: E402
from qiskit_kd.execution.noisy import NoisyEngine  # noqa: E402
from qiskit_kd.execution.schema import Noise  # noqa: E402
from qiskit_kd.execution.snapshots import open_noise  # noqa: E402

CLASSES = 3
WEIGHTS = Needs(features=False, weights=True)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def median_ms(step, seconds: float) -> float:
    step()
    step()
    times, stop = [], time.perf_counter() + seconds
    while time.perf_counter() < stop or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def layer_step(layer: QuantumLayer, x: np.ndarray, r: np.ndarray):
    xs = torch.from_numpy(x).to(layer.weight.dtype)
    rs = torch.from_numpy(r).to(layer.weight.dtype)

    def run():
        layer.weight.grad = None
        y = layer(xs)
        (y * rs).sum().backward()
        return y.detach().numpy(), layer.weight.grad.numpy()

    return run


class Aer:
    """Compact circuits, all bound, in one job."""

    def __init__(self, engine: NoisyEngine, model: CircuitModel, noise) -> None:
        self.model, self.native = model, engine.program(model).native
        self.circuit = self.native.compact()
        self.circuit.save_probabilities([self.native.active.index(q) for q in self.native.final])
        noise_model = noise.noise_model(self.native.compact(), self.native.active)
        self.simulator = AerSimulator(method="density_matrix", noise_model=noise_model)
        names = [p.name for p in (*model.inputs, *model.weights)]
        self.columns = [names.index(p.name) for p in self.circuit.parameters]
        expansion = Expansion(model)
        self.circuits_per_sample = 1 + sum(2 * len(f) for f in expansion.ansatz.frequencies)

    def outputs(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """`weights (rows, num_weights)`, one row for each row of x."""
        rows = np.concatenate([self.model.encoding.angles(x), weights], axis=1)[:, self.columns]
        binds = {p: rows[:, k].tolist() for k, p in enumerate(self.circuit.parameters)}
        result = self.simulator.run([self.circuit], parameter_binds=[binds], shots=1).result()
        p = np.stack([result.data(k)["probabilities"] for k in range(len(rows))])
        return p @ self.model.readout.matrix


class Mixed:
    """PennyLane's density matrices through the same gates and Kraus operators, by broadcasting."""

    def __init__(self, engine: NoisyEngine, model: CircuitModel, noise) -> None:
        import pennylane as qml

        native, self.model = engine.program(model).native, model
        n = len(native.active)
        wire = {q: n - 1 - k for k, q in enumerate(native.active)}  # wire 0 is the highest bit
        kraus: dict[tuple[str, tuple[int, ...]], list[np.ndarray]] = {}
        plan = []
        for part in native.parts:
            for gate in part.gates:
                name = gate.operation.name
                error, key = noise.gate_error(name, gate.qubits), (name, gate.qubits)
                if error is not None and key not in kraus:
                    kraus[key] = [np.array(k) for k in Kraus(error.to_quantumchannel()).data]
                angle = gate.operation.params[0] if name == "rz" and not gate.slots else None
                where = [wire[q] for q in reversed(gate.qubits)]
                plan.append((part.source, name, where, gate.slots, angle, kraus.get(key)))
        self.encoding, ansatz = native.parts
        self.own = list(ansatz.columns)  # slots of the ansatz are affine in the weights
        constant = ansatz.angles(np.zeros(len(self.own)))
        slopes = [ansatz.angles(unit) - constant for unit in np.eye(len(self.own))]
        self.slopes, self.constant = torch.from_numpy(np.array(slopes)), torch.from_numpy(constant)

        @qml.qnode(qml.device("default.mixed", wires=n), interface="torch", diff_method="backprop")
        def node(inputs, weights):
            for source, name, where, free, angle, operators in plan:
                if name == "rz" and free:
                    slot = inputs[:, free[0]] if source == "inputs" else weights[free[0]]
                    qml.RZ(slot, wires=where)
                elif name == "rz":
                    qml.RZ(float(angle), wires=where)
                else:
                    {"sx": qml.SX, "x": qml.PauliX, "cz": qml.CZ}[name](wires=where)
                if operators is not None:
                    qml.QubitChannel(operators, wires=where)
            return qml.probs(wires=[wire[q] for q in reversed(native.final)])

        self.node = node

    def step(self, x: np.ndarray, r: np.ndarray, weights: np.ndarray):
        inputs = torch.from_numpy(self.encoding.slots(self.model.encoding.angles(x)))
        groups = torch.from_numpy(self.model.readout.matrix)
        rs = torch.from_numpy(r)

        def run():
            w = torch.from_numpy(weights.copy()).requires_grad_()
            y = self.node(inputs, w[self.own] @ self.slopes + self.constant) @ groups
            (y * rs).sum().backward()
            return y.detach().numpy(), w.grad.numpy()

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--qubits", type=int, default=6)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 1024])
    parser.add_argument("--seconds", type=float, default=3.0, help="per step and batch")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--aer-circuits", type=int, default=16)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n = options.qubits
    model = CircuitModel(
        circuits.amplitude(n), circuits.hardware_efficient(n, 4, final_ry=True),
        ClassGroups(CLASSES, n),
    )  # fmt: skip
    noise = open_noise(Noise(device="fake_torino"), scale=1.0, readout=False, num_qubits=n)
    engine = NoisyEngine(noise)
    start = time.perf_counter()
    program = engine.program(model)
    gates = [sum(len(g.qubits) == 2 for g in part.gates) for part in program.native.parts]
    program.on(torch.float64, torch.device("cpu"))
    compile_s = time.perf_counter() - start
    say(
        f"{model.num_weights} weights; {gates[0]} + {gates[1]} two-qubit gates in "
        f"{program.num_blocks(0)} + {program.num_blocks(1)} blocks; compiled in {compile_s:.1f} s"
    )
    rng = np.random.default_rng(0)
    most = max(options.batches)
    x, r = rng.normal(size=(most, 2**n)), rng.random((most, CLASSES))
    ours: dict[str, dict[int, float]] = {}
    layers, encode_s = {}, {}
    for dtype in (torch.float64, torch.float32):
        name = str(dtype).removeprefix("torch.")
        layer = layers[name] = QuantumLayer(model, engine, dtype=dtype)
        start = time.perf_counter()
        with torch.no_grad():
            layer(torch.from_numpy(x).to(dtype))
        encode_s[name] = time.perf_counter() - start
        ours[name] = {
            b: median_ms(layer_step(layer, x[:b], r[:b]), options.seconds) for b in options.batches
        }
        say(f"qiskit_kd {name}: {most} rows encoded once in {encode_s[name]:.1f} s; step "
            + ", ".join(f"batch {b} {ms:.2f} ms" for b, ms in ours[name].items()))  # fmt: skip
    shuffled = rng.permutation(most)
    mixed_rows = {
        name: median_ms(layer_step(layer, x[shuffled], r), options.seconds)
        for name, layer in layers.items()
    }
    say(f"batch {most} in random order: "
        + ", ".join(f"{k} {v:.2f} ms" for k, v in mixed_rows.items()))  # fmt: skip
    result = {
        "what": "median milliseconds of forward + backward under FakeTorino's gate errors",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(),
                    "torch_threads": options.threads},
        "versions": {p: version(p) for p in ("qiskit", "qiskit-aer", "pennylane", "torch")},
        "two_qubit_gates": gates, "compile_s": compile_s, "encode_s": encode_s,
        "ms": ours, "ms_random_order": mixed_rows,
        "batch_ratio": {k: v[max(v)] / v[min(v)] for k, v in ours.items()},
    }  # fmt: skip
    if not options.no_peers:
        batch = 64 if 64 in options.batches else options.batches[0]
        result["peers"] = peers(engine, model, noise, x, r, layers["float64"], batch,
                                {k: v[batch] for k, v in ours.items()}, options)  # fmt: skip
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


def peers(engine, model, noise, x, r, layer, batch, ours, options) -> dict[str, object]:
    weights = layer.weight.detach().numpy()
    aer, few = Aer(engine, model, noise), options.aer_circuits
    expected, pullback = engine.vjp(model, x[:2], weights, WEIGHTS)
    wide = np.repeat(weights[None], 2, axis=0)
    difference = np.abs(aer.outputs(x[:2], wide) - expected).max()
    step, k = 1e-4, 5
    moved = [aer.outputs(x[:2], wide + s * step * np.eye(len(weights))[k]) for s in (1, -1)]
    slope = ((moved[0] - moved[1]) * r[:2]).sum() / (2 * step)
    slope_difference = abs(slope - pullback(r[:2])[1][k])
    # Aer leaves out error terms below 1e-10, so its probabilities add up to 1 - 1e-8 or so.
    if difference > 1e-6 or slope_difference > 1e-5:
        raise SystemExit(f"Aer: outputs or gradient differ by {difference}, {slope_difference}")
    rows = np.repeat(weights[None], few, axis=0)
    aer.outputs(x[:few], rows)
    start = time.perf_counter()
    aer.outputs(x[:few], rows)
    each = 1e3 * (time.perf_counter() - start) / few
    count = batch * aer.circuits_per_sample
    aer_ms = each * count
    say(f"Aer: {each:.1f} ms a circuit ({few} timed), {count:,} circuits a step of {batch}: "
        f"{aer_ms / 1e3:,.0f} s (extrapolated)")  # fmt: skip
    run = Mixed(engine, model, noise).step(x[:batch], r[:batch], weights)
    start = time.perf_counter()
    values, slopes = run()
    mixed_ms = 1e3 * (time.perf_counter() - start)
    expected, pullback = engine.vjp(model, x[:batch], weights, WEIGHTS)
    errors = [
        float(np.abs(values - expected).max()),
        float(np.abs(slopes - pullback(r[:batch])[1]).max()),
    ]
    # Qiskit's Kraus form leaves out operators weaker than 1e-8.
    if max(errors) > 1e-5:
        raise SystemExit(f"PennyLane: outputs or gradients differ by {errors}")
    say(f"PennyLane default.mixed: {mixed_ms / 1e3:,.1f} s a step of {batch}")
    ratios = {
        name: {"aer": aer_ms / ms, "default.mixed": mixed_ms / ms} for name, ms in ours.items()
    }
    for name, row in ratios.items():
        say(f"{name}: {row['aer']:,.0f} times Aer, {row['default.mixed']:,.0f} times default.mixed")
    return {
        "batch": batch, "aer_ms_a_circuit": each, "aer_circuits_a_step": count,
        "aer_ms_extrapolated": aer_ms, "mixed_ms": mixed_ms, "ratios": ratios,
        "difference_from_aer": float(difference), "difference_from_mixed": errors,
    }  # fmt: skip


if __name__ == "__main__":
    main()
