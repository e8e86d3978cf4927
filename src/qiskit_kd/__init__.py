# SPDX-License-Identifier: Apache-2.0
"""Knowledge distillation between classical and quantum networks, native to Qiskit.

The public names below are loaded on first use, so `import qiskit_kd` costs next to nothing and
`qiskit_kd.circuits` works without torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Backend": "execution.backends",
    "CircuitModel": "circuits",
    "ClassGroups": "circuits",
    "Dataset": "data",
    "DistilledClassifier": "interop",
    "Distiller": "distill",
    "Encoding": "circuits",
    "Observables": "circuits",
    "QuantumLayer": "nn",
    "Split": "data",
    "Study": "experiment",
    "Teacher": "distill",
    "Term": "distill",
    "circuits": "",
    "data": "",
    "datasets": "data",
    "distill": "",
    "errors": "",
    "execution": "",
    "experiment": "",
    "export": "nn",
    "from_qnn": "interop",
    "interop": "",
    "list_backends": "execution.backends",
    "load_backend": "execution.backends",
    "losses": "distill",
    "nn": "",
    "report": "",
    "students": "nn",
}

__all__ = [
    "Backend",
    "CircuitModel",
    "ClassGroups",
    "Dataset",
    "DistilledClassifier",
    "Distiller",
    "Encoding",
    "Observables",
    "QuantumLayer",
    "Split",
    "Study",
    "Teacher",
    "Term",
    "circuits",
    "datasets",
    "distill",
    "errors",
    "export",
    "from_qnn",
    "list_backends",
    "load_backend",
    "losses",
    "students",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("qiskit-kd")
        except PackageNotFoundError:  # a source tree that was never installed
            return "0+unknown"
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if not home:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
