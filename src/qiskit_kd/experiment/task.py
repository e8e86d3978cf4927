# SPDX-License-Identifier: Apache-2.0
"""`run_task`: from a task's spec to its row, a pure function of the spec.

Seeds are paired here: split, initial weights and batches come from the root seed by name, and no
name mentions the variant. The test set is evaluated once, after training; nothing chooses by it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import nn

from qiskit_kd.data import Dataset, Split, datasets
from qiskit_kd.distill.distiller import Distiller
from qiskit_kd.distill.metrics import metrics
from qiskit_kd.distill.placebos import shuffled, uniform
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.experiment.store import canonical
from qiskit_kd.nn.students import FullyQuantumStudent, describe, num_parameters, students
from qiskit_kd.seeding import derive

__all__ = ["build_network", "run_task"]

_VALIDATION = ("accuracy", "macro_f1", "nll")
_TEST = (*_VALIDATION, "ece")


def run_task(
    spec: Mapping[str, Any],
    *,
    teacher: str | None = None,
    scratch: str | None = None,
    checkpoint_epochs: int | None = None,
) -> tuple[dict[str, Any], bytes | None]:
    """Train one network.

    Args:
        spec: A task's spec, as `plan` makes it.
        teacher: File with the weights of the teacher's network, for specs that name its key.
        scratch: Folder for checkpoints of a long task; removed at the end.
        checkpoint_epochs: Leave a checkpoint there each so many epochs; None never.

    Returns:
        The row without its key, and the weights as safetensors if the task is a teacher's.

    Raises:
        QiskitKDError: As the parts that the spec names.
    """
    with _one_thread():
        split = _split(spec)
        network = _network(spec, split)
        train = split.pool if spec.get("sees") == "all" else split.train
        taught = spec["teacher"] != "none" and len(split.transfer) > 0
        transfer = split.transfer if taught else None
        distiller = Distiller(
            network,
            [Term(t["loss"], t["weight"], t["name"], t["options"]) for t in spec["terms"]],
            teacher=_teacher(spec, split, teacher),
            seed=derive(spec["seed"], "training"),
            metric=spec["metric"],
            checkpoint_dir=scratch if checkpoint_epochs else None,
            checkpoint_epochs=checkpoint_epochs or 1,
            **_settings(spec["training"], len(train) + (len(split.transfer) if taught else 0)),
        )
        history = distiller.fit(train, split.validation, transfer=transfer)
        row = {
            "experiment": spec["experiment"], "student": spec["student"],
            "variant": spec["variant"], "seed": spec["seed"],
            "parameters": num_parameters(network),
            "options": {**_choices(network), "temperature": spec["temperature"]},
            **_judged(network, split),
            "curves": _curves(history),
        }  # fmt: skip
        weights = None
        if spec["role"] == "teacher":
            weights = save_weights(
                {name: value.contiguous() for name, value in network.state_dict().items()}
            )
            row["extra"]["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    return row, weights


def _settings(training: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """Options of the loop, the number of steps turned into a batch size."""
    settings = {key: value for key, value in training.items() if key != "dtype"}
    steps = settings.pop("steps_per_epoch")
    if steps is not None:
        settings["batch_size"] = -(-samples // steps)
    return settings


@contextmanager
def _one_thread() -> Iterator[None]:
    """One torch thread: sums keep their order, and workers do not fight for cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _split(spec: Mapping[str, Any]) -> Split:
    data = spec["data"]
    options = canonical(data["options"])
    return _cached_split(data["kind"], options, data["seed"], data["fingerprint"])


@lru_cache(maxsize=4)
def _cached_split(kind: str, options: str, seed: int, fingerprint: str) -> Split:
    split: Split = datasets[kind](seed=seed, **json.loads(options))
    if split.fingerprint != fingerprint:
        raise DataError(
            f"the data set {kind!r} changed since the study was planned",
            got=f"fingerprint {split.fingerprint[:12]}", expected=fingerprint[:12],
            remedy="Run again: tasks of the changed data get rows of their own.",
        )  # fmt: skip
    return split


def _network(spec: Mapping[str, Any], split: Split) -> nn.Module:
    return build_network(
        spec["kind"], spec["options"], split, seed=derive(spec["seed"], "weights"),
        backend=spec["backend"]["name"], dtype=spec["training"]["dtype"],
    )  # fmt: skip


def build_network(
    kind: str, options: Mapping[str, Any], split: Split, *, seed: int, backend: str, dtype: str
) -> nn.Module:
    """The registered network for the data of `split`."""
    builder = students[kind]
    if "dtype" in inspect.signature(builder).parameters:
        options = {**options, "dtype": dtype}
    network: nn.Module = builder(
        split.num_features, split.num_classes, seed=seed, backend=backend, **options
    )
    return network.to(getattr(torch, dtype))


def _teacher(spec: Mapping[str, Any], split: Split, file: str | None) -> Teacher | None:
    if spec["teacher"] == "none":
        return None
    if spec["teacher"] == "uniform":
        return uniform(split.num_classes)
    taught = spec["taught_by"]
    network = _network(taught, split)
    assert file is not None
    try:
        network.load_state_dict(load_weights(Path(file).read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StorageError(
            "the teacher's weights cannot be read", got=f"{file}: {error}",
            expected="the safetensors file its task wrote",
            remedy="Delete the file and run again: the teacher is trained again.",
        ) from error  # fmt: skip
    teacher = Teacher.from_module(network)
    if spec["teacher"] == "shuffled":
        return shuffled(teacher, derive(spec["seed"], "placebo"))
    return teacher


def _judged(network: nn.Module, split: Split) -> dict[str, Any]:
    logits = {part: _logits(network, getattr(split, part)) for part in ("validation", "test")}
    merits = {part: metrics(z, getattr(split, part).labels) for part, z in logits.items()}
    test = split.test
    shares = _distribution(network, logits["test"])
    grouped = [
        shares[test.labels == label].mean(axis=0).tolist() if (test.labels == label).any() else None
        for label in range(test.num_classes)
    ]
    facts = describe(network)
    return {
        "validation": {name: merits["validation"][name] for name in _VALIDATION},
        "test": {name: merits["test"][name] for name in _TEST},
        "distribution": grouped,
        "extra": {"sharpness": facts["sharpness"]} if "sharpness" in facts else {},
    }


def _choices(network: nn.Module) -> dict[str, Any]:
    """What was chosen about a network, without what it learned."""
    facts = describe(network)
    return {key: facts[key] for key in facts if key not in ("parameters", "sharpness")}


def _logits(network: nn.Module, data: Dataset) -> NDArray[np.float64]:
    dtype = next(network.parameters()).dtype
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(np.array(data.features)).to(dtype))
    return np.asarray(logits.double().numpy())


def _distribution(network: nn.Module, logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class probabilities; of a fully quantum student those of the circuit, not sharpened."""
    if isinstance(network, FullyQuantumStudent):
        logits = logits / network.sharpness
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _curves(history: Any) -> dict[str, list[float]]:
    return {name: list(map(float, values)) for name, values in history.curves.items()}
