# SPDX-License-Identifier: Apache-2.0
"""The sections of a report, one file each; to add one see `qiskit_kd.report.document`."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

for module in iter_modules(__path__):
    import_module(f"{__name__}.{module.name}")
