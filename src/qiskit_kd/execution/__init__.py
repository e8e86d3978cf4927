# SPDX-License-Identifier: Apache-2.0
"""How circuit models are run: engines, gradients and the backend registry."""

from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.effective import effective_weights
from qiskit_kd.execution.engine import Engine, Needs, Usage
from qiskit_kd.execution.exact import ExactEngine

__all__ = ["Backend", "Engine", "ExactEngine", "Needs", "Usage"]
__all__ += ["effective_weights", "list_backends", "load_backend"]
