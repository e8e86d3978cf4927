# SPDX-License-Identifier: Apache-2.0
"""Labels by an exported student, without qiskit_kd: python plain_qiskit.py FOLDER samples.npy"""

import sys
from pathlib import Path

import numpy as np
from qiskit import qpy, transpile
from qiskit_aer.primitives import SamplerV2

folder, samples = sys.argv[1:]
sys.path.insert(0, folder)
import plain  # noqa: E402

with Path(folder, "bound.qpy").open("rb") as file:
    circuit = qpy.load(file)[0]
# Aer binds controlled rotations wrongly, so it gets none.
circuit = transpile(circuit, basis_gates=["rz", "sx", "x", "cx"], optimization_level=1)
angles = plain.angles(np.load(samples))
bits = SamplerV2(seed=0).run([(circuit, angles)], shots=10_000).result()[0].data.meas
counts = [bits[row].get_int_counts() for row in range(len(angles))]
shares = [[each.get(k, 0) / 10_000 for k in range(2**bits.num_bits)] for each in counts]
print(*plain.predict(shares))
