# SPDX-License-Identifier: Apache-2.0
"""Numbers where they come in: Python's, numpy's, torch's and pandas', checked once and by one rule.

What cannot be taken for what it is (complex numbers, values below a mask, text, missing values) is
refused in the caller's own words; nothing is dropped or guessed. Imports neither torch nor numpy
before a value is looked at.
"""

from __future__ import annotations

import inspect
import math
import operator
import reprlib
import sys
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qiskit_kd.errors import ConfigError, DataError, QiskitKDError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

R = TypeVar("R")
_NUMBERED = "numpy.unique(labels, return_inverse=True)[1]"


def shown(value: object) -> str:
    """A value in one short line of a message, arrays by their kind and shape."""
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and shape and kind is not None:
        return f"{type(value).__name__} of {kind}, shape {tuple(shape)}"
    try:
        return reprlib.repr(value)
    except Exception:  # somebody else's __repr__
        return type(value).__name__


def whole(
    value: object,
    rule: str,
    *,
    name: str = "",
    least: int = 0,
    most: int | None = None,
    error: type[QiskitKDError] = ConfigError,
    expected: str | None = None,
    remedy: str | None = None,
) -> int:
    """A whole number as Python's int: an int, or numpy's or torch's integer of any width.

    Booleans are none, nor are floats, whole ones too: a float where a count belongs is more often a
    slip than a count.

    Args:
        value: What was given.
        rule: What must hold, the first clause of the message.
        name: The argument's name, where the rule does not say it.
        least: The smallest that is accepted.
        most: The largest; None: any.
        error: What is raised.
        expected: What the message says would have been accepted.
        remedy: What to do; a float that is whole gets one of its own.

    Raises:
        QiskitKDError: Of the class `error`, for anything else.
    """
    try:
        other = isinstance(value, bool) or "bool" in str(getattr(value, "dtype", ""))
        other = other or getattr(value, "shape", ()) != ()
        found = None if other else operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is not None and found >= least and (most is None or found <= most):
        return found
    if isinstance(value, float) and value.is_integer():
        remedy = f"Write {int(value)}, or int(...) around it."
    bounds = f"{least} or more" if most is None else f"{least} to {most}"
    got = f"{name}={shown(value)}" if name else shown(value)
    raise error(rule, got=got, expected=expected or bounds, remedy=remedy)


def python_number(value: Any) -> Any:
    """A whole number of numpy or torch as Python's; anything else as it is, for who judges it."""
    try:
        return whole(value, "a number", least=-(2**63))
    except ConfigError:
        return value


def real(
    value: object,
    rule: str,
    *,
    name: str = "",
    least: float = -math.inf,
    most: float = math.inf,
    strict: bool = False,
    error: type[QiskitKDError] = ConfigError,
    expected: str | None = None,
    remedy: str | None = None,
) -> float:
    """A finite number as Python's float, from Python, numpy or torch; no boolean, no text.

    Args:
        value: What was given.
        rule: What must hold, the first clause of the message.
        name: The argument's name, where the rule does not say it.
        least: Lower bound.
        most: Upper bound.
        strict: The bounds themselves do not belong to it.
        error: What is raised.
        expected: What the message says would have been accepted.
        remedy: What to do.

    Raises:
        QiskitKDError: Of the class `error`, for anything else.
    """
    kind = str(getattr(value, "dtype", type(value).__name__))
    single = getattr(value, "shape", ()) == ()
    try:
        if not single or isinstance(value, str | bytes) or "bool" in kind or "complex" in kind:
            raise TypeError
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, RuntimeError):
        found = math.nan
    inside = least < found < most if strict else least <= found <= most
    if math.isfinite(found) and inside:
        return found
    got = f"{name}={shown(value)}" if name else shown(value)
    raise error(rule, got=got, expected=expected or "a finite number", remedy=remedy)


def listed(
    values: object,
    rule: str,
    *,
    error: type[QiskitKDError] = ConfigError,
    expected: str | None = None,
    remedy: str | None = None,
) -> list[Any]:
    """The entries of a list, tuple, range or vector; text and mappings are none.

    Raises:
        QiskitKDError: Of the class `error`, for what has no entries in an order.
    """
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return list(values)
    if len(getattr(values, "shape", ())) == 1:
        return list(plain(values, "values", error=error).tolist())
    raise error(rule, got=shown(values), expected=expected or "a list", remedy=remedy)


