# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: ARG001 - every loss takes teacher and target, and some read only one of them
"""Losses on class logits, and the registry that holds every distillation loss.

All are pure functions `(student, teacher, target, *, options) -> scalar`; logits are
`(batch, classes)`, targets `(batch,)` class indices, and the batch is always averaged while classes
are always summed. Probabilities appear only as `log_softmax` and `logsumexp`, so values and
gradients stay finite for logits of any size. Losses between feature tensors: `feature_losses`.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from qiskit_kd.errors import DistillError
from qiskit_kd.registry import Registry
from qiskit_kd.values import real, shown

_HALF = (torch.float16, torch.bfloat16)
_HOTTEST = 1_000_000  # beyond it, rounding is larger than what differs between two classes

F = TypeVar("F", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Loss:
    """A loss function together with what it needs; call it like the function.

    Args:
        name: The registered name.
        function: `(student, teacher, target, *, options) -> scalar`.
        teacher: Whether it reads the teacher; such a loss also learns from unlabelled samples,
            unless it needs targets too.
        target: Whether it reads the true classes.
        features: Whether it compares feature tensors of any width instead of class logits.
    """

    name: str
    function: Callable[..., Tensor] = field(repr=False)
    teacher: bool = False
    target: bool = False
    features: bool = False

    def __call__(
        self,
        student: Tensor,
        teacher: Tensor | None = None,
        target: Tensor | None = None,
        **options: object,
    ) -> Tensor:
        """Evaluate the loss; of half precisions in float32, whose squares and sums stay finite."""
        checked = self.check(options)
        needed = {"student": student, **({"teacher": teacher} if self.teacher else {})}
        for name, value in needed.items():
            if not isinstance(value, Tensor) or not value.is_floating_point() or value.ndim < 1:
                raise DistillError(
                    f"the loss {self.name!r} compares tensors of real numbers",
                    got=f"{name}: {shown(value)}",
                    expected="(batch, ...)",
                    remedy="Convert arrays with torch.as_tensor.",
                )
        if self.target and not _is_target(target, student):
            raise DistillError(
                f"the loss {self.name!r} reads one class per sample",
                got=f"target: {shown(target)}",
                expected=f"({len(student)},) integers from 0 to {student.shape[-1] - 1}",
            )
        if student.dtype in _HALF:
            student = student.float()
        if isinstance(teacher, Tensor) and teacher.dtype in _HALF:
            teacher = teacher.float()
        try:
            return self.function(student, teacher, target, **checked)
        except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
            if isinstance(error, DistillError):
                raise
            shapes = ", ".join(f"{name} {shown(value)}" for name, value in needed.items())
            raise DistillError(
                f"the loss {self.name!r} takes tensors that fit each other",
                got=f"{shapes}: {error}",
                expected="outputs for the same samples",
            ) from error

    def check(self, options: Mapping[str, object]) -> dict[str, object]:
        """The options, numbers as Python's; unknown and mistyped ones are a `DistillError`."""
        if not isinstance(options, Mapping):
            raise DistillError(
                f"options of the loss {self.name!r} are named",
                got=shown(options),
                expected="a mapping",
                remedy="For example options={'temperature': 2.0}.",
            )
        parameters = inspect.signature(self.function).parameters.values()
        known = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
        found = dict(options)
        for name, value in options.items():
            if name not in known and not takes_any:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise DistillError(
                    f"the loss {self.name!r} has no such option",
                    got=repr(name),
                    expected=f"one of {', '.join(known)}" if known else "no options at all",
                    remedy=f"{hint}Rename or remove it.",
                )
            default = known.get(name)
            rule = f"the option {name!r} of the loss {self.name!r} has a type"
            remedy = f"The default is {default}."
            if isinstance(default, bool):
                if not isinstance(value, bool | np.bool_):
                    raise DistillError(
                        rule, got=shown(value), expected="true or false", remedy=remedy
                    )
                found[name] = bool(value)
            elif isinstance(default, int | float) and type(value) not in (int, float):
                found[name] = real(
                    value, rule, error=DistillError, expected="a number", remedy=remedy
                )
        return found


