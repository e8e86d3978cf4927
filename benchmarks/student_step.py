# SPDX-License-Identifier: Apache-2.0
"""One training step of a fully quantum student, beside its peers, in one run on equal work.

Forward and backward (weight gradients) of amplitude encoding + ansatz + three class groups at six
qubits, for two ansatze: the hardware-efficient one with 74 weights (RZ, RX, CRX chain, final RY)
and RealAmplitudes with 60. Peers: PennyLane `TorchLayer` (default.qubit, backprop),
TensorCircuit-NG (JAX, jit) in both precisions, and Qiskit's own `SamplerQNN` + `TorchConnector`.
Values and gradients are compared before anything is timed.

A third circuit, 74 weights of RX, RZ and CRZ, is also timed against a step written by hand for it
(`handwritten.py`), which tells what the generality of the engine costs.

Stock SamplerQNN takes seconds a sample, so it is timed on `--stock-samples` samples; its cost is
linear in the batch (one circuit per sample and shift), and figures for larger batches are marked
as extrapolated.

Run: `make bench`, or `python benchmarks/student_step.py [--batches 64 1024 4096] [--no-stock]`.
Prints a table on stderr and JSON on stdout.
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
from collections.abc import Callable
from importlib.metadata import version

warnings.filterwarnings("ignore")

import handwritten  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from qiskit import QuantumCircuit  # noqa: E402

from qiskit_kd import CircuitModel, ClassGroups, QuantumLayer, circuits  # noqa: E402

QUBITS, CLASSES = 6, 3
Step = Callable[[], object]


def ansatze() -> dict[str, QuantumCircuit]:
    return {
        "hardware_efficient_74": circuits.hardware_efficient(QUBITS, 4, final_ry=True),
        "real_amplitudes_60": circuits.real_amplitudes(QUBITS, 9),
        "crz_74": handwritten.circuit(),
    }


def gates(circuit: QuantumCircuit) -> list[tuple[str, int | None, list[int]]]:
    """(name, index of its weight, qubits); the peers are built from the very same list."""
    column = {p: k for k, p in enumerate(circuit.parameters)}
    out = []
    for item in circuit.data:
        angle = item.operation.params[0] if item.operation.params else None
        weight = None if angle is None else column[next(iter(angle.parameters))]
        out.append((item.operation.name, weight, [circuit.find_bit(q).index for q in item.qubits]))
    return out


class Ours:
    def __init__(self, circuit: QuantumCircuit, weights: np.ndarray, dtype: torch.dtype) -> None:
        self.dtype = dtype
        model = CircuitModel(circuits.amplitude(QUBITS), circuit, ClassGroups(CLASSES, QUBITS))
        self.layer = QuantumLayer(model, dtype=dtype)
        with torch.no_grad():
            self.layer.weight.copy_(torch.from_numpy(weights))

    def step(self, x: np.ndarray, r: np.ndarray) -> Step:
        xs, rs = torch.from_numpy(x).to(self.dtype), torch.from_numpy(r).to(self.dtype)
        weight = self.layer.weight

        def run() -> tuple[np.ndarray, np.ndarray]:
            weight.grad = None
            y = self.layer(xs)
            (y * rs).sum().backward()
            return y.detach().numpy(), weight.grad.numpy()

        return run


class ByHand:
    def __init__(self, weights: np.ndarray, dtype: torch.dtype) -> None:
        self.dtype = dtype
        kind = np.float32 if dtype == torch.float32 else np.float64
        self.net = handwritten.HandWritten(ClassGroups(CLASSES, QUBITS).matrix, kind)
        self.weight = torch.nn.Parameter(torch.from_numpy(weights.astype(kind)))

    def step(self, x: np.ndarray, r: np.ndarray) -> Step:
        xs, rs = torch.from_numpy(x).to(self.dtype), torch.from_numpy(r).to(self.dtype)

        def run() -> tuple[np.ndarray, np.ndarray]:
            self.weight.grad = None
            y = handwritten.Step.apply(self.weight, xs, self.net)
            (y * rs).sum().backward()
            return y.detach().numpy(), self.weight.grad.numpy()

        return run


class PennyLane:
    def __init__(self, circuit: QuantumCircuit, weights: np.ndarray) -> None:
        import pennylane as qml

        listing = gates(circuit)
        wires = [QUBITS - 1 - q for q in range(QUBITS)]  # wire 0 is the highest bit
        make = {"rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "crx": qml.CRX, "crz": qml.CRZ}

        @qml.qnode(qml.device("default.qubit", wires=QUBITS), interface="torch",
                   diff_method="backprop")  # fmt: skip
        def node(inputs, weights):
            qml.AmplitudeEmbedding(inputs, wires=range(QUBITS))
            for name, weight, qubits in listing:
                where = [wires[q] for q in qubits]
                if name == "cx":
                    qml.CNOT(wires=where)
                else:
                    make[name](weights[weight], wires=where)
            return qml.probs(wires=range(QUBITS))

        self.layer = qml.qnn.TorchLayer(node, {"weights": weights.shape})
        self.layer.weights.data = torch.from_numpy(weights.copy())
        self.groups = torch.from_numpy(ClassGroups(CLASSES, QUBITS).matrix)

    def step(self, x: np.ndarray, r: np.ndarray) -> Step:
        xs, rs = torch.from_numpy(x), torch.from_numpy(r)
        weight = self.layer.weights

        def run() -> tuple[np.ndarray, np.ndarray]:
            weight.grad = None
            y = self.layer(xs) @ self.groups
            (y * rs).sum().backward()
            return y.detach().numpy(), weight.grad.numpy()

        return run


class TensorCircuit:
    def __init__(self, circuit: QuantumCircuit, weights: np.ndarray, kind: str) -> None:
        import jax
        import jax.numpy as jnp
        import tensorcircuit as tc

        tc.set_backend("jax")
        tc.set_dtype(kind)
        self.jax, self.kind = jax, kind
        self.real = np.float32 if kind == "complex64" else np.float64
        self.weights = jnp.asarray(weights.astype(self.real))
        listing = gates(circuit)
        groups = jnp.asarray(ClassGroups(CLASSES, QUBITS).matrix.astype(self.real))

        def outputs(x, w):
            c = tc.Circuit(QUBITS, inputs=x.astype(kind))
            for name, weight, qubits in listing:
                where = [QUBITS - 1 - q for q in qubits]
                if name == "cx":
                    c.cnot(*where)
                else:
                    getattr(c, name)(*where, theta=w[weight])
            return (jnp.abs(c.state()) ** 2) @ groups

        batched = jax.vmap(outputs, in_axes=(0, None))

        def loss(w, x, r):
            y = batched(x, w)
            return (y * r).sum(), y

        self.function = jax.jit(jax.value_and_grad(loss, has_aux=True))
        self.compile_s: dict[int, float] = {}
        self.prepare = lambda: tc.set_dtype(kind)  # a global switch that decides what is compiled

    def step(self, x: np.ndarray, r: np.ndarray) -> Step:
        import jax.numpy as jnp

        xs, rs = jnp.asarray(x.astype(self.real)), jnp.asarray(r.astype(self.real))

        def run() -> tuple[np.ndarray, np.ndarray]:
            (_, y), slope = self.jax.block_until_ready(self.function(self.weights, xs, rs))
            return np.asarray(y), np.asarray(slope)

        start = time.perf_counter()
        run()
        self.compile_s[len(x)] = round(time.perf_counter() - start, 1)
        return run


class Stock:
    """SamplerQNN + TorchConnector on its default exact sampler, amplitudes by bound angles."""

    def __init__(self, circuit: QuantumCircuit, weights: np.ndarray) -> None:
        from qiskit_machine_learning.connectors import TorchConnector
        from qiskit_machine_learning.neural_networks import SamplerQNN

        encoding = circuits.amplitude(QUBITS)
        model = CircuitModel(encoding, circuit, ClassGroups(CLASSES, QUBITS))
        labels = model.readout.labels.tolist()
        network = SamplerQNN(
            circuit=model.circuit, input_params=list(model.inputs),
            weight_params=list(model.weights), interpret=lambda state: labels[state],
            output_shape=CLASSES,
        )  # fmt: skip
        self.layer, self.encoding = TorchConnector(network, weights), encoding

    def step(self, x: np.ndarray, r: np.ndarray) -> Step:
        angles = torch.from_numpy(self.encoding.angles(x))
        rs = torch.from_numpy(r)
        weight = self.layer.weight

        def run() -> tuple[np.ndarray, np.ndarray]:
            weight.grad = None
            y = self.layer(angles)
            (y * rs).sum().backward()
            return y.detach().numpy(), weight.grad.numpy()

        return run


def alternate(steps: dict[str, Step], prepare: dict[str, Step], seconds: float) -> dict[str, float]:
    """Median milliseconds of each step, the contenders taking turns so that drift hits all."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        prepare[name]()
        step()
        step()
    stop = time.perf_counter() + seconds * len(steps)
    while time.perf_counter() < stop:
        for name, step in steps.items():
            prepare[name]()
            turn = time.perf_counter() + seconds / 20
            while True:
                start = time.perf_counter()
                step()
                end = time.perf_counter()
                times[name].append(1e3 * (end - start))
                if end > turn:
                    break
    return {name: statistics.median(values) for name, values in times.items()}


