# SPDX-License-Identifier: Apache-2.0
"""Where on a device circuits ran: calibration, physical qubits of every copy, their errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from qiskit_kd.report.palette import listed, readable
from qiskit_kd.report.summary import Result
from qiskit_kd.report.usage import calibrations_of, devices_of, is_simulated

__all__ = ["day", "layouts"]


def layouts(result: Result) -> list[dict[str, Any]]:
    """One entry per device and calibration, with its distinct circuits; equal ones once."""
    found: dict[tuple[str, str | None], dict[str, Mapping[str, Any]]] = {}
    backends: dict[tuple[str, str | None], list[str]] = {}
    for entry in devices_of(result):
        key = str(entry["device"]), entry["calibrated"]
        known, name = found.setdefault(key, {}), readable(str(entry["backend"]))
        backends[key] = [*dict.fromkeys((*backends.get(key, ()), name))]
        for circuit in entry["circuits"]:
            known.setdefault(json.dumps(circuit, sort_keys=True), circuit)
    return [
        {
            "name": readable(device),
            "facts": [
                ("used as", listed(backends[device, calibrated])),
                ("kind", "simulated in the process, from the device's stored calibration"
                 if is_simulated(device) else "quantum processor"),
                ("calibrated", day(calibrated)),
                *[("jobs ran under the calibrations of", listed(map(day, dates)))
                  for dates in [calibrations_of(result, device)] if dates],
                ("circuits", f"{len(circuits)} distinct"),
            ],
            "circuits": [_circuit(circuit) for circuit in circuits.values()],
        }
        for (device, calibrated), circuits in found.items()
    ]  # fmt: skip


def _circuit(facts: Mapping[str, Any]) -> dict[str, Any]:
    tiles, readout = facts["tiles"], facts["readout"]
    copies = len(facts["layout"])
    text = (
        f"{facts['two_qubit_gates']:,} two-qubit gates, depth {facts['depth']:,}, "
        f"{1e6 * facts['duration']:.2f} µs; "
    )
    text += f"{copies} copies side by side" if copies > 1 else "one copy"
    left_out = facts.get("left_out") or []
    if tiles:
        text += (
            f", with {tiles[0]['error']:.2f} to {tiles[-1]['error']:.2f} faults to be expected in "
            "one run of a copy"
        )
    lines = [
        {
            "place": f"{place + 1}", "qubits": _path(tiles[place]["qubits"] if tiles else qubits),
            "error": f"{tiles[place]['error']:.3f}" if tiles else "",
            "ratio": f"{tiles[place]['ratio']:.2f}" if tiles else "",
            "readout": f"{100 * float(np.mean(readout[place])):.1f}" if readout else "",
            "out": False,
        }
        for place, qubits in enumerate(facts["layout"])
    ]  # fmt: skip
    lines += [
        {
            "place": "left out", "qubits": _path(tile["qubits"]), "error": f"{tile['error']:.3f}",
            "ratio": f"{tile['ratio']:.2f}", "readout": "", "out": True,
        }
        for tile in left_out
    ]  # fmt: skip
    return {"text": f"{text}.", "lines": lines, "judged": bool(tiles), "out": len(left_out)}


def _path(qubits: list[int]) -> str:
    return " ".join(map(str, qubits))


def day(calibrated: str | None) -> str:
    """`2025-02-26 15:26 (UTC−05:00)` of an ISO date; what is not known is said to be so."""
    if calibrated is None:
        return "unknown"
    day, _, rest = calibrated.partition("T")
    return f"{day} {rest[:5]}{_zone(rest)}" if rest else day


def _zone(rest: str) -> str:
    if rest.endswith("Z"):
        return " UTC"
    return f" (UTC{rest[-6:].replace('-', '−')})" if rest[-6:-5] in ("+", "-") else ""
