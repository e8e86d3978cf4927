# SPDX-License-Identifier: Apache-2.0
"""An epoch of training a quanvolution, beside its peers and the classical convolution, in one run.

The network: 3 filters of 2x2 pixels with stride 2 on images of 28x28, ReLU, Linear(588, 10); cross
entropy, Adam, shuffled batches. A filter of the quanvolution encodes a patch by RY(pi * pixel) on 4
qubits, runs RZ, RX and a CRX chain (11 weights) and reads Z of the last qubit. The classical
network has Conv2d(1, 3, 2, 2) in its place. Peers, on the same circuit and weights: PennyLane
`TorchLayer` (default.qubit, backprop, all patches of a batch as one parameter broadcast), and
Qiskit's own `EstimatorQNN` + `TorchConnector`. Outputs and gradients are compared before anything
is timed, with PennyLane's in both precisions (the stock connector computes in single precision).

Ours and the classical network are timed over whole epochs, taking turns. A batch takes PennyLane
most of a second and a patch takes EstimatorQNN tens of milliseconds: `--peer-batches` batches and
`--stock-patches` patches are timed and their epochs extrapolated, which the output says. Pixels are
random; no contender's time depends on their values.

Run: `make bench`, or `python benchmarks/quanvolution.py [--threads 1 2] [--epochs 5] [--no-stock]`.
Prints a table on stderr and JSON on stdout.
"""

from __future__ import annotations

import argparse
import copy
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

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from qiskit_kd.nn import students  # noqa: E402

SIDE, CLASSES, FILTERS = 28, 10, 3
PATCHES = (SIDE // 2) ** 2
TURN = 20  # batches, so that drift of the machine hits both networks
Train = Callable[[Tensor, Tensor], None]


def network(name: str, dtype: torch.dtype) -> nn.Module:
    build = students.get(name)
    return build(SIDE * SIDE, CLASSES, seed=0, shape=(1, SIDE, SIDE), dtype=dtype)


def with_filters(ours: nn.Module, filters: nn.Module) -> nn.Module:
    """A copy of our network with somebody else's first layer."""
    layers = {name: copy.deepcopy(part) for name, part in ours.named_children()}
    return nn.Sequential(*({**layers, "filters": filters}).values())


def patches_of(images: Tensor) -> Tensor:
    """`(batch, 1, 28, 28)` to `(batch * 196, 4)`."""
    return nn.functional.unfold(images, 2, stride=2).transpose(1, 2).reshape(-1, 4)


class PennyLane(nn.Module):
    """One `TorchLayer` a filter."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        import pennylane as qml

        @qml.qnode(qml.device("default.qubit", wires=4), interface="torch", diff_method="backprop")
        def node(inputs, weights):  # qubit q of ours is wire q
            for q in range(4):
                qml.RY(np.pi * inputs[..., q], wires=q)
            for q in range(4):
                qml.RZ(weights[q], wires=q)
            for q in range(4):
                qml.RX(weights[4 + q], wires=q)
            for q in range(3):
                qml.CRX(weights[8 + q], wires=[q, q + 1])
            return qml.expval(qml.PauliZ(3))

        self.layers = nn.ModuleList()
        for row in weights:
            layer = qml.qnn.TorchLayer(node, {"weights": (11,)})
            layer.weights.data = row.detach().clone()
            self.layers.append(layer)

    def forward(self, images: Tensor) -> Tensor:
        patches = patches_of(images)
        maps = torch.stack([layer(patches).reshape(len(images), 14, 14) for layer in self.layers])
        return maps.transpose(0, 1).to(images.dtype)

    def gradient(self) -> Tensor:
        return torch.stack([layer.weights.grad for layer in self.layers])


def stock(model, weights: Tensor) -> nn.Module:
    """`EstimatorQNN` + `TorchConnector` of one filter, on the default exact estimator."""
    from qiskit_machine_learning.connectors import TorchConnector
    from qiskit_machine_learning.neural_networks import EstimatorQNN

    qnn = EstimatorQNN(
        circuit=model.circuit, observables=list(model.readout.operators),
        input_params=list(model.inputs), weight_params=list(model.weights),
    )  # fmt: skip
    return TorchConnector(qnn, weights.detach().double().numpy())


def trainer(net: nn.Module) -> Train:
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def train(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()

    return train


def epochs(
    trains: dict[str, Train], x: Tensor, y: Tensor, batch: int, seed: int
) -> dict[str, float]:
    """Seconds of one pass of each over all rows in shuffled batches, in turns of a few batches."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).split(batch)
    seconds = dict.fromkeys(trains, 0.0)
    for k in range(0, len(order), TURN):
        for name, train in trains.items():
            start = time.perf_counter()
            for rows in order[k : k + TURN]:
                train(x[rows], y[rows])
            seconds[name] += time.perf_counter() - start
    return seconds


def largest(a: Tensor, b: Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).abs().max())


