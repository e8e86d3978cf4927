# SPDX-License-Identifier: Apache-2.0
"""Money as plain text: a price before the run, jobs after it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from qiskit_kd.execution.runtime.cost import Cost
from qiskit_kd.experiment.cost import Choice, Estimate, Kind, Site
from qiskit_kd.experiment.spending import spent_of
from qiskit_kd.report.costs import jobs_text, price_text
from qiskit_kd.report.text import WIDTH

SITE = Site(
    "device", "ibm_example", 1024, "spsa", 4, 13, 15, 250e-6, 4.1e-6, "2026-11-24T10:00:00+00:00",
    1.6, 100.0, Cost(7000, 50, 50, 110.5, 176.8),
)  # fmt: skip
FOUND = Estimate(
    "small", (SITE,),
    (
        Kind("quantum", "plain", "", 2, Cost(1000, 10, 10, 20.25, 32.4)),
        Kind("hybrid", "distilled", "", 1, Cost(5000, 30, 30, 70.0, 112.0)),
    ),
    (
        Choice("spsa", False, Cost(90_000, 50, 50, 300.0, 480.0)),
        Choice("spsa", True, Cost(7000, 50, 50, 110.5, 176.8)),
        Choice("shift", False, Cost(900_000, 50, 50, 3000.0, 4800.0)),
        Choice("shift", True, Cost(70_000, 50, 50, 1105.0, 1768.0)),
    ),
    Cost(900_000, 100, 9000, 3100.0, 4960.0), Cost(3_600_000, 100, 9000, 221_000.0, 353_600.0),
    False,
)  # fmt: skip


def test_all_of_it() -> None:
    assert (
        price_text(FOUND)
        == """\
small: 110 s of quantum processor time, 18% of the 600 s that IBM's free plan has in 28 days; 50
jobs, 7,000 executions; 176.80 USD.

on device (ibm_example, calibrated 2026-11-24): 1,024 shots; SPSA with 4 perturbations; 13 copies of
the circuit at a time, 15 would fit; 250 us of delay and a circuit of 4.1 us for each execution. 110
s there is MORE THAN its budget of 100 s.

Jobs are sent 5 in a minute at most: on a real device this takes at least 10 minutes, before any
queue.

student     variant  tasks  executions  jobs  QPU s     USD
───────────────────────────────────────────────────────────
quantum       plain      2       2,000    20   40.5   64.80
hybrid    distilled      1       5,000    30   70.0  112.00
together                 3       7,000    50    110  176.80

this experiment with               executions  jobs    QPU s      USD  seconds
──────────────────────────────────────────────────────────────────────────────
as it stands                            7,000    50      110   176.80      1 x
SPSA, no tiling                        90,000    50      300   480.00   2.71 x
SPSA, 13 tiles                          7,000    50      110   176.80      1 x
parameter shift, no tiling            900,000    50    3,000    4,800   27.1 x
parameter shift, 13 tiles              70,000    50    1,105    1,768     10 x
stock SamplerQNN, parameter shift     900,000   100    3,100    4,960   28.1 x
the same with its 4,096 shots       3,600,000   100  221,000  353,600  2,000 x"""
    )


def test_a_price_that_nobody_knows() -> None:
    def free(cost: Cost) -> Cost:
        return replace(cost, usd=None)

    unknown = replace(
        FOUND, kinds=tuple(replace(k, each=free(k.each)) for k in FOUND.kinds),
        choices=tuple(replace(c, cost=free(c.cost)) for c in FOUND.choices),
        stock=free(FOUND.stock), stock_default=free(FOUND.stock_default),
        sites=(replace(SITE, usd_per_second=None, calibrated=None, budget_seconds=None),),
        may_end_early=True,
    )  # fmt: skip
    text = price_text(unknown)
    assert "small: at most 110 s" in text
    assert "a price needs usd_per_second in the backend's entry." in " ".join(text.split())
    assert "USD" not in text
    assert "budget" not in text
    assert "(ibm_example, calibration unknown)" in text


@pytest.mark.parametrize(("seconds", "share"), [(600.0, "100% of"), (1500.0, "2.5 times")])
def test_the_free_plan(seconds: float, share: str) -> None:
    kind = replace(FOUND.kinds[0], tasks=1, each=Cost(10, 1, 1, seconds, 1.0))
    text = " ".join(price_text(replace(FOUND, kinds=(kind,))).split())
    assert f"{share} the 600 s that IBM's free plan has in 28 days; 1 job, 10 exec" in text


def test_parameter_shift_and_points_of_axes() -> None:
    site = replace(SITE, gradient="shift", tiles=1, budget_seconds=111.0)
    kinds = tuple(replace(kind, where="noise 0.5") for kind in FOUND.kinds)
    text = price_text(replace(FOUND, sites=(site,), kinds=kinds))
    assert "1,024 shots; parameter shift; 1 copy of" in text
    assert "SPSA, 15 tiles" in text
    assert "noise 0.5" in text
    assert "110 s there is within its budget of 111 s." in " ".join(text.split())
    assert all(len(line) <= WIDTH for line in text.splitlines())


def test_a_brief_price() -> None:
    whole, brief = price_text(FOUND), price_text(FOUND, brief=True)
    assert whole.startswith(f"{brief}\n\nthis experiment with")
    many = replace(FOUND, kinds=FOUND.kinds * 7)
    text = price_text(many, brief=True)
    assert "quantum  " not in text
    assert "on device (ibm_example" in text
    assert price_text(many).count("\nquantum") == 7


def job(**facts: Any) -> dict[str, Any]:
    return {
        "backend": "device", "device": "ibm_fez", "job_id": "d3k1", "status": "done", "shots": 1024,
        "executions": 12288, "pubs": 1, "seconds": 5.15, "usd": None, "created": 1.7e9,
        "sent": 1.7e9 + 1, "finished": 1.7e9 + 9, "estimate": 5.2, "error": "", **facts,
    }  # fmt: skip


def test_one_line_for_each_job() -> None:
    assert jobs_text([], {}) == "no jobs on devices"
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
