# SPDX-License-Identifier: Apache-2.0
"""What a caller hands to `run` of a primitive, checked before anything is run, sent or paid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from qiskit.exceptions import QiskitError
from qiskit.primitives import StatevectorEstimator, StatevectorSampler
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub

from qiskit_kd.errors import CircuitError, DataError, QiskitKDError

_MOST_SHOTS = 2**31 - 1  # what simulators and the service can count
_NOTHING = "Nothing was run."
_NUMBERS = "values of parameters are real, finite numbers"
_OF_QISKIT = (QiskitError, TypeError, ValueError, AttributeError, LookupError, OverflowError)


def sampler_pubs(pubs: Iterable[Any], shots: int | None) -> list[Any]:
    """`SamplerPub`s of what a caller gave, with `shots` where a PUB names none.

    Raises:
        DataError: If there is no PUB in it, its values do not fit its circuit or are not real,
            finite numbers, or its shots are no number from 1.
    """

    def coerce(pub: Any) -> Any:
        found = SamplerPub.coerce(pub, _shots(shots))
        number = _shots(found.shots)
        same = type(number) is type(found.shots)  # numpy's integers are no plain data
        return found if same else SamplerPub(found.circuit, found.parameter_values, number)

    return _coerced(coerce, pubs, 1)


def estimator_pubs(pubs: Iterable[Any], precision: float | None) -> list[Any]:
    """`EstimatorPub`s of what a caller gave, with `precision` where a PUB names none.

    Raises:
        DataError: See `sampler_pubs`; or its precision is no finite number from 0.
    """

    def coerce(pub: Any) -> Any:
        found = EstimatorPub.coerce(pub, _precision(precision))
        number = _precision(found.precision)
        if type(number) is type(found.precision):
            return found
        return EstimatorPub(found.circuit, found.observables, found.parameter_values, number)

    return _coerced(coerce, pubs, 2)


def _coerced(coerce: Callable[[Any], Any], pubs: Iterable[Any], values: int) -> list[Any]:
    if not isinstance(pubs, Iterable) or getattr(pubs, "shape", None) == ():
        raise DataError(
            "a primitive runs a list of PUBs",
            got=type(pubs).__name__,
            expected="[(circuit, values)] for a sampler, [(circuit, observables, values)] for an "
            "estimator",
        )
    found = []
    for place, pub in enumerate(pubs):
        if isinstance(pub, tuple) and len(pub) > values and _is_complex(pub[values]):
            remedy = f"Their imaginary parts would be lost. {_NOTHING}"
            got = f"complex numbers, in PUB {place}"
            raise DataError(_NUMBERS, got=got, expected="angles in radians", remedy=remedy)
        try:
            coerced = coerce(pub)
            numbers = coerced.parameter_values.as_array(coerced.circuit.parameters)
        except QiskitKDError:
            raise
        except _OF_QISKIT as error:
            said = " ".join(str(getattr(error, "message", error)).split())
            free = getattr(pub, "parameters", None)
            raise DataError(
                "a PUB is a circuit with as many real values as it has parameters, in its order",
                got=f"PUB {place}: {said or type(error).__name__}",
                expected=None if free is None else f"values for the {len(free)} parameters",
                remedy=_NOTHING,
            ) from None
        if not np.isfinite(numbers).all():
            where = np.argwhere(~np.isfinite(numbers))[0].tolist()
            got = f"{numbers[tuple(where)]} at {where}, in PUB {place}"
            remedy = f"Look where it is from. {_NOTHING}"
            raise DataError(_NUMBERS, got=got, expected="angles in radians", remedy=remedy)
        _check_asked(place, coerced)
        found.append(coerced)
    return found


def _check_asked(place: int, pub: Any) -> None:
    """Refuse a PUB that asks for nothing, or for what is no number: it would be paid for."""
    if not math.prod(pub.shape):
        got = f"shape {pub.shape}, in PUB {place}"
        raise DataError("a PUB has one row of values or more", got=got, remedy=_NOTHING)
    if not hasattr(pub, "observables"):
        if not pub.circuit.cregs:
            raise CircuitError(
                "a sampler runs circuits with measurements",
                got=f"no classical register, in PUB {place}",
                remedy="Measure before transpiling.",
            )
        return
    for observable in pub.observables.ravel().tolist():
        if not all(map(math.isfinite, observable.values())):
            rule = "coefficients of observables are real, finite numbers"
            raise DataError(rule, got=f"{observable!r:.80}, in PUB {place}", remedy=_NOTHING)


def _is_complex(values: Any) -> bool:
    if isinstance(values, Mapping):
        return any(map(_is_complex, values.values()))
    try:
        return bool(np.iscomplexobj(values))
    except ValueError:  # ragged: said where it is coerced
        return False


def _shots(shots: Any) -> int | None:
    whole = isinstance(shots, Integral) and not isinstance(shots, bool)
    if shots is None or (whole and 1 <= shots <= _MOST_SHOTS):
        return None if shots is None else int(shots)
    rule, expected = "a number of shots is a positive integer", f"1 to {_MOST_SHOTS:,}"
    raise DataError(rule, got=repr(shots), expected=expected, remedy=_NOTHING)


def _precision(precision: Any) -> float | None:
    number = isinstance(precision, Real) and not isinstance(precision, bool)
    if precision is None or (number and 0 <= precision < math.inf):
        return None if precision is None else float(precision)
    rule = "a precision is a standard error"
    expected = "a finite number from 0, where 0 stands for exact values"
    raise DataError(rule, got=repr(precision), expected=expected, remedy=_NOTHING)


class ExactSampler(StatevectorSampler):  # type: ignore[misc]
    """Qiskit's `StatevectorSampler`, whose PUBs are checked."""

    def run(self, pubs: Iterable[Any], *, shots: int | None = None) -> Any:
        """See `BaseSamplerV2.run`."""
        return super().run(sampler_pubs(pubs, self.default_shots if shots is None else shots))


class ExactEstimator(StatevectorEstimator):  # type: ignore[misc]
    """Qiskit's `StatevectorEstimator`, whose PUBs are checked."""

    def run(self, pubs: Iterable[Any], *, precision: float | None = None) -> Any:
        """See `BaseEstimatorV2.run`."""
        precision = self.default_precision if precision is None else precision
        return super().run(estimator_pubs(pubs, precision))