def compare(dtype: torch.dtype, stock_patches: int) -> dict[str, float]:
    """Largest differences to the peers; too large ones end the run."""
    rng = torch.Generator().manual_seed(3)
    x = torch.rand(4, SIDE * SIDE, generator=rng, dtype=torch.float64)
    y = torch.randint(CLASSES, (4,), generator=rng)
    ours = network("quanvolution", torch.float64)
    peer = with_filters(ours, PennyLane(ours.filters.weight))
    ours = ours.to(dtype)
    with torch.no_grad():  # the weights as they were rounded
        for layer, row in zip(peer[1].layers, ours.filters.weight, strict=True):
            layer.weights.copy_(row)
        for a, b in zip(peer[-1].parameters(), ours.head.parameters(), strict=True):
            a.copy_(b)
    x = x.to(dtype)
    outputs = [ours(x), peer(x.double())]
    for values in outputs:
        nn.functional.cross_entropy(values, y).backward()
    errors = {
        "PennyLane outputs": largest(*outputs),
        "PennyLane gradient": largest(ours.filters.weight.grad, peer[1].gradient()),
    }
    if stock_patches:
        few = patches_of(x[:1].reshape(1, 1, SIDE, SIDE))[:stock_patches]
        layer = stock(ours.filters.model, ours.filters.weight[0])
        theirs = layer(np.pi * few.double())
        theirs.sum().backward()
        maps = ours.filters(x[:1].reshape(1, 1, SIDE, SIDE))[0, 0].flatten()[:stock_patches]
        (slope,) = torch.autograd.grad(maps.sum(), ours.filters.weight)
        errors["stock outputs"] = largest(maps, theirs[:, 0])
        errors["stock gradient"] = largest(slope[0], layer.weight.grad)
    limit = 1e-10 if dtype == torch.float64 else 1e-6
    for name, error in errors.items():
        allowed = 1e-5 if name.startswith("stock") else limit
        if not error <= allowed:
            raise SystemExit(f"{dtype}: {name} differ by {error:.1e}, limit {allowed:.0e}")
    return errors


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def time_ours(x: Tensor, y: Tensor, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median seconds an epoch, by threads and network; the two take turns."""
    names = ("quanvolution", "convolution")
    seconds: dict[str, dict[str, float]] = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        trains = {name: trainer(network(name, torch.float32)) for name in names}
        epochs(trains, x[: TURN * options.batch], y, options.batch, 0)
        times = [epochs(trains, x, y, options.batch, turn) for turn in range(options.epochs)]
        seconds[str(threads)] = {name: statistics.median(t[name] for t in times) for name in names}
        say(f"{threads} threads: " + ", ".join(
            f"{name} {value:.2f} s" for name, value in seconds[str(threads)].items()
        ))  # fmt: skip
    return seconds


def time_pennylane(x: Tensor, y: Tensor, options: argparse.Namespace) -> dict[str, float]:
    """Extrapolated seconds an epoch, by threads."""
    result = {}
    for threads in options.threads:
        torch.set_num_threads(threads)
        ours = network("quanvolution", torch.float32)
        train = trainer(with_filters(ours, PennyLane(ours.filters.weight)))
        rows = slice(0, options.batch)
        train(x[rows], y[rows])
        times = []
        for _ in range(options.peer_batches):
            start = time.perf_counter()
            train(x[rows], y[rows])
            times.append(time.perf_counter() - start)
        result[str(threads)] = statistics.median(times) * len(x) / options.batch
        say(f"{threads} threads: PennyLane {result[str(threads)]:.0f} s, extrapolated")
    return result


def time_stock(x: Tensor, options: argparse.Namespace) -> float:
    """Extrapolated seconds an epoch: one filter's forward and backward pass of a few patches."""
    layer = network("quanvolution", torch.float32).filters
    connected = stock(layer.model, layer.weight[0])
    few = np.pi * patches_of(x[:1].reshape(1, 1, SIDE, SIDE))[: options.stock_patches].double()
    connected(few[:1]).sum().backward()
    start = time.perf_counter()
    connected(few).sum().backward()
    each = (time.perf_counter() - start) / len(few)
    return each * len(x) * PATCHES * FILTERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60_000, help="of an epoch")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=5, help="timed, of ours and the convolution")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch, in turn")
    parser.add_argument("--peer-batches", type=int, default=3, help="timed of PennyLane")
    parser.add_argument("--stock-patches", type=int, default=8)
    parser.add_argument("--no-stock", action="store_true")
    options = parser.parse_args()
    patches = 0 if options.no_stock else options.stock_patches
    errors = {
        "float64": compare(torch.float64, patches), "float32": compare(torch.float32, 0)
    }  # fmt: skip
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(options.images, SIDE * SIDE, generator=rng)
    y = torch.randint(CLASSES, (options.images,), generator=rng)
    ours = time_ours(x, y, options)
    pennylane = time_pennylane(x, y, options)
    best = {
        "qiskit_kd quanvolution": min(t["quanvolution"] for t in ours.values()),
        "classical convolution": min(t["convolution"] for t in ours.values()),
        "PennyLane TorchLayer, extrapolated": min(pennylane.values()),
    }
    if not options.no_stock:
        best["stock EstimatorQNN + TorchConnector, extrapolated"] = time_stock(x, options)
    mine = best["qiskit_kd quanvolution"]
    ratios: dict[str, float] = {
        "times the classical convolution": mine / best["classical convolution"],
        "PennyLane / qiskit_kd": best["PennyLane TorchLayer, extrapolated"] / mine,
    }
    for threads, times in ours.items():
        ratios[f"times the classical convolution, {threads} threads"] = (
            times["quanvolution"] / times["convolution"]
        )
        ratios[f"PennyLane / qiskit_kd, {threads} threads"] = (
            pennylane[threads] / times["quanvolution"]
        )
    if not options.no_stock:
        ratios["stock / qiskit_kd"] = list(best.values())[-1] / mine
    say(f"\nseconds an epoch of {options.images:,} images, batch {options.batch}, best threads")
    for name, value in best.items():
        say(f"  {name:<52} {value:>14,.2f}")
    for name, value in ratios.items():
        say(f"  {name:<52} {value:>14,.2f}")
    packages = ("qiskit", "qiskit-machine-learning", "pennylane", "torch", "numpy")
    result = {
        "what": "seconds of one training epoch, float32; of ours and the convolution the median "
        f"of {options.epochs} epochs, of PennyLane {options.peer_batches} batches and of the stock "
        f"layer {options.stock_patches} patches extrapolated to an epoch",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine()},
        "versions": {p: version(p) for p in packages},
        "images": options.images, "batch": options.batch, "errors": errors,
        "seconds_by_threads": ours, "pennylane_seconds_by_threads": pennylane,
        "seconds": best, "ratios": ratios,
    }  # fmt: skip
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
