# SPDX-License-Identifier: Apache-2.0
"""How circuit models are run: engines, gradients and the backend registry."""

from qiskit_kd.execution.backends import Backend, list_backends, load_backend
from qiskit_kd.execution.engine import Engine, Needs, Usage
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.execution.exact.engine import effective_weights

__all__ = ["Backend", "Engine", "ExactEngine", "Needs", "Usage"]
__all__ += ["effective_weights", "list_backends", "load_backend"]
