# SPDX-License-Identifier: Apache-2.0
"""Every error the package raises on purpose, and the one form their messages take.

The tree::

    QiskitKDError
    ├── CircuitError    (ValueError)   a circuit, encoding, ansatz or readout that cannot be used
    ├── DataError       (ValueError)   samples, labels or files that cannot be used
    ├── ConfigError     (ValueError)   an experiment, backend file or option that cannot be used
    │   └── UnknownNameError           a name that no registry knows
    ├── DistillError    (ValueError)   losses, teachers and students that do not fit each other
    ├── ExecutionError  (RuntimeError) a backend that failed or refused
    │   ├── AccountError               no account, a wrong token, an instance out of reach
    │   ├── DeviceError                no such device, or a circuit that it cannot run
    │   ├── QuotaError                 the account's time on devices is used up
    │   ├── TransientError             worth another try: too many requests, service or network down
    │   ├── JobError                   a job that failed, was cancelled or took too long
    │   └── UncertainJobError          nobody can say whether a job was sent
    ├── BudgetError     (RuntimeError) refused for money; the command line exits with 3
    ├── ResourceError   (MemoryError)  work that would not fit; refused before it starts
    └── StorageError    (RuntimeError) a damaged or unwritable file

Each message reads: rule; got what; expected what; remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QiskitKDError(Exception):
    """Base of all errors of this package.

    Args:
        rule: What must hold, or what went wrong, in one clause.
        got: What was found instead.
        expected: What would have been accepted.
        remedy: What to do about it.
    """

    def __init__(
        self,
        rule: str,
        *,
        got: str | None = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        parts = [rule]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        text = "; ".join(parts)
        super().__init__(text if remedy is None else f"{text}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries; the finished message is all that has to survive.
        return (type(self), (str(self),))


class CircuitError(QiskitKDError, ValueError):
    """A circuit, encoding, ansatz or readout that cannot be used."""


class DataError(QiskitKDError, ValueError):
    """Samples, labels or data files that cannot be used."""


class ConfigError(QiskitKDError, ValueError):
    """An experiment, a backend file or an option that cannot be used."""


class UnknownNameError(ConfigError):
    """A name that is not registered; the message lists the near and the known ones."""

    @classmethod
    def of(cls, kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
        """Build the error for `name`, suggesting the nearest of `known`."""
        names = sorted(map(str, known))
        near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return cls(
            f"unknown {kind}", got=repr(name), remedy=f"{hint}known: {', '.join(names) or 'none'}"
        )


class DistillError(QiskitKDError, ValueError):
    """Losses, teachers and students that do not fit each other."""


class ExecutionError(QiskitKDError, RuntimeError):
    """A backend that failed or refused."""


class AccountError(ExecutionError):
    """No account, a wrong token, an instance out of reach, or no right to do this."""


class DeviceError(ExecutionError):
    """No such device, or a circuit that the device cannot run; nothing was sent."""


class QuotaError(ExecutionError):
    """The account's time on devices is used up."""


class TransientError(ExecutionError):
    """A failure that another try may overcome: too many requests, service or network down.

    Args:
        rule: What went wrong, in one clause.
        got: What was found instead.
        expected: What would have been accepted.
        remedy: What to do about it.
        retry_after: Seconds that the service asks to wait, or None where it does not say.
    """

    def __init__(
        self,
        rule: str,
        *,
        got: str | None = None,
        expected: str | None = None,
        remedy: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(rule, got=got, expected=expected, remedy=remedy)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"retry_after": self.retry_after})


class JobError(ExecutionError):
    """A job that failed, was cancelled or took too long.

    Args:
        rule: What went wrong, in one clause.
        got: What was found instead.
        expected: What would have been accepted.
        remedy: What to do about it.
        job_id: The job's id at the service, where known.
    """

    def __init__(
        self,
        rule: str,
        *,
        got: str | None = None,
        expected: str | None = None,
        remedy: str | None = None,
        job_id: str | None = None,
    ) -> None:
        super().__init__(rule, got=got, expected=expected, remedy=remedy)
        self.job_id = job_id

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"job_id": self.job_id})


class UncertainJobError(ExecutionError):
    """Nobody can say whether a job was sent, and sending it again might pay twice."""


class BudgetError(QiskitKDError, RuntimeError):
    """Refused for money: no budget, or work that would cross it. Nothing was sent."""


class ResourceError(QiskitKDError, MemoryError):
    """Work that would not fit into memory; refused before it starts."""


class StorageError(QiskitKDError, RuntimeError):
    """A damaged, foreign or unwritable file."""
