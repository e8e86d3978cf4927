# SPDX-License-Identifier: Apache-2.0
"""Outputs of frozen networks by content: the hash of the sample, never its place in a data set.

A key is the hash of one sample in the precision the network computes in; a cache belongs to one
network (hash of its weights) and one output. So a shuffled, cut or extended data set finds its rows
again, and another network never does. Files are safetensors, written whole and renamed, so that
several processes may share a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from qiskit_kd.errors import StorageError
from qiskit_kd.execution.torch_use import in_own_modes
from qiskit_kd.files import write_atomically
from qiskit_kd.nn.layer import CircuitLayer

KEY_BYTES = 16


def sample_keys(samples: NDArray[np.generic]) -> list[bytes]:
    """One 16-byte hash per row of `(n, ...)`; the hash covers shape, dtype and values.

    Negative zeros count as zeros, so that equal samples have equal keys.
    """
    rows = np.ascontiguousarray(samples + 0)
    if not rows.size:
        return []
    salt = hashlib.blake2b(f"{rows.dtype.str}{rows.shape[1:]}".encode()).digest()[:16]
    view, width = rows.data.cast("B"), rows.nbytes // len(rows)
    return [
        hashlib.blake2b(view[k : k + width], digest_size=KEY_BYTES, salt=salt).digest()
        for k in range(0, len(rows) * width, width)
    ]


def module_hash(modules: Iterable[nn.Module]) -> str:
    """Hash over the structure, engines, settings, parameters and buffers of `modules`.

    Settings are attributes that are floats, texts or truth values, and the names of forward hooks;
    whole numbers are none of them, since networks may count their calls.
    """
    digest = hashlib.sha256()
    for module in modules:
        digest.update(repr(module).encode())
        for path, part in module.named_modules():
            plain = {
                key: value
                for key, value in vars(part).items()
                if isinstance(value, float | str | bool) and key != "training"
            }
            hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]  # noqa: SLF001
            names = [getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks]
            digest.update(f"{path}{sorted(plain.items())}{names}".encode())
            if isinstance(part, CircuitLayer):
                digest.update(f"{path}{part.engine_identity()}".encode())
        for name, tensor in module.state_dict().items():
            if isinstance(tensor, Tensor):
                digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
                digest.update(flat.numpy().tobytes())
    return digest.hexdigest()


def in_equal_passes(rows: Tensor, size: int, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Outputs of all rows, by passes of exactly `size`, the last one filled up.

    Products of matrices round differently with their widths: so what comes out for a row does not
    depend on which others happened to be asked for.
    """
    parts = []
    for chunk in torch.split(rows, size):
        filling = chunk[-1:].expand(size - len(chunk), *chunk.shape[1:])
        parts.append(run(torch.cat([chunk, filling]))[: len(chunk)])
    return torch.cat(parts)


@dataclass
class OutputCache:
    """Outputs of one network by sample key, in memory and, where one is given, in a folder."""

    folder: Path | None = None
    hits: int = 0
    """Samples that were found."""
    misses: int = 0
    """Samples that had to be computed."""
    _rows: dict[bytes, Tensor] = field(default_factory=dict)
    _read: bool = False

    def fetch(self, keys: Sequence[bytes], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Outputs in the order of `keys`; `compute` is asked once for the places not known.

        Raises:
            StorageError: For a damaged or unwritable file in the folder.
        """
        if self.folder is not None and not self._read:
            self._load(self.folder)
        # A sample that occurs twice is computed once.
        new = {key: k for k, key in enumerate(keys) if key not in self._rows}
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        if new:
            # What is kept answers under every mode of torch, so it is computed in none.
            with torch.no_grad():
                values = in_own_modes(compute, list(new.values())).detach().cpu()
            self._rows.update(zip(new, values.unbind(), strict=True))
            if self.folder is not None:
                self._store(self.folder, list(new), values)
        return torch.stack([self._rows[key] for key in keys])

    def _load(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.safetensors")):
            try:
                stored = load(path.read_bytes())
                names = stored["keys"].numpy().tobytes()
                values = stored["values"].unbind()
            except (OSError, KeyError, SafetensorError) as error:
                raise StorageError(
                    "a stored output cannot be read",
                    got=f"{path}: {error}",
                    remedy="Delete the file; its outputs are computed again.",
                ) from error
            for k, row in enumerate(values):
                self._rows[names[k * KEY_BYTES : (k + 1) * KEY_BYTES]] = row
        self._read = True

    def _store(self, folder: Path, keys: list[bytes], values: Tensor) -> None:
        joined = b"".join(keys)
        block = torch.frombuffer(bytearray(joined), dtype=torch.uint8).view(len(keys), KEY_BYTES)
        name = hashlib.sha256(joined).hexdigest()[:24]
        content = save({"keys": block, "values": values.contiguous()})
        write_atomically(folder / f"{name}.safetensors", content)
