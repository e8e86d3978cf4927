# SPDX-License-Identifier: Apache-2.0
"""`Teacher`: where soft targets come from, a network, an ensemble, or stored logits.

A teacher never learns: its networks are frozen, in eval mode, and run without gradients. Its
outputs are kept by content (`cache`), so it is asked once per sample whatever the order of the
data. A training loop takes the logits of its whole data set at once from `logits_for` and indexes
them by row; no hash is computed inside a step.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from qiskit_kd.data.tables import read_arrays, read_path
from qiskit_kd.distill.outputs import (
    BINARY,
    FeatureCapture,
    check_logits,
    log_probabilities,
    logits_of,
    map_rows,
    passed,
)
from qiskit_kd.errors import DataError, DistillError, StorageError
from qiskit_kd.nn.cache import OutputCache, in_equal_passes, module_hash, sample_keys
from qiskit_kd.nn.modules import as_student
from qiskit_kd.values import numbers, shown

CHUNK = 256
"""Rows per forward pass. Every pass has exactly this many, so that a sample's logits do not depend
on which other samples happened to be asked for at the same time."""


_Run = Callable[[Tensor], Tensor]

Outputs = Literal["logits", "probabilities"]
"""What a teacher gives; None stands for logits, and is refused where they look like the other."""


class _Maker(ABCMeta):
    """`Teacher(thing)` is short for the `from_` that takes it."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if cls is not Teacher:
            return super().__call__(*args, **options)
        if args and isinstance(args[0], str | Path):
            return Teacher.from_file(*args, **options)
        classifier = args and not isinstance(args[0], nn.Module) and hasattr(args[0], "predict")
        make: Any = Teacher.from_classifier if classifier else Teacher.from_module
        return make(*args, **options)


