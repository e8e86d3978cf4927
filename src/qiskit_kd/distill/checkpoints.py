# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a safetensors file for tensors, and `checkpoint.json` for everything else.

The JSON names the tensor file together with its hash, and renaming it into place is the moment a
checkpoint becomes the current one: whatever happens before leaves the previous pair intact.
`Keeper` fills and reads such pairs for a training loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from qiskit_kd.distill.callbacks import State
from qiskit_kd.distill.outputs import engines
from qiskit_kd.distill.terms import Term
from qiskit_kd.errors import StorageError
from qiskit_kd.files import write_atomically

FORMAT = "qiskit_kd checkpoint 1"
NAME = "checkpoint.json"


def write(
    folder: Path, *, config: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Make these the current checkpoint of `folder`; if that fails, the previous one is intact.

    `config` is the hash of the configuration and data the run belongs to, `values` what JSON holds.
    """
    content = _bytes(tensors)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"state-{digest[:16]}.safetensors"
    record = {"format": FORMAT, "config": config, "tensors": path.name, "sha256": digest}
    write_atomically(path, content)
    write_atomically(folder / NAME, json.dumps({**record, "values": dict(values)}).encode())
    # Former states, and what a killed process left half written.
    for old in (*folder.glob("state-*.safetensors"), *folder.glob(".*-*-*")):
        if old != path:
            with contextlib.suppress(OSError):  # a left-over costs space only
                old.unlink()


def _bytes(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    # Clones, because safetensors refuses tensors that share memory (tied weights).
    return save_tensors({key: t.detach().cpu().clone() for key, t in tensors.items()}, metadata)


def read(folder: Path, *, config: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The current checkpoint of `folder`, None where there is none; that of another run fails."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != FORMAT:
            raise KeyError(f"format {record['format']!r}")
        stored, name, digest = record["config"], record["tensors"], record["sha256"]
        values = record["values"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error
    if stored != config:
        raise StorageError(
            "the checkpoint belongs to another run",
            got=f"{path} of configuration {str(stored)[:12]}",
            expected=f"configuration {config[:12]} (student, terms, options, data and teacher)",
            remedy="Choose another checkpoint_dir, or delete the folder to start anew.",
        )
    try:
        content = (folder / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("its hash differs from the recorded one")
        return load_tensors(content), values
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise _damaged(folder / str(name), str(error)) from error


def _damaged(path: Path, why: str) -> StorageError:
    return StorageError(
        "the checkpoint is damaged",
        got=f"{path}: {why}",
        expected="a file written by qiskit_kd",
        remedy=f"Delete the folder {path.parent} to start anew.",
    )


@dataclass(frozen=True)
class Keeper:
    """Saves and restores everything a training run continues from; without a folder, nothing."""

    folder: Path | None
    config: str
    student: nn.Module
    trained: nn.Module
    optimizer: Optimizer

    def save(self, state: State) -> None:
        """Write a checkpoint."""
        if self.folder is not None:
            tensors, values = self._content(state)
            write(self.folder, config=self.config, tensors=tensors, values=values)

    def packed(self, state: State) -> bytes:
        """The content of a checkpoint as one safetensors file, its values among the metadata."""
        tensors, values = self._content(state)
        return _bytes(tensors, {"format": FORMAT, "values": json.dumps(values)})

    def _content(self, state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
        optimizer = self.optimizer.state_dict()
        parts = {
            "student": self.student.state_dict(),
            "trained": self.trained.state_dict(),
            "best": state.best_weights,
            **{f"optimizer.{k}": content for k, content in optimizer["state"].items()},
        }
        tensors = {"random": torch.get_rng_state()}
        scalars: dict[str, Any] = {}
        for part, content in parts.items():
            for key, value in content.items():
                (tensors if isinstance(value, Tensor) else scalars)[f"{part}.{key}"] = value
        values = {key: value for key, value in vars(state).items() if key != "best_weights"}
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer["param_groups"]]
        positions = [engine.position() for engine in engines(self.student)]
        kept = {"state": values, "groups": groups, "scalars": scalars, "engines": positions}
        return tensors, kept

    def resume(self, state: State) -> None:
        """Bring everything to where the checkpoint left it; nothing happens where there is none."""
        found = None if self.folder is None else read(self.folder, config=self.config)
        if found is None:
            return
        tensors, values = found

        def part(name: str) -> dict[str, Any]:
            return {
                key.removeprefix(f"{name}."): value
                for key, value in {**tensors, **values["scalars"]}.items()
                if key.startswith(f"{name}.")
            }

        for key, value in values["state"].items():
            setattr(state, key, value)
        state.best_weights = part("best")
        self.student.load_state_dict(part("student"))
        self.trained.load_state_dict(part("trained"))
        optimizer = self.optimizer.state_dict()
        for group, saved in zip(optimizer["param_groups"], values["groups"], strict=True):
            # JSON has no tuples, and Adam's betas are one.
            group |= {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        places = {key.split(".")[1] for key in tensors if key.startswith("optimizer.")}
        optimizer["state"] = {int(place): part(f"optimizer.{place}") for place in places}
        self.optimizer.load_state_dict(optimizer)
        torch.set_rng_state(tensors["random"])
        # Engines draw shots, and a resumed run must draw those that come next.
        for engine, position in zip(engines(self.student), values["engines"], strict=True):
            engine.seek(position)


def run_hash(
    student: nn.Module,
    terms: Sequence[Term],
    options: Mapping[str, object],
    tensors: Iterable[Tensor],
) -> str:
    """Hash of all that decides how a run goes, apart from the weights it starts from.

    `tensors` are data and teacher outputs; of the student its structure and shapes count.
    """
    shapes = {k: [*v.shape] for k, v in student.state_dict().items() if isinstance(v, Tensor)}
    described = {
        "student": [_text(student), shapes],
        "terms": [term.describe() for term in terms],
        "options": options,
    }
    digest = hashlib.sha256(json.dumps(described, default=_text, sort_keys=True).encode())
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().data)
    return digest.hexdigest()


def _text(value: object) -> str:
    """Text of a value without memory addresses, which change from process to process."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