def named_path(value: object, rule: str, *, error: type[QiskitKDError] = ConfigError) -> Path:
    """Text or a path as a path; whether anything is there is another question.

    Raises:
        QiskitKDError: Of the class `error`, for anything else, and for what no file can be called.
    """
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise error(rule, got=shown(value), expected="text or a pathlib.Path")
    return Path(value)


def plain(values: object, of: str, *, error: type[QiskitKDError] = DataError) -> NDArray[Any]:
    """Any array as numpy's, nothing lost on the way: lists, frames, tensors with gradients.

    Args:
        values: What was given.
        of: What messages call it, in the plural.
        error: What is raised.

    Raises:
        QiskitKDError: Of the class `error`, for values below a mask, sparse matrices, and what
            makes no array.
    """
    import numpy as np

    if hasattr(values, "toarray") or "sparse" in str(getattr(values, "layout", "")):
        dense = "toarray()" if hasattr(values, "toarray") else "to_dense()"
        raise error(
            f"{of} are given as a dense array", got=shown(values), remedy=f"Pass values.{dense}."
        )
    inner = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(each, np.ma.MaskedArray) and np.ma.is_masked(each) for each in inner):
        raise error(
            f"{of} have no masked values",
            got="a masked array",
            remedy="Fill them, values.filled(...), or drop their rows, before they are given.",
        )
    try:
        return np.asarray(_from_torch(values))
    except Exception as problem:
        # Lists of unequal lengths, and whatever somebody else's __array__ raises.
        raise error(
            f"{of} form an array",
            got=str(problem) or type(problem).__name__,
            expected="rows of one length",
            remedy="numpy.asarray(values) has to work.",
        ) from problem