class Teacher(metaclass=_Maker):
    """Source of soft targets: `from_module`, `from_classifier`, `from_logits` or `from_file`.

    `Teacher(thing, ...)` takes a module or several, a classifier, or the path of a file.
    """

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks behind it, frozen; none where there are only stored values."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(type(m).__name__ for m in self.modules)})"

    @abstractmethod
    def logits_for(self, samples: ArrayLike) -> Tensor:
        """Logits `(n, classes)` of the samples `(n, ...)`, in their order, on the CPU."""

    def features_for(self, samples: ArrayLike, layer: str) -> Tensor:  # noqa: ARG002
        """Output `(n, ...)` of the layer with module path `layer`.

        Raises:
            DistillError: If the teacher has no layers, or none of that name.
        """
        raise DistillError(
            "feature losses need a teacher with layers",
            got=f"a {type(self).__name__}, layer {layer!r}",
            expected="Teacher.from_module(...) with one module",
            remedy="Use a loss on logits, or leave out layers=.",
        )

    def __call__(self, samples: Tensor) -> Tensor:
        """Logits of a batch, on its device and, for floating-point samples, in its dtype."""
        logits = self.logits_for(samples)
        if not isinstance(samples, Tensor):
            return logits
        return logits.to(samples) if samples.is_floating_point() else logits.to(samples.device)

    @staticmethod
    def from_module(
        module: nn.Module | Sequence[nn.Module],
        *,
        average: Literal["probabilities", "logits"] = "probabilities",
        cache_dir: str | Path | None = None,
        outputs: Outputs | None = None,
    ) -> ModuleTeacher:
        """A network, or an ensemble of several.

        Args:
            module: One or more modules that map `(batch, ...)` samples to `(batch, classes)`
                logits. They are frozen in place. A bare `QuantumLayer` of class probabilities
                becomes the student it makes, whose logits are `log p`.
            average: What an ensemble averages: class probabilities (a mixture; the logits returned
                are its logarithm) or logits (a product of experts).
            cache_dir: A folder that keeps outputs between processes.
            outputs: `"probabilities"` for networks that end in a softmax; `"logits"` takes what
                they return for logits (so are log-probabilities) without looking. None: logits,
                and where all rows are class probabilities, an error.

        Raises:
            DistillError: For no module at all, or an unknown average or kind of outputs.
        """
        several = isinstance(module, Sequence) and not isinstance(module, str | nn.Sequential)
        modules: list[Any] = list(module) if several else [module]  # type: ignore[arg-type]
        if cache_dir is not None and not isinstance(cache_dir, str | Path):
            raise DistillError(
                "outputs are kept in a folder", got=shown(cache_dir), expected="a path, or None"
            )
        folder = None if cache_dir is None else Path(cache_dir)
        return ModuleTeacher(modules, average, folder, outputs)

    @staticmethod
    def from_classifier(classifier: Any) -> ClassifierTeacher:
        """A trained classifier of scikit-learn's kind, whose classes are those of the labels.

        Args:
            classifier: Has `predict_proba`: a forest, a pipeline, gradient boosting. It sees
                samples as rows `(n, features)`.

        Raises:
            DistillError: If it has no `predict_proba`.
        """
        return ClassifierTeacher(classifier)

    @staticmethod
    def from_logits(
        samples: ArrayLike, logits: ArrayLike, *, outputs: Outputs | None = None
    ) -> StoredTeacher:
        """Logits that were computed elsewhere, found again by the content of the sample.

        Args:
            samples: `(n, ...)`.
            logits: `(n, classes)`.
            outputs: `"probabilities"` if the logits are class probabilities, such as the
                `predict_proba` of scikit-learn; else as of `from_module`.

        Raises:
            DataError: If the lengths differ, a logit is not finite, or equal samples have
                different logits.
            DistillError: If the logits are class probabilities, or are said to be and are not.
        """
        return StoredTeacher(samples, logits, outputs)

    @staticmethod
    def from_file(path: str | Path, *, outputs: Outputs | None = None) -> StoredTeacher:
        """Logits from an `.npz` or `.safetensors` file with the arrays `samples` and `logits`.

        An array `probabilities` in the place of `logits` is taken for what its name says.

        Raises:
            StorageError: If the file cannot be read or lacks an array.
            DataError: As `from_logits`.
            DistillError: As `from_logits`.
        """
        remedy = "Write it with numpy.savez(path, samples=..., logits=...)."
        kinds = "an .npz or .safetensors file with arrays 'samples' and 'logits'"
        where = read_path(path, kinds=kinds, error=StorageError)
        arrays = read_arrays(where, remedy=remedy, error=StorageError)[1]
        key = "probabilities" if "logits" not in arrays else "logits"
        if not {"samples", key} <= arrays.keys():
            raise StorageError(
                "stored logits cannot be read",
                expected=kinds,
                remedy=remedy,
                got=f"{path}: arrays {', '.join(list(arrays)[:8]) or 'none'}",
            )
        given = "probabilities" if key == "probabilities" and outputs is None else outputs
        return StoredTeacher(arrays["samples"], arrays[key], given)


def _check_outputs(outputs: object) -> None:
    if outputs not in (None, "logits", "probabilities"):
        raise DistillError(
            "a teacher gives logits or probabilities",
            got=f"outputs={shown(outputs)}",
            expected="'logits', 'probabilities' or None",
            remedy="Log-probabilities are logits.",
        )


