# SPDX-License-Identifier: Apache-2.0
"""Data sets by name, the split every experiment works on, and perturbations of samples."""

from qiskit_kd.data.dataset import Dataset, Split, datasets
from qiskit_kd.data.digits import digits
from qiskit_kd.data.images import cifar10, fashion_mnist, mnist
from qiskit_kd.data.perturbations import noisy, perturbations, rotated
from qiskit_kd.data.splits import arrays, npz, stratified_split
from qiskit_kd.data.xor import extended_xor

__all__ = [
    "Dataset",
    "Split",
    "arrays",
    "cifar10",
    "datasets",
    "digits",
    "extended_xor",
    "fashion_mnist",
    "mnist",
    "noisy",
    "npz",
    "perturbations",
    "rotated",
    "stratified_split",
]
