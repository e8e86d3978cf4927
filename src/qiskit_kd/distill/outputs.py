# SPDX-License-Identifier: Apache-2.0
"""What a network returns, taken for class logits only where it can be nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from qiskit_kd.errors import DistillError, QiskitKDError
from qiskit_kd.values import probabilities

__all__ = ["BINARY", "check_logits", "class_rows", "log_probabilities", "passed"]

_FLOOR = 1e-12  # keeps log p finite where a probability is zero

BINARY = (
    "One number per sample speaks of two classes: return torch.cat([0 * z, z], dim=1) for a logit "
    "z, torch.log(torch.cat([1 - p, p], dim=1)) for a probability p, each of shape (n, 1)."
)
_REMEDIES = {
    "student": "Return logits: leave the softmax out; wrap a circuit's probabilities, "
    "qiskit_kd.nn.FullyQuantumStudent(network); or return log(p).",
    "teacher": "Say so: outputs='probabilities'; or outputs='logits' if they are logits after all.",
}


def passed(network: nn.Module, batch: Tensor, *, role: str) -> object:
    """What a network returns for a batch.

    Raises:
        DistillError: If it fails, for instance on samples of another width.
    """
    try:
        return network(batch)
    except (
        RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError
    ) as error:  # fmt: skip
        if isinstance(error, QiskitKDError):
            raise
        raise DistillError(
            f"a {role} runs on the samples", got=f"{type(error).__name__}: {error}",
            expected=f"a forward pass on a tensor of {batch.dtype}, shape {tuple(batch.shape)}",
            remedy="Build the network for samples of this shape and type.",
        ) from error  # fmt: skip


def class_rows(output: object, rows: int, *, role: str) -> Tensor:
    """The output of a network if it is one row of real numbers for two or more classes per sample.

    Args:
        output: What the network returned.
        rows: Number of samples it was given.
        role: `student` or `teacher`.

    Raises:
        DistillError: For anything else.
    """
    rule = f"a {role} returns one row of class logits per sample"
    if not isinstance(output, Tensor):
        inner = hasattr(output, "logits") or (isinstance(output, dict) and "logits" in output)
        part = "output.logits" if inner else "one tensor"
        raise DistillError(
            rule, got=type(output).__name__, expected=f"a tensor ({rows}, classes)",
            remedy=f"Wrap the network in a torch.nn.Module whose forward returns {part}.",
        )  # fmt: skip
    single = output.shape in ((rows,), (rows, 1))
    if output.ndim != 2 or len(output) != rows or single:
        raise DistillError(
            rule, got=f"shape {tuple(output.shape)} for {rows} samples",
            expected=f"({rows}, classes)",
            remedy=BINARY if single else "Wrap the network so that it returns its logits only.",
        )  # fmt: skip
    if not output.is_floating_point():
        raise DistillError(
            f"class logits of a {role} are real numbers", got=str(output.dtype),
            expected="a floating-point tensor",
            remedy="Return what comes before any argmax; of complex numbers the real part.",
        )  # fmt: skip
    return output


def check_logits(values: Tensor, *, role: str) -> None:
    """Refuse class probabilities where logits belong.

    Raises:
        DistillError: As said.
    """
    if probabilities(values.detach()):
        raise DistillError(
            f"a {role} returns logits", got="rows that sum to 1 without a negative number, which "
            "are class probabilities", expected="logits, e.g. log(p)", remedy=_REMEDIES[role],
        )  # fmt: skip


def log_probabilities(values: Tensor) -> Tensor:
    """Logits of `(rows, classes)` class probabilities: their logarithms.

    Raises:
        DistillError: If they are none.
    """
    if not probabilities(values, said=True):
        sums = values.sum(dim=1)
        raise DistillError(
            "class probabilities are not negative and sum to 1",
            got=f"numbers from {float(values.min()):.3g}, rows that sum to {float(sums.min()):.3g} "
            f"up to {float(sums.max()):.3g}",
            remedy="Leave outputs= out if they are logits; divide rows of counts by their sums.",
        )  # fmt: skip
    return values.clamp_min(_FLOOR).log()
