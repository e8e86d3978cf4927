# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from qiskit_kd.execution.runtime.cost import Cost
from qiskit_kd.experiment.cost import Choice, Estimate, Kind, Site
from qiskit_kd.report.price import price_text
from qiskit_kd.report.terminal import WIDTH

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
─────────────────────────────────────────────────────────────
quantum       plain      2       2,000    20   40.5   64.80
hybrid    distilled      1       5,000    30   70.0  112.00
together                 3       7,000    50    110  176.80

this experiment with               executions  jobs    QPU s      USD  seconds
────────────────────────────────────────────────────────────────────────────────
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