class ModuleTeacher(Teacher):
    """Frozen networks; see `Teacher.from_module`."""

    def __init__(
        self,
        modules: list[nn.Module],
        average: str,
        cache_dir: Path | None,
        outputs: str | None = None,
    ) -> None:
        if not modules:
            raise DistillError(
                "a teacher has at least one network",
                got="an empty sequence",
                remedy="Pass the trained module.",
            )
        for module in modules:
            if not isinstance(module, nn.Module):
                raise DistillError(
                    "a teacher is made of torch modules, or is one classifier",
                    got=type(module).__name__,
                    remedy="Pass the trained module; stored logits go to Teacher.from_logits.",
                )
        _check_outputs(outputs)
        if outputs is None:
            modules = [as_student(module) for module in modules]
        if average not in ("probabilities", "logits"):
            raise DistillError(
                "an ensemble averages one of two things",
                got=repr(average),
                expected="'probabilities' or 'logits'",
                remedy="The default is 'probabilities'.",
            )
        self._modules = modules
        self._average = average
        self._outputs = outputs
        self._cache_dir = cache_dir
        self._caches: dict[str, OutputCache] = {}
        for module in modules:
            if any(map(nn.parameter.is_lazy, [*module.parameters(), *module.buffers()])):
                raise DistillError(
                    "a teacher is a trained network",
                    got="lazy parameters without values",
                    remedy="Run it once on a sample and train it first.",
                )
            module.eval().requires_grad_(False)
        first = next(
            (p for m in modules for p in m.parameters() if p.is_floating_point()), torch.empty(0)
        )
        self._dtype, self._device = first.dtype, first.device
        double = self._dtype == torch.float64  # numpy knows no bfloat16
        self._numpy_dtype = np.dtype(np.float64 if double else np.float32)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """See `Teacher.modules`."""
        return tuple(self._modules)

    @property
    def hits(self) -> int:
        """Samples answered from the cache."""
        return sum(cache.hits for cache in self._caches.values())

    @property
    def misses(self) -> int:
        """Samples computed."""
        return sum(cache.misses for cache in self._caches.values())

    @property
    def fingerprint(self) -> str:
        """Hash of all weights and of the way they are combined."""
        said = f"{self._average}{self._outputs or ''}"
        return hashlib.sha256(f"{module_hash(self._modules)}{said}".encode()).hexdigest()

    def logits_for(self, samples: ArrayLike) -> Tensor:
        """Logits of all samples, computed once each.

        Raises:
            DistillError: If a network returns no `(batch, classes)` tensor or values that are not
                finite, the networks disagree on the classes, or all rows are class probabilities
                and nobody said so.
        """
        found = self._fetch(samples, "logits", self._logits)
        if self._outputs is None:
            check_logits(found, role="teacher")
        return found

    def features_for(self, samples: ArrayLike, layer: str) -> Tensor:
        """Output of one layer for all samples, computed once each."""
        if len(self._modules) > 1:
            raise DistillError(
                "features come from one network",
                got=f"an ensemble of {len(self._modules)}",
                remedy="Use one module for feature losses.",
            )

        def features(batch: Tensor) -> Tensor:
            with FeatureCapture(self._modules[0], [layer], role="teacher") as capture:
                passed(self._modules[0], batch, role="teacher")
            return map_rows(capture[layer], len(batch), layer, role="teacher")

        return self._fetch(samples, f"layer-{layer}", features)

    def _fetch(self, samples: ArrayLike, output: str, run: _Run) -> Tensor:
        rows = numbers(samples, "samples").astype(self._numpy_dtype, copy=False)
        if not rows.size:
            raise DataError(
                "a teacher is asked for at least one sample",
                got=f"shape {rows.shape}",
                remedy="Leave out an empty data set.",
            )
        # The weights are hashed at every call: a teacher somebody trained further is another one.
        name = hashlib.sha256(f"{self.fingerprint}{self._dtype}{output}".encode()).hexdigest()[:32]
        if name not in self._caches:
            folder = None if self._cache_dir is None else self._cache_dir / name
            self._caches[name] = OutputCache(folder)
        return self._caches[name].fetch(
            sample_keys(rows), lambda places: self._run_all(rows[places], run)
        )

    def _run_all(self, rows: NDArray[np.generic], run: _Run) -> Tensor:
        for module in self._modules:
            module.eval()
        with torch.no_grad():
            return in_equal_passes(
                torch.from_numpy(rows),
                CHUNK,
                lambda part: run(part.to(self._device, self._dtype)).cpu(),
            )

    def _logits(self, batch: Tensor) -> Tensor:
        members = [logits_of(module, batch, role="teacher") for module in self._modules]
        members = [m if m.dtype == torch.float64 else m.float() for m in members]
        shapes = [tuple(m.shape) for m in members]
        if len(set(shapes)) > 1:
            raise DistillError(
                "a teacher's networks tell the same classes apart",
                got=", ".join(map(str, shapes)),
                expected=f"({len(batch)}, classes) from each",
                remedy="Leave out the network that was trained on other classes.",
            )
        if self._outputs == "probabilities":
            members = [log_probabilities(m) for m in members]
        elif self._outputs is None:
            for member in members:  # one by one: a mixture of them no longer looks like it
                check_logits(member, role="teacher")
        if not all(bool(m.isfinite().all()) for m in members):
            raise DistillError(
                "a teacher's logits are finite numbers",
                got="NaN or infinity",
                remedy="Check the teacher's weights and the scale of its samples.",
            )
        if len(members) == 1:
            return members[0]
        stack = torch.stack(members)
        if self._average == "logits":
            return stack.mean(dim=0)
        return torch.log_softmax(stack, dim=-1).logsumexp(dim=0) - math.log(len(members))