def _is_target(target: object, student: Tensor) -> bool:
    """Whether it is one class per row of the student's logits."""
    return (
        isinstance(target, Tensor)
        and target.dtype == torch.int64
        and target.shape == student.shape[:1]
        and student.ndim > 1
        and (not len(target) or 0 <= int(target.min()) <= int(target.max()) < student.shape[-1])
    )


losses: Registry[Loss] = Registry("loss")
"""All losses by name."""


def loss(
    name: str, *, teacher: bool = False, target: bool = False, features: bool = False
) -> Callable[[F], F]:
    """Decorator that files a function in `losses` and returns it unchanged."""

    def keep(function: F) -> F:
        losses.register(name)(Loss(name, function, teacher, target, features))
        return function

    return keep


def standardised(logits: Tensor) -> Tensor:
    """Logits of each sample shifted to mean 0 and scaled to standard deviation 1.

    `z -> (z - mean z) / std z` over the classes: the student matches the teacher's ranking and
    relative gaps, not its scale. A constant row gives zeros.

    References:
        Sun et al., arXiv:2403.01427, algorithm 1.
    """
    centred = logits - logits.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    # The constant inside the root keeps the gradient of a constant row finite.
    return centred / (variance + 1e-6).sqrt()


def _tempered(
    student: Tensor, teacher: Tensor, temperature: float, standardise: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of both at `temperature`."""
    if not 0 < temperature <= _HOTTEST:
        raise DistillError(
            "a temperature is a positive number",
            got=shown(temperature),
            expected=f"for example 2.0, at most {_HOTTEST:,}",
            remedy="Large values soften the teacher, 1 leaves it as it is.",
        )
    if standardise:
        student, teacher = standardised(student), standardised(teacher)
    if temperature != 1:
        student, teacher = student / temperature, teacher / temperature
    return torch.log_softmax(student, dim=-1), torch.log_softmax(teacher, dim=-1)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`KL(p || q)`: sum over classes, mean over the batch."""
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


@loss("ce", target=True)
def ce(student: Tensor, teacher: Tensor | None, target: Tensor) -> Tensor:
    """Cross entropy with the true class, `-mean_b log softmax(z_b)[y_b]`."""
    return functional.cross_entropy(student, target)


@loss("label_smoothing", target=True)
def label_smoothing(
    student: Tensor, teacher: Tensor | None, target: Tensor, *, smoothing: float = 0.1
) -> Tensor:
    """Cross entropy with `(1 - s) onehot(y) + s / C`: the teacher that knows nothing.

    The smoothing s goes from 0 (plain cross entropy) to below 1.

    References:
        Szegedy et al., arXiv:1512.00567, section 7; as a virtual teacher: Yuan et al.,
        arXiv:1909.11723, eq. 4.
    """
    if not 0 <= smoothing < 1:
        raise DistillError(
            "label smoothing mixes a share of the uniform distribution into the labels",
            got=str(smoothing),
            expected="0 <= smoothing < 1",
            remedy="0.1 is customary.",
        )
    return functional.cross_entropy(student, target, label_smoothing=smoothing)


@loss("kl", teacher=True)
def kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    standardise: bool = False,
) -> Tensor:
    """Classic distillation, `T^2 mean_b sum_c p_c log(p_c / q_c)`.

    p is the teacher's and q the student's softmax at temperature T > 0; T^2 keeps the gradient's
    size independent of T. `standardise` comes first, see `standardised`.

    References:
        Hinton et al., arXiv:1503.02531, section 2.
    """
    log_q, log_p = _tempered(student, teacher, temperature, standardise)
    return _divergence(log_p, log_q) * temperature**2


