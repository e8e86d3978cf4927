# SPDX-License-Identifier: Apache-2.0
"""How much memory is free, so that work that cannot fit is refused before it starts."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_bytes"]


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """Bytes that can be allocated without swapping; an estimate where the system does not tell."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // 2
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