class ClassifierTeacher(Teacher):
    """A classifier that gives class probabilities; see `Teacher.from_classifier`."""

    def __init__(self, classifier: Any) -> None:
        if not callable(getattr(classifier, "predict_proba", None)):
            name = type(classifier).__name__
            raise DistillError(
                "a teacher gives class probabilities",
                got=f"a {name} without predict_proba",
                expected="a classifier with predict_proba",
                remedy=f"Calibrate it: CalibratedClassifierCV({name}(...)).fit(x, y).",
            )
        self.classifier = classifier

    def logits_for(self, samples: ArrayLike) -> Tensor:
        """Logarithms of the class probabilities, asked for at each call.

        Raises:
            DistillError: If the classifier fails, as one that is not fitted does.
        """
        rows = numbers(samples, "samples")
        try:
            found = np.asarray(self.classifier.predict_proba(rows.reshape(len(rows), -1)), float)
        except Exception as error:  # somebody else's code
            raise DistillError(
                "a teacher is a trained classifier of these samples",
                got=f"{type(error).__name__}: {str(error).splitlines()[0]}",
                remedy="Fit it first, on samples of this width.",
            ) from error
        return log_probabilities(torch.from_numpy(found))


class StoredTeacher(Teacher):
    """Logits by sample content; see `Teacher.from_logits`."""

    def __init__(self, samples: ArrayLike, logits: ArrayLike, outputs: str | None = None) -> None:
        _check_outputs(outputs)
        keys = self._keys(samples)
        values = numbers(logits, "stored logits", copy=True)
        single = values.ndim == 1 or values.shape[1:] == (1,)
        if values.ndim != 2 or single or len(keys) != len(values) or not len(values):
            raise DataError(
                "stored logits have one row per sample",
                got=f"samples {np.shape(numbers(samples, 'samples'))}, logits {values.shape}",
                expected="(n, ...) and (n, classes), n > 0",
                remedy=BINARY if single and len(keys) == len(values) else "Store both together.",
            )
        if outputs == "probabilities":
            values = log_probabilities(torch.from_numpy(values)).numpy()
        elif outputs is None:
            check_logits(torch.from_numpy(values), role="teacher")
        self._logits = torch.from_numpy(values)
        self._places: dict[bytes, int] = {}
        for row, key in enumerate(self._keys(samples)):
            first = self._places.setdefault(key, row)
            if not np.array_equal(values[first], values[row]):
                raise DataError(
                    "equal samples have equal logits",
                    got=f"rows {first} and {row} with one sample and different logits",
                    remedy="Keep one of the rows.",
                )

    @staticmethod
    def _keys(samples: ArrayLike) -> list[bytes]:
        # Single precision: a data set saved as float32 and read back must still be found.
        with np.errstate(over="ignore"):  # two samples beyond its range are told apart by others
            return sample_keys(numbers(samples, "samples").astype(np.float32))

    def logits_for(self, samples: ArrayLike) -> Tensor:
        """Stored logits of all samples.

        Raises:
            DistillError: For a sample that was not stored.
        """
        rows = [self._places.get(key, -1) for key in self._keys(samples)]
        if -1 in rows:
            raise DistillError(
                "stored logits cover every sample they are asked for",
                got=f"{rows.count(-1)} of {len(rows)} samples without logits, the first in row "
                f"{rows.index(-1)}",
                expected="samples equal to stored ones in single precision",
                remedy="Store logits for the whole training and transfer set, preprocessed alike.",
            )
        return self._logits[rows]
