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
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from torch import Tensor, nn

from qiskit_kd.distill.features import FeatureCapture
from qiskit_kd.errors import DataError, DistillError, StorageError
from qiskit_kd.nn.cache import OutputCache, module_hash, sample_keys

__all__ = ["ModuleTeacher", "StoredTeacher", "Teacher"]

CHUNK = 256
"""Rows per forward pass. Every pass has exactly this many, so that a sample's logits do not depend
on which other samples happened to be asked for at the same time."""


_Run = Callable[[Tensor], Tensor]


class Teacher(ABC):
    """Source of soft targets; make one with `from_module`, `from_logits` or `from_file`."""

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """The networks behind it, frozen; none where there are only stored values."""
        return ()

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
        )  # fmt: skip

    def __call__(self, samples: Tensor) -> Tensor:
        """Logits of a batch, on its device and, for floating-point samples, in its dtype."""
        logits = self.logits_for(samples.detach().cpu().numpy())
        return logits.to(samples) if samples.is_floating_point() else logits.to(samples.device)

    @staticmethod
    def from_module(
        module: nn.Module | Sequence[nn.Module], *,
        average: Literal["probabilities", "logits"] = "probabilities",
        cache_dir: str | Path | None = None,
    ) -> ModuleTeacher:  # fmt: skip
        """A network, or an ensemble of several.

        Args:
            module: One or more modules that map `(batch, ...)` samples to `(batch, classes)`
                logits. They are frozen in place.
            average: What an ensemble averages: class probabilities (a mixture; the logits returned
                are its logarithm) or logits (a product of experts).
            cache_dir: A folder that keeps outputs between processes.

        Raises:
            DistillError: For no module at all, or an unknown average.
        """
        modules = [module] if isinstance(module, nn.Module) else list(module)
        return ModuleTeacher(modules, average, None if cache_dir is None else Path(cache_dir))

    @staticmethod
    def from_logits(samples: ArrayLike, logits: ArrayLike) -> StoredTeacher:
        """Logits that were computed elsewhere, found again by the content of the sample.

        Args:
            samples: `(n, ...)`.
            logits: `(n, classes)`.

        Raises:
            DataError: If the lengths differ, a logit is not finite, or equal samples have
                different logits.
        """
        return StoredTeacher(np.asarray(samples), np.asarray(logits))

    @staticmethod
    def from_file(path: str | Path) -> StoredTeacher:
        """Logits from an `.npz` or `.safetensors` file with the arrays `samples` and `logits`.

        Raises:
            StorageError: If the file cannot be read or lacks an array.
            DataError: As `from_logits`.
        """
        path = Path(path)
        try:
            if path.suffix == ".safetensors":
                arrays = load_safetensors(path.read_bytes())
            else:
                with np.load(path, allow_pickle=False) as content:
                    arrays = dict(content)
            return StoredTeacher(arrays["samples"], arrays["logits"])
        except DataError:
            raise
        except (OSError, EOFError, KeyError, ValueError, AttributeError, TypeError,
                SafetensorError, zipfile.BadZipFile) as error:  # fmt: skip
            raise StorageError(
                "stored logits cannot be read", got=f"{path}: {error}",
                expected="an .npz or .safetensors file with arrays 'samples' and 'logits'",
                remedy="Write it with numpy.savez(path, samples=..., logits=...).",
            ) from error  # fmt: skip