@loss("reverse_kl", teacher=True)
def reverse_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    standardise: bool = False,
) -> Tensor:
    """Mode-seeking distillation, `T^2 mean_b sum_c q_c log(q_c / p_c)`; symbols as in `kl`.

    References:
        Gu et al., arXiv:2306.08543, eq. 1.
    """
    log_q, log_p = _tempered(student, teacher, temperature, standardise)
    return _divergence(log_q, log_p) * temperature**2


@loss("jsd", teacher=True)
def jsd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
    standardise: bool = False,
) -> Tensor:
    """Generalised Jensen-Shannon divergence, `T^2 (beta KL(p||m) + (1 - beta) KL(q||m))`.

    `m = beta p + (1 - beta) q` with beta in [0, 1] mixes the teacher's p and the student's q (see
    `kl`) as probabilities (`logsumexp` of the logarithms, not their mean). The sum vanishes at both
    ends of beta, while divided by beta, or by 1 - beta, it tends to the forward and the reverse KL;
    as the source does, beta = 0 gives `kl` and beta = 1 gives `reverse_kl`.

    References:
        Agarwal et al. (GKD), arXiv:2306.13649, eq. 1.
    """
    if not 0 <= beta <= 1:
        raise DistillError(
            "beta is the teacher's share of the mixture",
            got=str(beta),
            expected="0 <= beta <= 1",
            remedy="0 is forward KL, 0.5 the Jensen-Shannon divergence, 1 reverse KL.",
        )
    log_q, log_p = _tempered(student, teacher, temperature, standardise)
    if beta == 0:
        value = _divergence(log_p, log_q)
    elif beta == 1:
        value = _divergence(log_q, log_p)
    else:
        log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
        value = beta * _divergence(log_p, log_m) + (1 - beta) * _divergence(log_q, log_m)
    return value * temperature**2


@loss("logit_mse", teacher=True)
def logit_mse(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    centre: bool = True,
    standardise: bool = False,
) -> Tensor:
    """Squared logit difference, `mean_b sum_c (z_c - t_c)^2`.

    `centre` subtracts each row's mean first: a softmax does not see it, and a student whose logits
    are log-probabilities could not reproduce the teacher's. `standardise` also divides by each
    row's standard deviation.

    References:
        Kim et al., arXiv:2105.08919, eq. 4 (there without centring).
    """
    if standardise:
        student, teacher = standardised(student), standardised(teacher)
    difference = student - teacher
    if centre:
        difference = difference - difference.mean(dim=-1, keepdim=True)
    return difference.square().sum(dim=-1).mean()


@loss("dkd", teacher=True, target=True)
def dkd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 1.0,
) -> Tensor:
    """Decoupled distillation, `T^2 mean_b (alpha TCKD + beta NCKD)`, of three classes or more.

    TCKD is the KL between the binary distributions (true class, all others), NCKD the KL between
    the distributions over the other classes alone, of which two classes have none. With alpha = 1
    and beta = 1 - p[y] it is `kl`.

    References:
        Zhao et al., arXiv:2203.08679, eq. 5 to 7.
    """
    classes = student.shape[-1]
    if classes < 3:
        raise DistillError(
            "decoupled distillation compares the classes other than the true one",
            got=f"{classes} classes",
            expected="at least 3",
            remedy="Use the loss 'kl' for two classes.",
        )
    log_q, log_p = _tempered(student, teacher, temperature, standardise=False)
    true = functional.one_hot(target, classes).bool()

    def split(log_x: Tensor) -> tuple[Tensor, Tensor]:
        others = log_x[~true].view(-1, classes - 1)
        rest = others.logsumexp(dim=-1, keepdim=True)
        return torch.cat([log_x[true].view(-1, 1), rest], dim=-1), others - rest

    binary_q, others_q = split(log_q)
    binary_p, others_p = split(log_p)
    value = alpha * _divergence(binary_p, binary_q) + beta * _divergence(others_p, others_q)
    return value * temperature**2
