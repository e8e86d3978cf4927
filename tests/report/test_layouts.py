# SPDX-License-Identifier: Apache-2.0
"""Where on a device circuits ran."""

from __future__ import annotations

import pytest

from qiskit_kd.report.hardware_words import bill
from qiskit_kd.report.layouts import layouts

from .fake_device import CIRCUIT, make
from .fake_result import make as make_plain


def test_device_calibration_and_every_copy_best_first() -> None:
    (device,) = layouts(make())
    assert device["name"] == "fake torino"
    assert dict(device["facts"]) == {
        "used as": "device",
        "kind": "simulated in the process, from the device's stored calibration",
        "calibrated": "2025-02-26 15:26 (UTC−05:00)",
        "circuits": "1 distinct",
    }
    (circuit,) = device["circuits"]
    assert circuit["text"] == (
        "50 two-qubit gates, depth 175, 7.18 µs; 2 copies side by side, with 0.25 to 0.50 faults "
        "to be expected in one run of a copy."
    )
    assert circuit["lines"] == [
        {"place": "1", "qubits": "3 4 5", "error": "0.250", "ratio": "1.00", "readout": "2.0",
         "out": False},
        {"place": "2", "qubits": "9 8 7", "error": "0.500", "ratio": "2.00", "readout": "4.0",
         "out": False},
        {"place": "left out", "qubits": "0 1 2", "error": "1.000", "ratio": "4.00", "readout": "",
         "out": True},
    ]  # fmt: skip
    assert circuit["out"] == 1


def test_one_copy_has_qubits_and_no_score_and_old_rows_do_not_say_what_was_left_out() -> None:
    result = make(seeds=1, device="ibm_fez")
    alone = {**CIRCUIT, "layout": [[3, 4, 5]], "readout": [[[0.01, 0.03]] * 3], "tiles": []}
    del alone["left_out"]
    for row in result.rows:
        for entry in row.get("devices", ()):
            entry["circuits"] = [alone]
    (device,) = layouts(result)
    assert dict(device["facts"])["kind"] == "quantum processor"
    (circuit,) = device["circuits"]
    assert circuit["text"] == "50 two-qubit gates, depth 175, 7.18 µs; one copy."
    assert circuit["lines"] == [
        {"place": "1", "qubits": "3 4 5", "error": "", "ratio": "", "readout": "2.0", "out": False}
    ]
    assert (circuit["judged"], circuit["out"]) == (False, 0)


def test_another_circuit_and_another_day_are_listed_apart() -> None:
    result = make(seeds=2)
    rows = [row for row in result.rows if row.get("devices")]
    rows[0]["devices"][0]["circuits"] = [CIRCUIT, {**CIRCUIT, "depth": 9}]
    rows[1]["devices"][0]["calibrated"] = None
    found = layouts(result)
    assert [len(device["circuits"]) for device in found] == [2, 1]
    assert dict(found[0]["facts"])["circuits"] == "2 distinct"
    assert dict(found[1]["facts"])["calibrated"] == "unknown"


def test_two_backends_on_one_device_share_a_table() -> None:
    result = make(seeds=2)
    rows = [row for row in result.rows if row.get("devices")]
    rows[0]["devices"].append({**rows[0]["devices"][0], "backend": "tuner"})
    (device,) = layouts(result)
    assert dict(device["facts"])["used as"] == "device and tuner"
    assert len(device["circuits"]) == 1


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2025-02-26", "2025-02-26"),
        ("2025-02-26T15:26:08Z", "2025-02-26 15:26 UTC"),
        ("2025-02-26T15:26:08", "2025-02-26 15:26"),
        ("2025-02-26T15:26:08+01:00", "2025-02-26 15:26 (UTC+01:00)"),
    ],
)
def test_dates(written: str, said: str) -> None:
    result = make(seeds=1)
    for row in result.rows:
        for entry in row.get("devices", ()):
            entry["calibrated"] = written
    assert dict(layouts(result)[0]["facts"])["calibrated"] == said


def test_no_device_no_layout() -> None:
    assert layouts(make_plain(seeds=1)) == []


def test_a_recalibration_is_said() -> None:
    result = make(device="ibm_fez")
    entries = [entry for row in result.rows for entry in row.get("devices", ())]
    assert "calibrated anew" not in bill(result)
    entries[0]["calibrations"] = [CIRCUIT["calibrated"], "2025-02-27T15:26:08-05:00"]
    both = "2025-02-26 15:26 (UTC−05:00) and 2025-02-27 15:26 (UTC−05:00)"
    assert (
        f". ibm fez was calibrated anew: its jobs ran under the calibrations of {both}, and "
        "readout errors, where they are undone, are those in force when each job ran."
    ) in bill(result)
    (device,) = layouts(result)
    assert dict(device["facts"])["jobs ran under the calibrations of"] == both
