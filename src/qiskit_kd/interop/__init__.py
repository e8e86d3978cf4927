# SPDX-License-Identifier: Apache-2.0
"""In and out: objects of other packages as ours, and ours for those who have none of it."""

from qiskit_kd.interop.qnn import from_qnn
from qiskit_kd.interop.sklearn import DistilledClassifier
from qiskit_kd.interop.study import export_study

__all__ = ["DistilledClassifier", "export_study", "from_qnn"]
