# SPDX-License-Identifier: Apache-2.0
"""Whatever torch, numpy, pandas or a file hands us is taken for what it is, or refused."""

from __future__ import annotations

import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.recfunctions import structured_to_unstructured

import qiskit_kd as qkd
from qiskit_kd.errors import CircuitError, ConfigError, DataError, QiskitKDError
from qiskit_kd.values import class_labels, image_shape, listed, numbers, probabilities, real, whole

X = np.array([[0.5, 1.0], [-2.0, 3.0], [4.0, 0.0]])
Y = np.array([1, 0, 2])


class Frame:
    """As pandas: made of columns, an array on request."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.values, dtype=dtype)


FORMS = {
    "list": X.tolist(),
    "tuple of arrays": tuple(X),
    "float32": X.astype(np.float32),
    "float16": X.astype(np.float16),
    "longdouble": X.astype(np.longdouble),
    "big endian": X.astype(">f8"),
    "column order": np.asfortranarray(X),
    "reversed": X[::-1][::-1],
    "read-only": np.frombuffer(X.tobytes()).reshape(X.shape),
    "mask of nothing": np.ma.array(X, mask=False),
    "objects": X.astype(object),
    "fractions": [[Fraction(1, 2), 1], [-2, 3], [4, 0]],
    "numpy scalars": [[np.float32(v) for v in row] for row in X],
    "frame": Frame(X),
    "tensor": torch.tensor(X),
    "tensor with gradient": torch.tensor(X, requires_grad=True),
    "half tensor": torch.tensor(X, dtype=torch.float16),
    "brain tensor": torch.tensor(X, dtype=torch.bfloat16, requires_grad=True),
    "list of tensors": list(torch.tensor(X, requires_grad=True)),
    "list of zero-dimensional tensors": [[torch.tensor(v) for v in row] for row in X],
    "negated view": torch.complex(torch.zeros(3, 2).double(), -torch.tensor(X)).conj().imag,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_numbers_is_the_same(form: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = numbers(FORMS[form], "features")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, X)
    assert numbers(X, "features", copy=True) is not X


REFUSED = {
    "complex": (X + 1j, r"are numbers; got complex128.*real, z\.imag"),
    "complex with zeros": (X + 0j, "complex128"),
    "complex tensor": (torch.tensor(X + 1j), "complex128"),
    "complex objects": (np.array([[1j, 2.0]], object), r"numbers; got 1j in row 0"),
    "mask": (np.ma.array(X, mask=X > 3), r"no masked values; got a masked array\. Fill"),
    "list of masks": ([np.ma.array([1.0, 2.0], mask=[0, 1])] * 2, "no masked values"),
    "text": (X.astype(str), r"numbers; got <U32: .*astype\(float\)"),
    "text in objects": (np.array([["a", 1.0]], object), "'a' in row 0"),
    "bytes": (X.astype("S8"), "numbers; got .S8"),
    "none": ([[1.0, None]], "got None in row 0"),
    "dates": (np.array([["2020-01-01"]], "M8[D]"), r"datetime64.*Turn dates"),
    "differences": (np.array([[3]], "m8[s]"), r"timedelta64.*Divide"),
    "records": (np.zeros(3, [("a", float), ("b", float)]), "structured_to_unstructured"),
    "nan": ([[0.0, 1.0], [np.nan, 1.0]], "finite numbers; got nan in row 1, feature 0"),
    "infinity": ([[0.0, np.inf]], "got inf in row 0, feature 1"),
    "cancelling": ([[np.inf, -np.inf]], "got inf in row 0"),
    "ragged": ([[1.0], [1.0, 2.0]], "form an array; got .*inhomogeneous"),
    "sparse": (scipy.sparse.csr_array(X), r"dense array; got .*toarray\(\)"),
    "sparse tensor": (torch.tensor(X).to_sparse(), r"dense array; .*to_dense\(\)"),
    "mapping": ({"a": 1}, r"are numbers; got \{'a': 1\}"),
    "set": ({1.0, 2.0}, "are numbers; got"),
    "generator": ((v for v in X), "are numbers; got <generator"),
    "number": (3.0, "are numbers; got 3.0"),
    "nothing": (None, "are numbers; got None"),
    "too large": ([[10**400]], "in row 0"),
    "broken frame": (Frame("never"), "are numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_everything_else_is_refused_with_its_reason(case: str) -> None:
    values, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        numbers(values, "features")


def test_bytes_and_truth_values_keep_their_meaning() -> None:
    assert numbers(np.array([[0, 255]], np.uint8), "pixels").tolist() == [[0.0, 255.0]]
    assert numbers(torch.tensor([[0, 255]], dtype=torch.uint8), "pixels").max() == 255
    assert numbers([[True, False]], "features").tolist() == [[1.0, 0.0]]
    assert numbers(np.array([[True, 2.5]], object), "features").tolist() == [[1.0, 2.5]]


def test_the_remedies_work() -> None:
    z = X + 1j
    assert numbers(np.hstack([z.real, z.imag]), "features").shape == (3, 4)
    assert (numbers(X.astype(str).astype(float), "features") == X).all()
    assert numbers(np.ma.array(X, mask=X > 3).filled(0.0), "features").max() == 3
    assert numbers(scipy.sparse.csr_array(X).toarray(), "features").shape == (3, 2)
    assert numbers(torch.tensor(X).to_sparse().to_dense(), "features").shape == (3, 2)
    days = np.array(["2020-01-01", "2020-01-03"], "M8[D]")
    assert numbers((days - days.min()) / np.timedelta64(1, "D"), "days").tolist() == [0, 2]
    assert numbers(np.array([3], "m8[s]") / np.timedelta64(1, "s"), "seconds").tolist() == [3]
    records = np.array([(1.0, 2.0)], [("a", float), ("b", float)])
    assert numbers(structured_to_unstructured(records), "features").tolist() == [[1, 2]]


WIDTHS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]


@pytest.mark.parametrize(
    "value",
    [5, *(np.dtype(kind).type(5) for kind in WIDTHS), np.array(5), torch.tensor(5),
     torch.tensor(5, dtype=torch.uint8)],
)  # fmt: skip
def test_every_whole_number_is_one(value: Any) -> None:
    found = whole(value, "a number")
    assert (found, type(found)) == (5, int)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, torch.tensor(True), np.array(True), 5.0, np.float64(5), 5.5, "5", None, -1,
     [5], np.array([5]), torch.tensor([5]), torch.tensor(5.0), 5j, object(),
     np.timedelta64(5, "s")],
)  # fmt: skip
def test_nothing_else_is_a_whole_number(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"a number; got .*expected 0 or more"):
        whole(value, "a number")


def test_a_whole_float_is_told_how_to_become_one() -> None:
    with pytest.raises(ConfigError, match=r"Write 3, or int"):
        whole(np.float64(3.0), "a number")


@pytest.mark.parametrize(
    "value", [2, 2.0, np.float32(2), np.int8(2), torch.tensor(2.0), np.array(2.0), Fraction(2)]
)
def test_every_real_number_is_one(value: Any) -> None:
    found = real(value, "a number")
    assert (found, type(found)) == (2.0, float)


@pytest.mark.parametrize(
    "value",
    ["2", b"2", True, np.True_, np.nan, np.inf, None, [2.0], np.array([2.0]), 2j, np.complex64(2),
     torch.tensor(True), torch.tensor([2.0]), 10**400, object()],
)  # fmt: skip
def test_nothing_else_is_a_real_number(value: Any) -> None:
    with pytest.raises(ConfigError, match="a number; got"):
        real(value, "a number")


def test_bounds() -> None:
    assert whole(3, "n", least=3, most=3) == 3
    assert real(0, "x", least=0) == 0.0
    for outside in (lambda: whole(4, "n", most=3), lambda: real(0, "x", least=0, strict=True),
                    lambda: real(2, "x", most=1)):  # fmt: skip
        with pytest.raises(QiskitKDError):
            outside()


LABELS = {
    "list": Y.tolist(),
    "bytes": Y.astype(np.uint8),
    "floats": Y.astype(float),
    "column": Y[:, None],
    "column of floats": Y[:, None].astype(np.float32),
    "one-hot": np.eye(3)[Y],
    "one-hot bytes": np.eye(3, dtype=np.uint8)[Y],
    "one-hot truth": np.eye(3, dtype=bool)[Y],
    "one-hot tensor": torch.nn.functional.one_hot(torch.tensor(Y)),
    "objects": Y.astype(object),
    "tensor": torch.tensor(Y),
    "column tensor": torch.tensor(Y, dtype=torch.float32)[:, None],
    "frame": Frame(Y[:, None]),
}


@pytest.mark.parametrize("form", LABELS)
def test_every_form_of_the_same_labels_is_the_same(form: str) -> None:
    found = class_labels(LABELS[form])
    assert found.dtype == np.int64
    assert found.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 1.0], "integers; got 0.5 in row 0"),
        ([0.0, np.nan], "integers; got nan in row 1"),
        ([0.0, 1e300], r"integers; got 1e\+300 in row 1"),
        (["a", "b"], r"got dtype <U1\. Number the classes: numpy\.unique"),
        (np.array(["a", "b"], object), r"got dtype <U1\. Number"),
        (np.array([2**63], np.uint64), "class numbers; got 9223372036854775808"),
        ([[0.2, 0.8]], r"vector; got shape \(1, 2\).*argmax\(axis=1\)"),
        ([[0, 2]], r"vector; got shape \(1, 2\).*one class number"),
        ([[1, 1], [0, 1]], "vector"),
        (np.ma.array([0, 1], mask=[0, 1]), "no masked"),
        ([0, None], "got None in row 1"),
        (3, r"vector; got shape \(\)"),
        (np.array([1j, 0]), "got dtype complex128"),
    ],
)
def test_other_labels_are_refused(values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_labels(values)


@pytest.mark.parametrize(
    "labels", [[-1, 1, -1], ["no", "yes", "no"], [5, 7, 5], [True, False, True]]
)
def test_the_remedy_for_labels_works(labels: Any) -> None:
    numbered = np.unique(labels, return_inverse=True)[1]
    assert sorted(set(class_labels(numbered))) == [0, 1]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    rows=st.integers(2, 40), classes=st.integers(2, 12), seed=st.integers(0, 9999),
    kind=st.sampled_from([np.float64, np.float32, np.float16]), scale=st.floats(0.01, 30),
)  # fmt: skip
def test_probabilities_are_told_from_logits(
    rows: int, classes: int, seed: int, kind: Any, scale: float
) -> None:
    logits = scale * np.random.default_rng(seed).normal(size=(rows, classes))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    assert probabilities(p.astype(kind))
    assert probabilities(torch.tensor(p).to(torch.bfloat16).double())
    assert probabilities(np.round(p, 3)) or classes > 6
    assert not probabilities(logits)
    assert not probabilities(np.log(p + 1e-12))
    assert not probabilities(np.abs(logits) + 1)
    assert not probabilities(p[:, :1])


def test_a_single_row_that_looks_like_probabilities_by_chance() -> None:
    row = np.array([[0.702, 0.305]])
    assert not probabilities(row)
    assert probabilities(row, said=True)
    assert probabilities(np.repeat(row, 2, axis=0))
    assert probabilities(np.array([[0.7, 0.3]], np.float32))


def test_one_row_that_is_none_is_enough() -> None:
    assert not probabilities(np.array([[0.3, 0.7], [0.3, 0.8]]))
    assert not probabilities(np.zeros((0, 3)))
    assert probabilities(np.array([[0.3, 0.7], [1.0, 0.0]]))


def test_channels_come_first() -> None:
    assert image_shape([np.int64(3), 28, 28], 2352) == (3, 28, 28)
    assert image_shape(torch.Size([1, 8, 8]), 64) == (1, 8, 8)
    assert image_shape(np.array([1, 8, 8]), 64) == (1, 8, 8)
    assert image_shape((16, 4, 4), 256) == (16, 4, 4)
    with pytest.raises(DataError, match=r"first; got shape \(28, 28, 3\); expected \(3, 28, 28\)"):
        image_shape((28, 28, 3), 2352)
    with pytest.raises(DataError, match=r"Give shape=\(1, 8, 8\)\.$"):
        image_shape((8, 8, 1), 64)
    x = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    moved = x.reshape(-1, 8, 8, 3).transpose(0, 3, 1, 2).reshape(len(x), -1)
    assert (moved.reshape(2, 3, 8, 8)[1, 2] == x[1, :, :, 2]).all()
    for wrong in ((3, 3), "64", 64, None, {64}, (64.0,), (True, 64), (-8, -8), ()):
        with pytest.raises(DataError, match="multiplies to its number of features"):
            image_shape(wrong, 64)


def test_lists() -> None:
    for form in ([1, 2], (1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2])):
        assert listed(form, "a list") == [1, 2]
    for wrong in ("12", b"12", 3, None, {1, 2}, {1: 2}, np.ones((2, 2))):
        with pytest.raises(ConfigError, match="a list; got"):
            listed(wrong, "a list")


@pytest.mark.parametrize("value", [None, 3, 2.5, b"x.qasm", ["x"], {}, "", "a\0b"])
def test_files_are_named_by_text_or_a_path_at_every_door(value: Any) -> None:
    doors = [
        qkd.circuits.load_ansatz,
        lambda path: qkd.datasets["npz"](path, seed=0),
        qkd.Study.load,
        *([] if value is None or not value else [lambda path: qkd.load_backend("exact", path)]),
    ]
    for door in doors:
        with pytest.raises(
            QiskitKDError, match=r"named by its .*; got (?s:.*)text or a pathlib\.Path"
        ):
            door(value)


@pytest.mark.parametrize("value", [3, 2.5, True, b"ZII", {"ZII": 1}, None])
def test_observables_are_a_list(value: Any) -> None:
    with pytest.raises(CircuitError, match=r"a readout takes a list of observables; got"):
        qkd.Observables(value)


@pytest.mark.parametrize("name", sorted(qkd.circuits.ansatze))
def test_unsigned_sizes_build_the_same_circuit(name: str) -> None:
    build = qkd.circuits.ansatze[name]
    assert build(np.uint8(4), np.uint8(3)) == build(4, 3)
