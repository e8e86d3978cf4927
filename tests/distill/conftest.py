# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import pytest

from qiskit_kd.execution.torch_use import one_thread


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    # At these sizes a second thread only waits for the first.
    with one_thread():
        yield
