# SPDX-License-Identifier: Apache-2.0
"""`distill`: a student taught in one call, from whatever holds teacher, student and data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load_file, save
from torch import nn

from qiskit_kd.circuits import CircuitModel
from qiskit_kd.data import Split, npz, stratified_split
from qiskit_kd.distill.batches import collected
from qiskit_kd.distill.callbacks import History
from qiskit_kd.distill.distiller import Distiller
from qiskit_kd.distill.losses import Loss
from qiskit_kd.distill.metrics import metrics
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import DataError, DistillError, StorageError
from qiskit_kd.files import write_atomically
from qiskit_kd.nn.export import export
from qiskit_kd.nn.layer import AnyBackend, CircuitLayer, QuantumLayer
from qiskit_kd.nn.modules import FullyQuantumStudent, as_student, num_parameters
from qiskit_kd.nn.students import students
from qiskit_kd.values import named_path, numbers, plain, shown

Pair = tuple[NDArray[Any], NDArray[Any]]

_WEIGHTS, _FACTS = "student.safetensors", "distilled.json"


@dataclass(frozen=True, eq=False, repr=False)
class Distilled:
    """A trained student, and how it became one.

    Args:
        student: Carries the weights of its best epoch, in eval mode.
        history: Its curves.
        classes: The labels, in the order of the logits.
        test_set: Samples and class numbers kept for `test`; None where there are none.
    """

    student: nn.Module
    history: History
    classes: NDArray[Any]
    test_set: Pair | None = field(default=None)

    def predict_proba(self, samples: ArrayLike) -> NDArray[np.float64]:
        """Class probabilities `(n, classes)`, in the order of `classes`."""
        logits = torch.from_numpy(self._logits(numbers(samples, "samples")))
        return np.asarray(torch.softmax(logits, 1).numpy(), float)

    def predict(self, samples: ArrayLike) -> NDArray[Any]:
        """The likeliest label of each sample."""
        return np.asarray(self.classes[self.predict_proba(samples).argmax(1)])

    def test(self) -> dict[str, float]:
        """Metrics on the test set, which training has not seen.

        Raises:
            DistillError: If no samples were kept for it.
        """
        if self.test_set is None:
            raise DistillError(
                "a test needs samples that were kept for it",
                got="none",
                remedy="distill(..., test=0.2), or metrics of predictions for other samples.",
            )
        samples, labels = self.test_set
        return metrics(self._logits(samples), labels)

    def _logits(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        like = next(self.student.parameters())
        rows = torch.as_tensor(samples).to(like)
        try:
            with torch.no_grad():
                logits = self.student.eval()(rows)
            if logits.ndim != 2 or len(logits) != len(rows):
                raise ValueError(f"logits {tuple(logits.shape)}")
        except (IndexError, RuntimeError, ValueError) as error:
            raise DataError(
                "samples have the shape of those that the student learned from",
                got=f"shape {samples.shape}: {error}",
                expected="(n, ...)",
            ) from error
        return np.asarray(logits.double().cpu().numpy(), float)

    def export(
        self, folder: str | Path, *, backend: AnyBackend | None = None, **about: Any
    ) -> Path:
        """The student as plain Qiskit, with its labels; see `qiskit_kd.export`.

        Args:
            folder: Made if it is not there.
            backend: Where `isa.qpy` is to run.
            about: Further lines of the model card.
        """
        told = {"training": repr(self.history), **about}
        return export(
            self.student, folder, backend=backend, labels=self.classes.tolist(), about=told
        )

    def save(self, folder: str | Path) -> Path:
        """Weights (safetensors), labels and curves (JSON) in a folder; nothing is pickled."""
        where = named_path(folder, "a saved student is a folder")
        facts = {"classes": self.classes.tolist(), "history": self.history.as_dict()}
        # Copies: safetensors refuses two names for one memory.
        state = {
            name: value.clone().contiguous() for name, value in self.student.state_dict().items()
        }
        write_atomically(where / _FACTS, json.dumps(facts, indent=1).encode())
        write_atomically(where / _WEIGHTS, save(state))
        return where

    @staticmethod
    def load(folder: str | Path, student: nn.Module) -> Distilled:
        """What was saved, in a student built like the one that was.

        Raises:
            StorageError: If there is nothing, or weights of another student.
        """
        where = Path(folder)
        try:
            facts = json.loads((where / _FACTS).read_bytes())
            student = as_student(student)
            student.load_state_dict(load_file(where / _WEIGHTS))
            history = History(**facts["history"])
            return Distilled(student.eval(), history, np.array(facts["classes"]))
        except Exception as error:  # of the disk, of three libraries
            raise StorageError(
                "a saved student fits the one it is loaded into",
                got=f"{where}: {' '.join(str(error).split())}",
                expected=f"{_WEIGHTS} and {_FACTS} of Distilled.save",
                remedy="Build the student as it was built when it was saved.",
            ) from error

    def __repr__(self) -> str:
        size = num_parameters(self.student)
        return f"Distilled({type(self.student).__name__}, {size} parameters, {self.history!r})"

    def _repr_html_(self) -> str:
        name, size = type(self.student).__name__, num_parameters(self.student)
        return f"<b>{name}</b>, {size} parameters{self.history._repr_html_()}"


def distill(
    teacher: Any,
    student: nn.Module | CircuitModel | str | Callable[..., nn.Module],
    data: Any,
    *,
    loss: str | Loss | Term | Sequence[str | Loss | Term] | None = None,
    transfer: Any = None,
    validation: float = 0.2,
    test: float = 0.2,
    backend: AnyBackend | None = None,
    seed: int = 0,
    **training: Any,
) -> Distilled:
    """Teach a student, choose its best epoch on validation samples, keep the test samples apart.

    `Distiller` is the full form.

    Args:
        teacher: What `Teacher` takes: a module, an ensemble, a scikit-learn classifier, a file of
            logits; several by name; None for a student alone.
        student: A module, a `CircuitModel` of class groups, a name in `students`, or a builder
            like those, of a module or a `CircuitModel`.
        data: A `Split`, a pair `(x, y)` of arrays, frames, tensors or `.npy` files, a scikit-learn
            bunch, a torch data set or loader of such, or the path of an `.npz`, `.safetensors` or
            `.csv` file. Labels are numbers or text; others count as their text.
        loss: Names, losses or terms; None for cross-entropy and, with a teacher, `kl`.
        transfer: Samples without labels, for the teacher to speak about.
        validation: Share of the samples that the best epoch is chosen by.
        test: Share of the samples kept for `Distilled.test`; 0 keeps none.
        backend: Where the student's circuits run; None leaves them where they are.
        seed: Of split, student and order of samples.
        training: Fields of `Training`: `epochs=20`, and options of `Distiller`: `progress=True`.

    Raises:
        DataError: For data that cannot be learned from.
        DistillError: If teacher, student, loss and data do not fit each other.
    """
    parts, own, classes = _parts(data, validation, test, seed)
    transfer = own if transfer is None else transfer
    shape = parts["train"][0].shape[1:]
    network = as_student(_student(student, shape, len(classes), seed, backend))
    if not isinstance(student, nn.Module) and len(shape) > 1:  # built here, of rows
        network = nn.Sequential(nn.Flatten(), network)
    if backend is not None:
        for part in network.modules():
            if isinstance(part, CircuitLayer):
                part.backend = backend
        for part in network.modules():
            if isinstance(part, FullyQuantumStudent):
                part.choose_smoothing()
    if not isinstance(data, Split):  # whose labels are numbers already
        _check_classes(teacher, classes)
    if loss is None:
        loss = ["ce"] if teacher is None else ["ce", "kl"]
    distiller = Distiller(network, loss, teacher=teacher, seed=seed, **training)
    history = distiller.fit(
        parts["train"], parts["validation"], transfer, num_classes=max(2, len(classes))
    )
    return Distilled(distiller.student, history, classes, parts.get("test"))


def _student(
    student: Any, shape: tuple[int, ...], num_classes: int, seed: int, backend: AnyBackend | None
) -> nn.Module:
    if isinstance(student, nn.Module):
        return student
    if isinstance(student, CircuitModel):
        return QuantumLayer(student, backend or "exact", seed=seed)
    builder = students[student] if isinstance(student, str) else student
    if not callable(builder):
        raise DistillError(
            "a student is a module, a circuit model, a name or a builder",
            got=shown(student),
            expected=f"such as {', '.join(list(students)[:4])}",
        )
    where = {} if backend is None else {"backend": backend}
    try:
        found = builder(int(np.prod(shape)), num_classes, seed=seed, **where)
    except TypeError as error:
        raise DistillError(
            "a builder makes a student of (num_features, num_classes, seed=...)",
            got=f"{shown(builder)}: {error}",
            remedy="Pass the module itself.",
        ) from error
    return _student(found, shape, num_classes, seed, backend)


def _parts(
    data: Any, validation: float, test: float, seed: int
) -> tuple[dict[str, Pair], Any, NDArray[Any]]:
    """Training, validation and test samples with class numbers; transfer samples; the labels."""
    if isinstance(data, str | Path):
        data = npz(data, seed=seed, validation=validation, test=test)
    if isinstance(data, Split):
        sets = {"train": data.train, "validation": data.validation, "test": data.test}
        pairs = {name: (part.features, part.labels) for name, part in sets.items()}
        return pairs, data.transfer if len(data.transfer) else None, np.arange(data.num_classes)
    bunch = isinstance(data, Mapping) and {"data", "target"} <= data.keys()
    found = [data["data"], data["target"]] if bunch else collected(data, "data set")
    if len(found) != 2:
        raise DataError(
            "data are samples and labels",
            got=shown(data),
            expected="a Split, a pair (x, y), a torch data set or loader, or a file",
            remedy="For example distill(teacher, student, (x, y)).",
        )
    samples, given = (_read(part) for part in found)
    x = numbers(samples, "samples")
    labels = _labels(plain(given, "labels"))
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or len(labels) != len(x):
        raise DataError(
            "every sample has one label",
            got=f"samples {x.shape}, labels {labels.shape}",
            expected="(n, ...) and (n,)",
        )
    classes, y = np.unique(labels, return_inverse=True)
    rows = np.arange(len(x), dtype=float)[:, None]
    split = stratified_split(rows, y, seed=seed, validation=validation, test=test or 1)
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    places = {name: part.features[:, 0].astype(int) for name, part in sets.items()}
    if not test:
        places["train"] = np.concatenate([places["train"], places.pop("test")])
    return {name: (x[rows], y[rows]) for name, rows in places.items()}, None, classes


def _labels(given: NDArray[Any]) -> NDArray[Any]:
    """Labels as numbers or text, which can be sorted, compared and written down.

    Objects of one kind that is neither, such as dates, count as their text.
    """
    if given.dtype.kind == "O":
        kinds = {type(one) for one in given.ravel().tolist()}
        numeric = all(issubclass(kind, int | float | np.number | np.bool_) for kind in kinds)
        if (len(kinds) > 1 and not numeric) or type(None) in kinds:
            raise DataError(
                "labels are of one kind",
                got=", ".join(sorted(kind.__name__ for kind in kinds)),
                expected="numbers, or text",
                remedy="Leave out samples without a label, and write the others alike.",
            )
        given = np.array(given.tolist()) if numeric else given.astype(str)
    if given.dtype.kind == "S":
        given = np.char.decode(given, "utf-8", "replace")
    if given.dtype.kind not in "biufU":
        if given.dtype.kind == "c":
            raise DataError("labels are numbers or text", got=str(given.dtype))
        given = given.astype(str)
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise DataError(
            "every sample has a label",
            got=f"{np.count_nonzero(~np.isfinite(given))} that are not finite",
            remedy="Leave such samples out, or give them as transfer=.",
        )
    return given


def _check_classes(teacher: Any, classes: NDArray[Any]) -> None:
    """Refuse classifiers whose columns stand for other classes than the labels do."""
    for each in teacher.values() if isinstance(teacher, Mapping) else [teacher]:
        known = getattr(getattr(each, "classifier", each), "classes_", None)
        if known is not None and not np.array_equal(known, classes):
            raise DistillError(
                "a fitted teacher knows the classes of the labels",
                got=f"{list(known)}",
                expected=f"{list(classes)}",
                remedy="Fit it to the same labels, or to those among its classes alone.",
            )


def _read(part: Any) -> Any:
    """An array, or what an `.npy` file holds; pickled objects are never loaded."""
    if not isinstance(part, str | Path):
        return part
    try:
        return np.load(part, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            "a pair of files are arrays", got=f"{part}: {error}", expected="two .npy files"
        ) from error