def _from_torch(values: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        return values
    if isinstance(values, torch.Tensor):
        found = values.detach().cpu().resolve_conj().resolve_neg()
        # numpy has no bfloat16 and the like; every one of them fits into a double.
        return (found.double() if found.is_floating_point() else found).numpy()
    if isinstance(values, list | tuple) and any(isinstance(v, torch.Tensor) for v in values):
        return [_from_torch(each) for each in values]
    return values


def numbers(
    values: object, of: str, *, error: type[QiskitKDError] = DataError, copy: bool = False
) -> NDArray[np.float64]:
    """Any array of real, finite numbers in double precision; truth values count as 0 and 1.

    Args:
        values: An array, a list, a frame, a tensor; of any shape with at least one axis.
        of: What messages call it, in the plural.
        error: What is raised.
        copy: Always copy; otherwise only what is not float64 in row order.

    Raises:
        QiskitKDError: Of the class `error`: as `plain`, for complex numbers, text, dates, records
            and missing values, and for NaN and infinity, naming the row.
    """
    import numpy as np

    array = plain(values, of, error=error)
    if array.dtype.kind == "O" and array.ndim:
        array = _converted(array, of, error)
    remedies = {
        "c": "Give real features, e.g. numpy.hstack([z.real, z.imag]), or their absolute values.",
        "U": "Convert them first: numpy.asarray(values).astype(float).",
        "M": "Turn dates into numbers first, e.g. days: (t - t.min()) / numpy.timedelta64(1, 'D').",
        "m": "Divide by a unit first, e.g. values / numpy.timedelta64(1, 's').",
        "V": "Use structured_to_unstructured(values) from numpy.lib.recfunctions.",
    }
    remedies["S"] = remedies["U"]
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise error(
            f"{of} are numbers",
            got=f"{array.dtype}: {shown(array.flat[0])}"
            if array.ndim and array.size
            else shown(values),
            expected="an array of real numbers",
            remedy=remedies.get(array.dtype.kind, "Give a list or an array of numbers."),
        )
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.array(array, dtype=np.float64, order="C", copy=True if copy else None)
        total = found.sum()  # finds NaN and infinity alike; only then is the row looked for
    if not np.isfinite(total) and not (finite := np.isfinite(found)).all():
        place = tuple(int(k) for k in np.argwhere(~finite)[0])
        where = f"row {place[0]}" + (f", feature {place[1]}" if len(place) == 2 else "")
        raise error(
            f"{of} are finite numbers",
            got=f"{found[place]} in {where}",
            remedy="Remove or impute the row.",
        )
    return found


def _converted(array: NDArray[Any], of: str, error: type[QiskitKDError]) -> NDArray[Any]:
    """An array of Python objects as one of doubles, if every one is a real number."""
    import numpy as np

    found = np.empty(array.shape)
    for place, value in np.ndenumerate(array):
        try:
            if isinstance(value, str | bytes | complex | np.complexfloating) or value is None:
                raise TypeError
            found[place] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise error(
                f"{of} are numbers",
                got=f"{shown(value)} in row {place[0]}",
                expected="an array of real numbers",
                remedy="Leave out or convert what is no number, e.g. with astype(float).",
            ) from None
    return found


def class_labels(
    values: object,
    of: str = "labels",
    *,
    error: type[QiskitKDError] = DataError,
    copy: bool = False,
) -> NDArray[np.int64]:
    """Class numbers as an int64 vector: whole numbers of any type, a column, or one-hot rows.

    Args:
        values: `(samples,)` or `(samples, 1)` whole numbers, or `(samples, classes)` with a single
            1 in each row and zeros besides.
        of: What messages call them.
        error: What is raised.
        copy: Always copy; otherwise only what is not int64.

    Raises:
        QiskitKDError: Of the class `error`, naming the row, for anything else.
    """
    import numpy as np

    array = plain(values, of, error=error)
    if array.dtype.kind == "O" and array.ndim:
        textual = any(isinstance(value, str) for value in array.flat)
        array = array.astype(str) if textual else _converted(array, of, error)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf":
        hot = array == 1
        if ((array == 0) | hot).all() and (hot.sum(axis=1) == 1).all():
            array = hot.argmax(axis=1)
    if array.ndim != 1:
        soft = array.ndim == 2 and array.dtype.kind == "f" and probabilities(array)
        raise error(
            f"{of} form a vector",
            got=f"shape {array.shape}",
            expected="(samples,)",
            remedy="Take the likeliest class, argmax(axis=1), or hand the probabilities to a "
            "teacher."
            if soft
            else "Give one class number per sample.",
        )
    if array.dtype.kind == "f":
        far = ~np.isfinite(array) | (array != np.round(array)) | (np.abs(array) > 2**53)
        broken = np.flatnonzero(far)
        if len(broken):
            raise error(
                f"{of} are integers",
                got=f"{array[broken[0]]} in row {broken[0]}",
                remedy="Give class numbers 0, 1, 2 ...",
            )
    elif array.dtype.kind not in "iu":
        raise error(
            f"{of} are integers",
            got=f"dtype {array.dtype}",
            remedy=f"Number the classes: {_NUMBERED}.",
        )
    elif array.dtype.kind == "u" and (array > np.iinfo(np.int64).max).any():
        raise error(
            f"{of} are class numbers",
            got=str(array.max()),
            remedy=f"Number the classes: {_NUMBERED}.",
        )
    found: NDArray[np.int64] = array.astype(np.int64, copy=bool(copy))
    return found


def probabilities(values: Any, *, said: bool = False) -> bool:
    """Whether every row of `(rows, classes)` can only be class probabilities.

    That is: two classes or more, no entry below zero and rows that sum to one, within what rounding
    to three digits or half precision leaves; a single row, which logits may resemble by chance, to
    what single precision leaves. Logits of a whole batch do not look like that.

    Args:
        values: A numpy array or a torch tensor.
        said: Whether the caller says that they are: then a single row may be rounded too.
    """
    if len(values.shape) != 2 or values.shape[1] < 2 or not len(values):
        return False
    sums, near = values.sum(1), 0.01 if said or len(values) > 1 else 1e-5
    return bool((values >= -1e-5).all()) and bool((abs(sums - 1) < near).all())


def image_shape(
    shape: object,
    size: int,
    *,
    error: type[QiskitKDError] = DataError,
    rule: str = "the shape of a sample multiplies to its number of features",
    axes: int | None = None,
    remedy: str | None = None,
) -> tuple[int, ...]:
    """The shape of one sample as a tuple of Python's ints.

    Args:
        shape: Whole numbers whose product is `size`; `(channels, height, width)` for images.
        size: Features of a sample.
        error: What is raised.
        rule: What must hold, the first clause of the message.
        axes: How many numbers there have to be; None: any.
        remedy: What to do.

    Raises:
        QiskitKDError: Of the class `error`, if it is none, does not multiply to `size`, or has the
            channels of an image last.
    """
    expected = "for an image (channels, height, width)"
    told = tuple(shape) if isinstance(shape, list | tuple) else shape
    got = f"shape {shown(told)} for {size} features"
    try:
        sizes = tuple(whole(k, rule, least=1) for k in listed(shape, rule))
    except QiskitKDError:
        sizes = ()
    if not sizes or math.prod(sizes) != size or axes not in (None, len(sizes)):
        raise error(rule, got=got, expected=expected, remedy=remedy)
    if len(sizes) == 3 and min(sizes[:2]) > 4:
        height, width, last = sizes
        if last in (1, 3) or (last == 4 and height == width):
            raise error(
                "the channels of an image come first",
                got=f"shape {sizes}",
                expected=f"{(last, height, width)}",
                remedy=f"Give shape={(last, height, width)}"
                + (
                    "."
                    if last == 1
                    else " and rows in that order: "
                    f"x.reshape(-1, {height}, {width}, {last}).transpose(0, 3, 1, 2)"
                    ".reshape(len(x), -1)."
                ),
            )
    return sizes


def spread(**groups: type) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorator: keywords that are dataclasses are given by their fields instead.

    `@spread(sizes=Sizes)` over `(x, *, seed, sizes)` makes `(x, *, seed, train=..., test=...)`,
    with the fields' own defaults and types, for people and for `inspect.signature`.
    """

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.Signature(spread_parameters(function, groups))

        @wraps(function)
        def spreading(*args: Any, **options: Any) -> R:
            signature.bind(*args, **options)  # a TypeError in its own words
            return function(*args, **gathered(groups, options))

        return with_signature(spreading, signature)

    return decorate


def spread_parameters(
    function: Callable[..., Any], groups: Mapping[str, type]
) -> list[inspect.Parameter]:
    """Parameters of a function with their types, fields in the place of their dataclasses."""
    hints = typing.get_type_hints(function)
    own = [p for name, p in inspect.signature(function).parameters.items() if name not in groups]
    given = [p.replace(annotation=hints.get(p.name, Any)) for p in own]
    return given + [parameter for kind in groups.values() for parameter in keywords(kind)]


def keywords(kind: type, names: Collection[str] | None = None) -> list[inspect.Parameter]:
    """Fields of a dataclass, or those of these names, as keyword parameters."""
    hints, only = typing.get_type_hints(kind), inspect.Parameter.KEYWORD_ONLY
    known = {
        f.name: f.default if f.default is not MISSING else inspect.Parameter.empty
        for f in fields(kind)
    }
    return [
        inspect.Parameter(name, only, default=known[name], annotation=hints[name])
        for name in (known if names is None else names)
    ]


def gathered(groups: Mapping[str, type], options: dict[str, Any]) -> dict[str, Any]:
    """Options with their dataclasses in the place of the fields of these."""
    made = {}
    for name, kind in groups.items():
        own = [field.name for field in fields(kind) if field.name in options]
        made[name] = kind(**{key: options.pop(key) for key in own})
    return {**options, **made}


def with_signature(function: Callable[..., R], signature: inspect.Signature) -> Callable[..., R]:
    """A wrapper with the signature that it has for its callers."""
    returned = typing.get_type_hints(inspect.unwrap(function)).get("return", Any)
    given = {p.name: p.annotation for p in signature.parameters.values()}
    function.__annotations__ = {**given, "return": returned}
    vars(function)["__signature__"] = signature
    return function
