# SPDX-License-Identifier: Apache-2.0
"""The lowest version of everything that pyproject.toml asks for, as requirements for pip.

Run: `make test-lowest`, or `python tests/lowest.py > lowest.txt`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def pins(pyproject: Path = PYPROJECT) -> list[str]:
    """`name==lowest` for every dependency of the package and of its tests."""
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    found = []
    for line in declared["project"]["dependencies"] + declared["dependency-groups"]["test"]:
        match = re.fullmatch(r"([\w-]+)>=([\d.]+)(,.*)?", line)
        if match is None:
            raise SystemExit(f"a dependency names its lowest version as name>=version; got {line}")
        found.append(f"{match[1]}=={match[2]}")
    return found


if __name__ == "__main__":
    sys.stdout.write("\n".join(pins()) + "\n")
