# SPDX-License-Identifier: Apache-2.0
"""What was asked of devices: the sums."""

from __future__ import annotations

import pytest

from qiskit_kd.report.usage import devices_of, is_simulated, sent_jobs, spendings, total_of

from .fake_device import LEVELS, SECONDS, make
from .fake_result import make as make_plain


@pytest.mark.parametrize(
    ("name", "simulated"), [("fake_torino", True), ("aer", True), ("ibm_fez", False)]
)
def test_which_devices_are_simulated(name: str, simulated: bool) -> None:
    assert is_simulated(name) is simulated


def test_per_variant_from_rows_and_in_total_from_jobs() -> None:
    result = make(seeds=3)
    found = {item.variant: item for item in spendings(result)}
    assert list(found) == list(LEVELS)
    assert {item.runs for item in found.values()} == {3}
    tuned = found["fine_tuned"].cost
    assert (tuned.jobs, tuned.pubs, tuned.executions) == (12, 12, 1200)
    assert tuned.seconds == pytest.approx(12 * SECONDS)
    assert tuned.usd is None
    whole = total_of(result)
    assert (whole.jobs, whole.pubs, whole.executions) == (36, 36, 3600)
    assert whole.seconds == sum(item.cost.seconds for item in found.values())


def test_the_price_of_a_second_is_that_of_the_jobs() -> None:
    result = make(seeds=2, usd_per_second=1.5)
    assert total_of(result).usd == pytest.approx(1.5 * 24 * SECONDS)
    found = {item.variant: item.cost.usd for item in spendings(result)}
    assert found["fine_tuned"] == pytest.approx(1.5 * 8 * SECONDS)
    assert found["labels"] == pytest.approx(1.5 * 4 * SECONDS)


def test_without_a_journal_the_rows_are_the_total() -> None:
    result = make(seeds=2)
    result.jobs = []
    assert total_of(result).jobs == 24
    assert total_of(make_plain(seeds=1)).jobs == 0


def test_a_job_that_was_never_sent_does_not_count_nor_do_executions_of_a_failed_one() -> None:
    result = make(seeds=2)
    result.jobs[0] |= {"job_id": None, "status": "intent", "seconds": 0.0}
    result.jobs[1] |= {"status": "failed", "seconds": 1.0}
    assert len(sent_jobs(result)) == 23
    whole = total_of(result)
    assert (whole.jobs, whole.executions) == (23, 2200)
    assert whole.seconds == pytest.approx(22 * SECONDS + 1)


def test_a_run_that_stands_for_several_points_counts_once() -> None:
    result = make(seeds=2)
    once = len(devices_of(result))
    result.rows = [{**row, "point": {"scale": s}} for s in (1, 2) for row in result.rows]
    assert len(devices_of(result)) == once == 10
    assert {item.runs for item in spendings(result)} == {2}
