# SPDX-License-Identifier: Apache-2.0
"""`run_hash`: which run a checkpoint belongs to."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from qiskit_kd.distill.terms import Term

__all__ = ["run_hash"]


def run_hash(
    student: nn.Module, terms: Sequence[Term], options: Mapping[str, object],
    tensors: Iterable[Tensor],
) -> str:  # fmt: skip
    """Hash of everything that decides how a run goes, apart from the weights it starts from.

    Args:
        student: Its structure and the shapes of its state count, not the values.
        terms: The objective.
        options: Of the loop.
        tensors: Data and teacher outputs.
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