class ModuleTeacher(Teacher):
    """Frozen networks; see `Teacher.from_module`."""

    def __init__(self, modules: list[nn.Module], average: str, cache_dir: Path | None) -> None:
        if not modules:
            raise DistillError(
                "a teacher has at least one network", got="an empty sequence",
                remedy="Pass the trained module.",
            )  # fmt: skip
        if average not in ("probabilities", "logits"):
            raise DistillError(
                "an ensemble averages one of two things", got=repr(average),
                expected="'probabilities' or 'logits'", remedy="The default is 'probabilities'.",
            )  # fmt: skip
        self._modules = modules
        self._average = average
        self._cache_dir = cache_dir
        self._caches: dict[str, OutputCache] = {}
        for module in modules:
            module.eval().requires_grad_(False)
        first = next(
            (p for m in modules for p in m.parameters() if p.is_floating_point()), torch.empty(0)
        )
        self._dtype, self._device = first.dtype, first.device
        self._numpy_dtype = torch.empty(0, dtype=self._dtype).numpy().dtype

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
        return hashlib.sha256(f"{module_hash(self._modules)}{self._average}".encode()).hexdigest()

    def logits_for(self, samples: ArrayLike) -> Tensor:
        """Logits of all samples, computed once each.

        Raises:
            DistillError: If a network returns no `(batch, classes)` tensor or values that are not
                finite, or the networks disagree on the classes.
        """
        return self._fetch(samples, "logits", self._logits)

    def features_for(self, samples: ArrayLike, layer: str) -> Tensor:
        """Output of one layer for all samples, computed once each."""
        if len(self._modules) > 1:
            raise DistillError(
                "features come from one network", got=f"an ensemble of {len(self._modules)}",
                remedy="Use one module for feature losses.",
            )  # fmt: skip

        def features(batch: Tensor) -> Tensor:
            with FeatureCapture(self._modules[0], [layer], role="teacher") as capture:
                self._modules[0](batch)
            maps = capture[layer]
            if maps.ndim < 1 or len(maps) != len(batch):
                raise DistillError(
                    f"the layer {layer!r} of the teacher returns one map per sample",
                    got=f"shape {tuple(maps.shape)} for {len(batch)} samples",
                    expected=f"({len(batch)}, ...)",
                    remedy="Choose a layer whose first axis is the batch.",
                )
            return maps

        return self._fetch(samples, f"layer-{layer}", features)

    def _fetch(self, samples: ArrayLike, output: str, run: _Run) -> Tensor:
        rows = np.ascontiguousarray(samples, dtype=self._numpy_dtype)
        if not rows.size:
            raise DataError(
                "a teacher is asked for at least one sample", got=f"shape {rows.shape}",
                remedy="Leave out an empty data set.",
            )  # fmt: skip
        # The weights are hashed at every call: a teacher somebody trained further is another one.
        name = hashlib.sha256(f"{self.fingerprint}{self._dtype}{output}".encode()).hexdigest()[:32]
        if name not in self._caches:
            folder = None if self._cache_dir is None else self._cache_dir / name
            self._caches[name] = OutputCache(folder)
        return self._caches[name].fetch(
            sample_keys(rows), lambda places: self._run_chunks(rows[places], run)
        )

    def _run_chunks(self, rows: NDArray[np.generic], run: _Run) -> Tensor:
        outputs = []
        for module in self._modules:
            module.eval()
        with torch.no_grad():
            for start in range(0, len(rows), CHUNK):
                chunk = rows[start : start + CHUNK]
                padded = np.concatenate([chunk, np.repeat(chunk[-1:], CHUNK - len(chunk), 0)])
                batch = torch.from_numpy(padded).to(self._device)
                outputs.append(run(batch)[: len(chunk)].cpu())
        return torch.cat(outputs)

    def _logits(self, batch: Tensor) -> Tensor:
        members = [module(batch) for module in self._modules]
        shapes = [tuple(m.shape) if isinstance(m, Tensor) else type(m).__name__ for m in members]
        if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][0] != len(batch):
            raise DistillError(
                "a teacher returns one row of class logits per sample",
                got=", ".join(map(str, shapes)), expected=f"({len(batch)}, classes) from each",
                remedy="Wrap the network so that it returns its logits only.",
            )  # fmt: skip
        if not all(bool(m.isfinite().all()) for m in members):
            raise DistillError(
                "a teacher's logits are finite numbers", got="NaN or infinity",
                remedy="Check the teacher's weights and the scale of its samples.",
            )  # fmt: skip
        if len(members) == 1:
            return torch.as_tensor(members[0])
        stack = torch.stack(members)
        if self._average == "logits":
            return stack.mean(dim=0)
        return torch.log_softmax(stack, dim=-1).logsumexp(dim=0) - math.log(len(members))


class StoredTeacher(Teacher):
    """Logits by sample content; see `Teacher.from_logits`."""

    def __init__(self, samples: NDArray[np.generic], logits: NDArray[np.generic]) -> None:
        values = np.array(logits, dtype=np.float64)
        if values.ndim != 2 or len(samples) != len(values) or not len(values):
            raise DataError(
                "stored logits have one row per sample",
                got=f"samples {np.shape(samples)}, logits {values.shape}",
                expected="(n, ...) and (n, classes), n > 0", remedy="Store both together.",
            )  # fmt: skip
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise DataError(
                "stored logits are finite numbers", got=f"NaN or infinity in row {row}",
                remedy="Remove the row or compute it again.",
            )  # fmt: skip
        self._logits = torch.from_numpy(values)
        self._places: dict[bytes, int] = {}
        for row, key in enumerate(self._keys(samples)):
            first = self._places.setdefault(key, row)
            if not np.array_equal(values[first], values[row]):
                raise DataError(
                    "equal samples have equal logits",
                    got=f"rows {first} and {row} with one sample and different logits",
                    remedy="Keep one of the rows.",
                )  # fmt: skip

    @staticmethod
    def _keys(samples: ArrayLike) -> list[bytes]:
        # Single precision: a data set saved as float32 and read back must still be found.
        return sample_keys(np.asarray(samples, dtype=np.float32))

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
                f"{rows.index(-1)}", expected="samples equal to stored ones in single precision",
                remedy="Store logits for the whole training and transfer set, preprocessed alike.",
            )  # fmt: skip
        return self._logits[rows]
