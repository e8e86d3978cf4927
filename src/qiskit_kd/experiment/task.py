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
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import nn

from qiskit_kd.circuits import DeadWeightsWarning
from qiskit_kd.data import Dataset, Split, datasets
from qiskit_kd.distill.distiller import Distiller
from qiskit_kd.distill.placebos import shuffled, uniform
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import DataError, StorageError
from qiskit_kd.execution.backends import Backend
from qiskit_kd.execution.engine import Array
from qiskit_kd.execution.torch_use import one_thread
from qiskit_kd.experiment.devices import Opened, UsageLog, open_backend
from qiskit_kd.experiment.evaluation import Jury, judged
from qiskit_kd.experiment.store import canonical
from qiskit_kd.nn.modules import describe, num_parameters
from qiskit_kd.nn.shots import FewShotsWarning
from qiskit_kd.nn.students import students
from qiskit_kd.seeding import derive


def run_task(
    spec: Mapping[str, Any],
    *,
    teachers: Mapping[str, str] | None = None,
    scratch: str | None = None,
    checkpoint_epochs: int | None = None,
    journal: str | None = None,
    opened: Opened | None = None,
) -> tuple[dict[str, Any], bytes]:
    """Train one network.

    Args:
        spec: A task's spec, as `plan` makes it.
        teachers: Files with the weights of its teachers' networks, by the keys it names.
        scratch: Folder for checkpoints of a long task; removed at the end.
        checkpoint_epochs: Leave a checkpoint there each so many epochs; None never.
        journal: The study's journal of jobs on devices; None leaves it to the backends' entries.
        opened: From the entry of a backend to the backend; None for a `UsageLog`.

    Returns:
        The row without its key, and the weights of its best epoch as safetensors.

    Raises:
        QiskitKDError: As the parts that the spec names.
    """
    log = UsageLog(journal)
    opened = opened or log
    with one_thread(), warnings.catch_warnings():
        # The row counts both, and the report says them; the study has warned before it started.
        warnings.simplefilter("ignore", FewShotsWarning)
        warnings.simplefilter("ignore", DeadWeightsWarning)
        split = split_of(spec)
        network = _network(spec, split, opened)
        taught = sources(
            spec,
            split,
            lambda name, trained: _teacher(
                spec, split, name, (teachers or {}) if trained else None
            ),
        )
        checkpoints: dict[str, Any] = {}
        if checkpoint_epochs and scratch is not None:
            checkpoints = {"checkpoint_dir": scratch, "checkpoint_epochs": checkpoint_epochs}
        stages = _train(spec, network, split, taught, spec["training"], "training", **checkpoints)
        if spec.get("fine_tune"):
            stage, name = spec["fine_tune"], "fine tuning"
            network = moved(spec, network, split, stage["backend"], opened=opened, name=name)
            stages["fine_tuning"] = _train(
                spec, network, split, taught, stage["training"], name, keep_start=True
            )
        chosen = {
            k: v for k, v in describe(network).items() if k not in ("parameters", "sharpness")
        }
        jury = _jury(spec, network, split, teachers or {}, opened)
        row = {
            **{name: spec[name] for name in ("experiment", "student", "variant", "seed")},
            "parameters": num_parameters(network),
            "options": {**chosen, "temperature": None, **spec["candidate"]},
            **judged(network, split, spec["evaluation"], jury),
            **stages,
        }
        if devices := log.devices():
            row["devices"] = devices
        weights = save_weights(
            {name: value.contiguous() for name, value in network.state_dict().items()}
        )
        if spec["role"] == "teacher":
            row["extra"]["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    return row, weights


def _train(
    spec: Mapping[str, Any],
    network: nn.Module,
    split: Split,
    taught: Mapping[str, Teacher],
    training: Mapping[str, Any],
    name: str,
    **more: Any,
) -> dict[str, Any]:
    """Train a network as a spec says, with random numbers of this name; what a row says of it."""
    distiller = Distiller(
        network,
        terms(spec),
        teacher=taught or None,
        seed=derive(spec["seed"], name),
        metric=spec["metric"],
        **{key: value for key, value in training.items() if key != "dtype"},
        **more,
    )
    train = _trained_on(spec, split)
    transfer = split.transfer if taught and len(split.transfer) else None
    history = distiller.fit(train, split.validation, transfer=transfer)
    return {
        "curves": {name: list(map(float, values)) for name, values in history.curves.items()},
        **({"start": history.start} if more.get("keep_start") else {}),
        "best_epoch": history.best_epoch,
        "steps_per_epoch": history.steps_per_epoch,
    }


def moved(
    spec: Mapping[str, Any],
    network: nn.Module,
    split: Split,
    entry: Mapping[str, Any],
    shots: int | None = None,
    opened: Opened = open_backend,
    name: str = "elsewhere",
) -> nn.Module:
    """The same network with the same weights, its circuits on another backend.

    Args:
        spec: A task's spec.
        network: The network.
        split: Its data.
        entry: The backend, as `ResolvedPoint.entry` describes it.
        shots: Instead of the backend's own and of the network's.
        opened: See `run_task`.
        name: Of the random stream its shots are drawn from.
    """
    options = dict(spec["options"])
    if shots is not None:  # a student's own would win over the backend's
        options.pop("shots", None)
    other = build_network(
        {**spec, "options": options},
        split,
        seed=derive(spec["seed"], name),
        backend=opened(entry, shots=shots),
    )
    other.load_state_dict(network.state_dict())
    return other


def _jury(
    spec: Mapping[str, Any],
    network: nn.Module,
    split: Split,
    files: Mapping[str, str],
    opened: Opened,
) -> Jury:
    """What a network is judged with, beside its data."""
    asked = spec["evaluation"]
    teacher = asked.get("teacher")

    def elsewhere(entry: Mapping[str, Any], shots: int | None) -> nn.Module:
        # Each backend and each number of shots draws for itself: errors of one say nothing of those
        # of another. Variants of a seed are paired, as they ask by the same names.
        name = f"elsewhere {entry['name']} {shots or 'as it says'}"
        return moved(spec, network, split, entry, shots, opened, name)

    return Jury(
        home=asked.get("backend") or spec.get("fine_tune", spec)["backend"],
        moved=elsewhere,
        teacher=None if teacher is None else _teacher(spec, split, teacher, files),
    )


def sources(
    spec: Mapping[str, Any], split: Split, network_of: Callable[[str, bool], nn.Module]
) -> dict[str, Teacher]:
    """What the terms of a spec learn from: teachers and placebos, by the names `terms` uses.

    `network_of` leads from the name of a teacher, and whether it has to be trained, to its network.
    """
    found: dict[str, Teacher] = {}
    for term in spec["terms"]:
        label, placebo = _source(term), term["placebo"]
        if label is None or label in found:
            continue
        if placebo == "uniform":
            found[label] = uniform(split.num_classes)
            continue
        found[label] = Teacher.from_module(network_of(term["teacher"], placebo != "untrained"))
        if placebo == "shuffled":
            found[label] = shuffled(found[label], derive(spec["seed"], "placebo"))
    return found


def _source(term: Mapping[str, Any]) -> str | None:
    """What a term learns from; None without a teacher."""
    words = [term["placebo"] if term["placebo"] != "none" else None, term["teacher"]]
    return " ".join(filter(None, words)) or None


def terms(spec: Mapping[str, Any]) -> list[Term]:
    """The objective of a spec."""
    return [
        Term(
            term["loss"],
            term["weight"],
            term["name"],
            term["options"],
            teacher=_source(term),
            layers=None if term["layers"] is None else tuple(term["layers"]),
            adapter=term["adapter"],
        )
        for term in spec["terms"]
    ]


def split_of(spec: Mapping[str, Any]) -> Split:
    """The data of a spec.

    Raises:
        DataError: If they are not those that the study was planned with.
    """
    data = spec["data"]
    options = canonical(data["options"])
    return _cached_split(data["kind"], options, data["seed"], data["fingerprint"])


@lru_cache(maxsize=4)
def _cached_split(kind: str, options: str, seed: int, fingerprint: str) -> Split:
    split: Split = datasets[kind](seed=seed, **json.loads(options))
    if split.fingerprint != fingerprint:
        raise DataError(
            f"the data set {kind!r} changed since the study was planned",
            got=f"fingerprint {split.fingerprint[:12]}",
            expected=fingerprint[:12],
            remedy="Run again: tasks of the changed data get rows of their own.",
        )
    return split


def _network(spec: Mapping[str, Any], split: Split, opened: Opened) -> nn.Module:
    # A named teacher starts from weights of its own, no twin of a student of its kind.
    named = spec["student"].split(":")[1:]
    return build_network(
        spec,
        split,
        seed=derive(spec["seed"], "weights", *named),
        backend=opened(spec["backend"]),
        samples=_trained_on(spec, split).features,
    )


def _trained_on(spec: Mapping[str, Any], split: Split) -> Dataset:
    """The labelled samples of a task."""
    return split.pool if spec.get("sees") == "all" else split.train


def trained_network(spec: Mapping[str, Any], weights: bytes) -> nn.Module:
    """The network of a row with the weights that were kept; its circuits run exactly.

    Raises:
        StorageError: If the weights are no safetensors, or another network's.
    """
    split = split_of(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadWeightsWarning)  # the row counts them
        network = build_network(spec, split, seed=0, samples=_trained_on(spec, split).features)
    try:
        network.load_state_dict(load_weights(weights))
    except (RuntimeError, SafetensorError) as error:
        raise StorageError(
            "kept weights are those of the row's network", got=" ".join(str(error).split())
        ) from error
    return network.eval()


def build_network(
    spec: Mapping[str, Any],
    split: Split,
    *,
    seed: int,
    backend: str | Backend = "exact",
    samples: Array | None = None,
) -> nn.Module:
    """The registered network for the data of `split`.

    Args:
        spec: A task's, or a part of one: `kind`, `options`, and `dtype`, its own or of `training`.
        split: The data.
        seed: Of its weights.
        backend: Where its circuits run.
        samples: What is fitted when it is built is fitted to these, by default those of training.
    """
    builder = students[spec["kind"]]
    known = inspect.signature(builder).parameters
    dtype = spec["dtype"] if "dtype" in spec else spec["training"]["dtype"]
    given = {
        "dtype": dtype,
        "shape": split.shape,
        "samples": split.train.features if samples is None else samples,
    }
    network: nn.Module = builder(
        split.num_features,
        split.num_classes,
        seed=seed,
        backend=backend,
        **{name: value for name, value in given.items() if name in known},
        **spec["options"],
    )
    return network.to(getattr(torch, dtype))


def _teacher(
    spec: Mapping[str, Any], split: Split, name: str, files: Mapping[str, str] | None
) -> nn.Module:
    """A teacher's network, with the weights of its file; untrained without files."""
    entry = spec["teachers"][name]
    seed = derive(spec["seed"], "untrained", name)
    network = build_network(entry, split, seed=seed, backend=entry["backend"])
    if files is None:
        return network
    file = files[entry["key"]]
    try:
        network.load_state_dict(load_weights(Path(file).read_bytes()))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise StorageError(
            "the teacher's weights cannot be read",
            got=f"{file}: {error}",
            expected="the safetensors file its task wrote",
            remedy="Delete the file and run again: the teacher is trained again.",
        ) from error
    return network
