# SPDX-License-Identifier: Apache-2.0
"""What `qkd doctor` looks at: versions, Qiskit's arithmetic, torch, data, backends, accounts.

Tokens are never shown.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import qiskit
from qiskit.circuit import Parameter

from qiskit_kd.errors import QiskitKDError
from qiskit_kd.experiment.loading import example_folders, shipped
from qiskit_kd.experiment.result import environment

if TYPE_CHECKING:
    from qiskit_kd.execution.schema import RuntimeOptions


_ACCOUNTS = Path("~/.qiskit/qiskit-ibm.json")
_VARIABLES = ("QISKIT_IBM_TOKEN", "QISKIT_IBM_CHANNEL", "QISKIT_IBM_INSTANCE", "QISKIT_IBM_URL")


def examine() -> dict[str, dict[str, str]]:
    """Findings by section, for printing; nothing in it is secret."""
    return {
        "versions": environment(),
        "Qiskit": _qiskit(),
        "torch": _torch(),
        "data": _data(),
        "backends": _backends(),
        "IBM accounts": _accounts(),
    }


def _qiskit() -> dict[str, str]:
    """Whether Qiskit computes angles right; versions 2.1.0 to 2.5.1 do not."""
    value, slope = _angles()
    if np.allclose((value, slope), (25.0, -math.sin(0.6))):
        return {"parameter expressions": "right"}
    return {
        "problem": f"Qiskit {qiskit.__version__} computes wrong angles and gradients: a**2 + b**2 "
        f"at (3, 4) is {value:g}, d cos(a)**2 / da at 0.3 is {slope:g}; "
        "pip install 'qiskit>=2.5.2'"
    }


def _angles() -> tuple[float, float]:
    a, b = Parameter("a"), Parameter("b")
    slope = (a.cos() ** 2).gradient(a)
    return float((a**2 + b**2).bind({a: 3.0, b: 4.0})), float(slope.bind({a: 0.3}))


def _torch() -> dict[str, str]:
    import torch

    cuda = torch.version.cuda
    return {
        "build": f"{torch.__version__} ({f'CUDA {cuda}' if cuda else 'CPU'})",
        "CUDA device": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": f"{torch.get_num_threads()} here, 1 in each worker of `qkd run`",
    }


def _data() -> dict[str, str]:
    from qiskit_kd.data import datasets
    from qiskit_kd.data.sources import SOURCES, find

    folders = [str(folder) for folder in example_folders() if folder.is_dir()]
    return {
        "data sets": ", ".join(datasets),
        **{
            source.title: str(find(source) or f"not found; {source.command or 'download: true'}")
            for source in SOURCES.values()
        },
        "experiments": ", ".join(shipped()) or "none found",
        "looked in": ", ".join(folders) or "no folder of examples",
    }


def _backends() -> dict[str, str]:
    from qiskit_kd.execution import backends

    try:
        found = backends.list_backends()
        devices = [
            f"{name} ({backend.options.device}, {_budget(backend.options)})"
            for name, backend in found.items()
            if backend.options.kind == "runtime"
        ]
        return {
            "file": str(backends.backends_path()),
            "names": ", ".join(found),
            "devices": ", ".join(devices) or "none",
        }
    except QiskitKDError as error:
        return {"problem": str(error)}


def _budget(options: RuntimeOptions) -> str:
    if options.budget_seconds is not None:
        return f"at most {options.budget_seconds:g} s"
    return "free" if options.local else "no budget_seconds: nothing is sent"


def _accounts() -> dict[str, str]:
    """Names and channels of saved accounts. Reads the file itself: tokens never enter a message."""
    found = {name: "set" for name in _VARIABLES if os.environ.get(name)}
    path = _ACCOUNTS.expanduser()
    try:
        accounts = json.loads(path.read_text(encoding="utf-8"))
        for name, account in accounts.items():
            found[str(name)] = f"channel {account.get('channel', 'unknown')}"
    except FileNotFoundError:
        pass
    except (OSError, ValueError, AttributeError):
        found["problem"] = f"{path} cannot be read as JSON"
    return found or {"saved": "none; simulators need none"}