def compare(
    name: str, step: Step, reference: Step, tolerance: tuple[float, float]
) -> dict[str, float]:
    """Largest differences of outputs and gradients; too large ones end the run."""
    pairs = zip(step(), reference(), strict=True)
    errors = [float(np.abs(a - b).max() / max(1.0, np.abs(b).max())) for a, b in pairs]
    if errors[0] > tolerance[0] or errors[1] > tolerance[1]:
        raise SystemExit(f"{name}: outputs or gradients differ by {errors}, limit {tolerance}")
    return {"outputs": errors[0], "gradient": errors[1]}


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def study(name: str, circuit: QuantumCircuit, options: argparse.Namespace) -> dict[str, object]:
    rng = np.random.default_rng(0)
    weights = rng.uniform(-np.pi, np.pi, circuit.num_parameters)
    singles = {
        "qiskit_kd float32": Ours(circuit, weights, torch.float32),
        "TensorCircuit-NG complex64": TensorCircuit(circuit, weights, "complex64"),
    }
    doubles = {
        "qiskit_kd float64": Ours(circuit, weights, torch.float64),
        "PennyLane float64": PennyLane(circuit, weights),
        "TensorCircuit-NG complex128": TensorCircuit(circuit, weights, "complex128"),
    }
    if name == "crz_74":
        singles["by hand float32"] = ByHand(weights, torch.float32)
        doubles["by hand float64"] = ByHand(weights, torch.float64)
    contenders = singles | doubles
    prepare = {k: getattr(v, "prepare", lambda: None) for k, v in contenders.items()}
    rows, stock_ms = [], None
    for batch in options.batches:
        x = rng.normal(size=(batch, 2**QUBITS))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        r = rng.random((batch, CLASSES))
        steps = {}
        for label, contender in contenders.items():
            prepare[label]()
            steps[label] = contender.step(x, r)
        reference, errors = steps["PennyLane float64"], {}
        for label, step in steps.items():
            loose = label.endswith(("float32", "complex64"))
            # Gradients are sums over the batch; single precision loses two digits there.
            prepare[label]()
            errors[label] = compare(
                label, step, reference, (2e-6, 2e-4) if loose else (1e-10, 1e-10)
            )
        ms = alternate(steps, prepare, options.seconds)
        if stock_ms is None and not options.no_stock:
            few = options.stock_samples
            stock = Stock(circuit, weights).step(x[:few], r[:few])
            check = doubles["PennyLane float64"].step(x[:few], r[:few])
            errors["stock TorchConnector"] = compare("stock", stock, check, (1e-5, 1e-5))
            start = time.perf_counter()
            stock()
            stock_ms = 1e3 * (time.perf_counter() - start) / few
        peers = {k: v for k, v in ms.items() if not k.startswith(("qiskit_kd", "by hand"))}
        row: dict[str, object] = {
            "ansatz": name, "batch": batch, "ms": ms, "errors": errors,
            "ratio_float32": ms["TensorCircuit-NG complex64"] / ms["qiskit_kd float32"],
            "ratio_float64": min(peers["PennyLane float64"], peers["TensorCircuit-NG complex128"])
            / ms["qiskit_kd float64"],
            "ratio_pennylane": peers["PennyLane float64"] / ms["qiskit_kd float64"],
        }  # fmt: skip
        for kind in ("float32", "float64"):
            if f"by hand {kind}" in ms:
                row[f"slower_than_by_hand_{kind}"] = ms[f"qiskit_kd {kind}"] / ms[f"by hand {kind}"]
        if stock_ms is not None:
            row["stock_ms_extrapolated"] = stock_ms * batch
            row["ratio_stock"] = stock_ms * batch / ms["qiskit_kd float64"]
        rows.append(row)
        say(f"{name} batch {batch}: " + ", ".join(f"{k} {v:.2f} ms" for k, v in ms.items()))
        say(
            "  "
            + ", ".join(
                f"{k} {v:,.2f}" for k, v in row.items() if k.startswith(("ratio", "slower"))
            )
        )
    compile_s = {
        k: v.compile_s for k, v in (singles | doubles).items() if isinstance(v, TensorCircuit)
    }
    return {"rows": rows, "compile_s": compile_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 1024, 4096])
    parser.add_argument("--ansatz", choices=sorted(ansatze()), nargs="+", default=sorted(ansatze()))
    parser.add_argument("--seconds", type=float, default=2.0, help="per contender and batch")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--stock-samples", type=int, default=1)
    parser.add_argument("--no-stock", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    chosen = {k: v for k, v in ansatze().items() if k in options.ansatz}
    packages = ("qiskit", "qiskit-machine-learning", "pennylane", "tensorcircuit-ng", "jax",
                "torch", "numpy")  # fmt: skip
    result = {
        "what": "median milliseconds of forward + backward; ratio = fastest peer of the same "
        "precision / qiskit_kd",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(),
                    "torch_threads": options.threads},
        "versions": {p: version(p) for p in packages},
        "studies": {name: study(name, circuit, options) for name, circuit in chosen.items()},
    }  # fmt: skip
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
