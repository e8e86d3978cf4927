# SPDX-License-Identifier: Apache-2.0
"""What a trained network is judged by: test metrics, robustness, other backends, feature maps.

Called once per row, after training; nothing chooses by the test set. Disturbed test samples are
made once per process and are the same for every network. Raw readings beside mitigated ones are of
the same shots: a second run would be a second bill.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.data import Dataset, Split
from qiskit_kd.distill.metrics import kl, metrics
from qiskit_kd.distill.outputs import FeatureCapture
from qiskit_kd.errors import ConfigError
from qiskit_kd.execution.engine import Array, Engine, Needs, Pullback
from qiskit_kd.execution.sampled import SampledEngine
from qiskit_kd.experiment.schema import registry
from qiskit_kd.nn.layer import CircuitLayer
from qiskit_kd.nn.modules import FullyQuantumStudent, describe
from qiskit_kd.nn.quanvolution import Quanvolution
from qiskit_kd.nn.shots import shots_needed

_VALIDATION = ("accuracy", "macro_f1", "nll")
_TEST = (*_VALIDATION, "ece")
_CHUNK = 1000  # samples per forward pass: patches of ten thousand images would fill gigabytes
_SEED = 0  # of the disturbances: the same for every row
_DIGITS = 4
_Numbers = NDArray[np.float64]


def _no_jury(entry: Mapping[str, Any], shots: int | None) -> nn.Module:
    del entry, shots
    raise ConfigError(
        "other backends and shots need to know how a network is moved",
        got="no jury",
        expected="Jury(...)",
    )


@dataclass(frozen=True)
class Jury:
    """What a network is judged with, beside its data."""

    home: Mapping[str, Any]
    """Entry of the backend that it is judged on."""
    moved: Callable[[Mapping[str, Any], int | None], nn.Module]
    """From the entry of a backend and a number of shots (None: the backend's own) to the same
    network there."""
    teacher: nn.Module | None = None
    """With one, KL(teacher || student) is one of the metrics."""

    def merit(
        self, logits: _Numbers, data: Dataset, names: Sequence[str] = _VALIDATION
    ) -> dict[str, float]:
        """Metrics of logits."""
        every = metrics(logits, data.labels)
        found = {name: every[name] for name in names}
        if self.teacher is not None:
            found["kl"] = kl(_logits(self.teacher, data), logits)
        return found


def judged(
    network: nn.Module,
    split: Split,
    asked: Mapping[str, Any],
    jury: Jury = Jury({}, _no_jury),
) -> dict[str, Any]:
    """The parts of a row that say how good a network is.

    Args:
        network: Trained.
        split: Its data.
        asked: The `evaluation` of a task's spec.
        jury: What it is judged with; it may be left out where only robustness and feature maps are
            asked for.
    """
    if asked.get("backend"):
        network = jury.moved(asked["backend"], None)
    parts = {"validation": split.validation, "test": split.test}
    # Where the backend undoes readout errors, also of the same shots with the errors left in.
    logits, raw = both_readings(network, lambda: {p: _logits(network, d) for p, d in parts.items()})
    test, z = split.test, logits["test"]
    shares = _distribution(network, z)
    facts = describe(network)
    found: dict[str, Any] = {
        "validation": jury.merit(logits["validation"], split.validation),
        "test": jury.merit(z, test, _TEST),
        "distribution": [
            shares[test.labels == k].mean(axis=0).tolist() if (test.labels == k).any() else None
            for k in range(test.num_classes)
        ],
        "correct": _correct(split, z),
        "extra": {"sharpness": facts["sharpness"]} if "sharpness" in facts else {},
    }
    if isinstance(network, FullyQuantumStudent):
        found["extra"]["shots_needed"] = shots_needed(network, split.validation.features)
    if asked.get("robustness"):
        found["robustness"] = robustness(network, test, asked["robustness"])
    if asked.get("feature_maps"):
        maps = feature_maps(network, test, **asked["feature_maps"])
        found |= {} if maps is None else {"feature_maps": maps}
    if raw is not None:
        found["raw"] = {part: jury.merit(raw[part], data) for part, data in parts.items()}
    # What its circuits became on the device they run on; none without a device.
    compiled = (layer.engine.compiled(layer.model) for layer in _layers(network))
    if circuits := [asdict(facts) for facts in compiled if facts is not None]:
        found["circuits"] = circuits
    if asked.get("shots"):  # each number with shots of its own
        found["shots"] = [
            {"shots": n, **jury.merit(_logits(jury.moved(jury.home, n), test), test)}
            for n in asked["shots"]
        ]
    if asked.get("side_by_side"):
        found["backends"] = _side_by_side(network, z, test, jury, **asked["side_by_side"])
    return found


def _correct(split: Split, logits: _Numbers) -> dict[str, Any]:
    """Which test samples a network got right, for `statistics.shared_variance`.

    Returns:
        `source`, equal where two rows number the same samples; their number `of`; `tested` and
        `right`, one bit for each in hexadecimal; and the share of the samples that it trained on.
    """
    rows, drawn = split.test_rows, split.drawn_from
    own = rows is None or drawn is None
    size = len(logits) if own else drawn
    bits = np.zeros((2, size or 0), dtype=bool)
    places = np.arange(len(logits)) if own else rows
    bits[0, places] = True
    bits[1, places] = logits.argmax(axis=1) == split.test.labels
    return {
        "source": split.test.fingerprint[:16] if own else split.test.name,
        "of": size,
        "tested": np.packbits(bits[0]).tobytes().hex(),
        "right": np.packbits(bits[1]).tobytes().hex(),
        "trained": len(split.train) / drawn if drawn else 0.0,
    }


def _side_by_side(
    network: nn.Module,
    judged: _Numbers,
    test: Dataset,
    jury: Jury,
    *,
    backends: Sequence[Mapping[str, Any]],
    samples: int | None = None,
) -> list[dict[str, Any]]:
    """A network where it was judged, with these logits, and on other backends.

    `distance` is the mean total variation distance of its class distributions from those it was
    judged by.
    """
    if samples is not None:
        rows = _one_per_class(test.labels, samples)
        judged, (features, labels) = judged[rows], (test.features[rows], test.labels[rows])
        test = Dataset(features, labels, test.num_classes, test.name, test.shape)
    here = _distribution(network, judged)
    found = []
    for entry in backends:
        home = entry == jury.home  # no second bill, and no other shots
        other = network if home else jury.moved(entry, None)
        z = judged if home else _logits(other, test)
        apart = np.abs(_distribution(other, z) - here).sum(axis=1).mean() / 2
        # Shots may be the network's own and not the backend's.
        shots = next((layer.engine.shots for layer in _layers(other)), None)
        facts = {"backend": entry["name"], "kind": entry["kind"], "shots": shots}
        facts |= {"samples": len(test), "distance": float(apart)}
        found.append({**facts, **jury.merit(z, test)})
    return found


def _layers(network: nn.Module) -> list[CircuitLayer]:
    return [part for part in network.modules() if isinstance(part, CircuitLayer)]


def robustness(
    network: nn.Module, test: Dataset, asked: Mapping[str, list[float]]
) -> list[dict[str, Any]]:
    """Test metrics on disturbed samples, one entry per kind and level."""
    dtype = next(network.parameters()).dtype
    found = []
    for kind, level in ((kind, level) for kind, levels in asked.items() for level in levels):
        samples = perturbed(test, kind, float(level), dtype)
        merits = metrics(_forward(network, torch.split(samples, _CHUNK)), test.labels)
        found.append({"kind": kind, "level": level, **{n: merits[n] for n in _VALIDATION}})
    return found


@lru_cache(maxsize=16)
def perturbed(test: Dataset, kind: str, level: float, dtype: torch.dtype) -> Tensor:
    """Disturbed samples of a test set, by identity: data sets of images are one object per process.

    Raises:
        DataError: If the data cannot be disturbed in that way.
    """
    features = registry("perturbation")[kind](test.features, level, shape=test.shape, seed=_SEED)
    return torch.from_numpy(features).to(dtype)


def feature_maps(
    network: nn.Module, test: Dataset, *, layer: str, images: int
) -> dict[str, Any] | None:
    """Maps of the first test images, one per class in turn; None without that layer.

    Returns:
        `layer`; `rows` of the test set; `images` `(n, channels, height, width)` and `maps`
        `(n, channels, height, width)` as nested lists, rounded.
    """
    if layer not in dict(network.named_modules(remove_duplicate=False)):
        return None
    rows = _one_per_class(test.labels, images)
    samples = np.array(test.features[rows])
    with FeatureCapture(network, [layer]) as capture:
        _forward(network, [torch.from_numpy(samples).to(next(network.parameters()).dtype)])
        maps = capture[layer].double().numpy()
    pictures = samples.reshape(-1, *(test.shape or samples.shape[1:]))
    return {
        "layer": layer,
        "rows": rows.tolist(),
        "images": np.round(pictures, _DIGITS).tolist(),
        "maps": np.round(maps, _DIGITS).tolist(),
    }


def _one_per_class(labels: NDArray[np.int64], count: int) -> NDArray[np.intp]:
    """Rows of the first sample of each class, then of the second ones, and so on."""
    turn = np.empty(len(labels), dtype=np.intp)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        turn[mine] = np.arange(len(mine))
    return np.lexsort((labels, turn))[:count]


def _logits(network: nn.Module, data: Dataset) -> _Numbers:
    dtype, starts = next(network.parameters()).dtype, range(0, len(data), _CHUNK)
    parts = (np.array(data.features[start : start + _CHUNK]) for start in starts)
    return _forward(network, (torch.from_numpy(part).to(dtype) for part in parts))


def _forward(network: nn.Module, batches: Iterable[Tensor]) -> _Numbers:
    network.eval()
    with torch.no_grad():
        return np.asarray(torch.cat([network(batch) for batch in batches]).double().numpy())


def _distribution(network: nn.Module, logits: _Numbers) -> _Numbers:
    """Class probabilities; of a fully quantum student those of the circuit, not sharpened."""
    if isinstance(network, FullyQuantumStudent):
        logits = logits / network.sharpness
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def both_readings(network: nn.Module, run: Callable[[], Any]) -> tuple[Any, Any]:
    """What `run` returns, and what it returns when it is given raw readings.

    It runs the network without gradients, the second time on readings of the first; the second is
    None if no layer's engine undoes readout errors.
    """
    found = {
        layer: _Replayed(layer.engine)
        for layer in _layers(network)
        if isinstance(layer.engine, SampledEngine) and layer.engine.mitigated
    }
    if not found:
        return run(), None
    with ExitStack() as stack:
        for layer, replayed in found.items():
            if isinstance(layer, Quanvolution):  # maps from memory have no raw ones beside them
                stack.enter_context(layer.without_memory())
            stack.callback(setattr, layer, "engine", layer.engine)
            layer.engine = replayed
        mitigated = run()
        for layer, replayed in found.items():  # another engine: what a layer remembers is its own
            layer.engine = copy.copy(replayed)
            layer.engine.plays = True
        return mitigated, run()


class _Replayed(Engine):
    """Remembers the raw outputs that came with mitigated ones, and gives them back call by call."""

    def __init__(self, engine: SampledEngine) -> None:
        self.name, self.usage, self.shots = engine.name, engine.usage, engine.shots
        self.plays = False
        self._engine = engine
        self._raw: deque[Array] = deque()

    def outputs(self, model: CircuitModel, features: Array, weights: Array) -> Array:
        """See `Engine.outputs`."""
        if self.plays:
            return self._raw.popleft()
        mitigated, raw = self._engine.outputs_with_raw(model, features, weights)
        self._raw.append(raw)
        return mitigated

    def vjp(
        self, model: CircuitModel, features: Array, weights: Array, needs: Needs
    ) -> tuple[Array, Pullback]:
        """See `Engine.vjp`; no gradient is asked for here."""
        del needs
        return self.outputs(model, features, weights), lambda _: (None, None)
