# SPDX-License-Identifier: Apache-2.0
"""`qkd` for programs that are killed again and again: jobs are not spaced out over minutes.

Workers import this module too, as every child of a program that was started so.
"""

from __future__ import annotations

from qiskit_kd.execution.runtime.jobs import SubmitPolicy

_defaults = SubmitPolicy.__init__.__kwdefaults__
assert _defaults is not None
_defaults["per_minute"] = None
_defaults["poll"] = 0.2

if __name__ == "__main__":
    from qiskit_kd.cli import main

    main()
