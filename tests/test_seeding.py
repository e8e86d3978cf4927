# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qiskit_kd.seeding import derive, stream

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.text(max_size=8), st.text(max_size=8))
def test_same_names_same_numbers_other_names_other_numbers(seed, first, second):
    same = stream(seed, first).random(4)
    np.testing.assert_array_equal(same, stream(seed, first).random(4))
    if first != second:
        assert not np.array_equal(same, stream(seed, second).random(4))


@given(seeds)
def test_names_are_separated(seed):
    assert derive(seed, "ab", "c") != derive(seed, "a", "bc")
    assert derive(seed, "epoch", 1) != derive(seed, "epoch", 2)


@given(seeds)
def test_derived_seeds_fit_into_63_bits(seed):
    assert 0 <= derive(seed, "aer") < 2**63


def test_every_process_draws_the_same():
    code = "from qiskit_kd.seeding import derive; print(derive(7, 'shuffle', 3))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "123", "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert int(out.stdout) == derive(7, "shuffle", 3)


def test_numpys_global_generator_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 - the global generator is what is under test
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    stream(1, "x").random(10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
