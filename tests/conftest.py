# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one thread, no deadlines on a busy machine, and honest skips."""

from __future__ import annotations

import functools
import os
import sqlite3
import sys
import warnings
from typing import Any

# Before anything loads numpy or torch: pytest-xdist shares the cores out, the libraries must not.
for _name in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{_name}_NUM_THREADS", "1")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# Time says nothing on shared cores, and a failing example must be printable to be of use.
settings.register_profile(
    "repository", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repository")


class _Connection(sqlite3.Connection):
    """Warns, as Python 3.13's does, when it is dropped without having been closed."""

    is_open = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.is_open = True

    def close(self) -> None:
        self.is_open = False
        super().close()

    def __del__(self) -> None:
        if self.is_open:
            warnings.warn(
                f"unclosed database in {self!r}", ResourceWarning, stacklevel=2, source=self
            )


if sys.version_info < (3, 13):
    sqlite3.connect = functools.partial(sqlite3.connect, factory=_Connection)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz", type=int, default=10, help="random circuits of tests/execution/test_fuzz.py"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `cuda` are skipped, and listed as such, where there is no CUDA device."""
    wanting = [item for item in items if item.get_closest_marker("cuda")]
    if not wanting:
        return
    import torch

    if not torch.cuda.is_available():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
