# SPDX-License-Identifier: Apache-2.0
"""IBM devices through the Runtime service: priced before, journalled during, never paid twice.

Loading this package loads nothing of `qiskit_ibm_runtime`, which takes seconds; that happens inside
the functions that need it.
"""
