# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from qiskit_kd.experiment.spending import spent_of
from qiskit_kd.report.jobs import jobs_text


def job(**facts: Any) -> dict[str, Any]:
    return {
        "backend": "device", "device": "ibm_fez", "job_id": "d3k1", "status": "done", "shots": 1024,
        "executions": 12288, "pubs": 1, "seconds": 5.15, "usd": None, "created": 1.7e9,
        "sent": 1.7e9 + 1, "finished": 1.7e9 + 9, "estimate": 5.2, "error": "", **facts,
    }  # fmt: skip


def test_no_jobs() -> None:
    assert jobs_text([], {}) == "no jobs on devices"


def test_one_line_for_each_job() -> None:
    jobs = [job(), job(job_id="d3k2", seconds=0.0, status="sent", shots=None)]
    lines = jobs_text(jobs, spent_of(jobs, {"device": 600.0})).splitlines()
    assert lines[0].split() == ["job", "backend", "created", "shots", "executions", "s", "status"]
    one, two = (line.split() for line in lines[2:4])
    assert (one[0], one[1], one[4:]) == ("d3k1", "device", ["1,024", "12,288", "5.2", "done"])
    assert (two[0], two[1], two[4:]) == ("d3k2", "device", ["12,288", "0.0", "sent"])
    assert one[2].count("-") == one[3].count(":") - 1 == 1
    assert lines[5:] == [
        "device: 2 jobs, 5.2 s of a budget of 600 s.",
        "1 job is not known to have ended: run the study again, and it is found by id or by tag, "
        "not sent",
        "twice.",
    ]


def test_prices_and_jobs_without_an_id() -> None:
    jobs = [job(usd=8.24), job(job_id=None, status="intent", seconds=0.0),
            job(status="failed", backend="other", job_id="x", seconds=1.0, usd=1.6)]  # fmt: skip
    lines = jobs_text(jobs, spent_of(jobs)).splitlines()
    assert lines[0].split()[-3:] == ["s", "USD", "status"]
    assert lines[2].split()[-3:] == ["5.2", "8.24", "done"]
    assert lines[3].startswith("(no id yet)")
    assert lines[3].endswith("0.0        perhaps sent")
    assert lines[4].split()[-3:] == ["1.0", "1.60", "failed"]
    assert lines[6:8] == ["device: 2 jobs, 5.2 s, 8.24 USD.", "other: 1 job, 1.0 s, 1.60 USD."]


def test_it_fits_a_terminal() -> None:
    long = [job(job_id="local-997b7a3b6b41fcb378fa2047d2794cd3", executions=9_999_999, usd=1000.5,
                seconds=1e4, status="intent")] * 20  # fmt: skip
    text = jobs_text(long, spent_of(long, {"device": 100000.0}))
    assert max(map(len, text.splitlines())) <= 100
    assert "\nlocal-997b7a3b…  " in text
    assert "20 jobs are not known to have ended" in text
