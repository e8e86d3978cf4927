# SPDX-License-Identifier: Apache-2.0
"""The tables of usage and of jobs."""

from __future__ import annotations

import pytest

from qiskit_kd.report.jobs_table import (
    COLUMNS,
    against_estimate,
    job_lines,
    job_table,
    usage_table,
)

from .fake_device import estimated, make
from .fake_result import make as make_plain


def test_usage_per_variant_and_together() -> None:
    table = usage_table(make())
    assert table is not None
    assert table["heads"] == [
        "variant", "runs", "jobs", "PUBs", "executions", "QPU seconds"
    ]  # fmt: skip
    assert table["lines"][0] == ["noise-aware", "5", "10", "10", "1,000", "30.0"]
    assert table["lines"][1] == ["fine-tuned", "5", "20", "20", "2,000", "60.0"]
    assert table["lines"][-1] == ["together", "25", "60", "60", "6,000", "180.0"]
    assert len(table["lines"]) == 6
    assert usage_table(make_plain(seeds=1)) is None


def test_several_students_are_named() -> None:
    result = make(seeds=1)
    for row in result.rows:
        if row["variant"] == "labels":
            row["student"] = "other_one"
    table = usage_table(result)
    assert table is not None
    assert (table["heads"][:2], table["words"]) == (["student", "variant"], 2)
    assert ["other one", "labels", "1", "2", "2", "200", "6.0"] in table["lines"]
    assert table["lines"][-1][:3] == ["", "together", "5"]


def test_usage_beside_the_estimate_and_the_price() -> None:
    result = make(usd_per_second=2.0)
    result.estimate = estimated(result, 1.05)
    table = usage_table(result)
    assert table is not None
    assert table["heads"][5:] == ["QPU seconds", "expected, s", "USD"]
    assert table["lines"][1][5:] == ["60.0", "63.0", "120.00"]
    assert table["lines"][-1][5:] == ["180.0", "189.0", "360.00"]
    assert all(len(line) == len(table["heads"]) for line in table["lines"])


def test_jobs_of_no_run_have_a_line_of_their_own() -> None:
    result = make()
    result.estimate = estimated(result, 1.0)
    result.rows = [row for row in result.rows if row["variant"] != "labels"]
    table = usage_table(result)
    assert table is not None
    assert table["lines"][-2] == [
        "jobs of no run above", "", "10", "10", "1,000", "30.0", ""
    ]  # fmt: skip
    assert table["lines"][-1][2:] == ["60", "60", "6,000", "180.0", "180.0"]


def test_jobs_that_runs_share_are_taken_off() -> None:
    result = make(usd_per_second=2.0)
    result.jobs = result.jobs[2:]
    table = usage_table(result)
    assert table is not None
    assert table["lines"][-2] == [
        "jobs that runs share, paid once", "", "−2", "−2", "−200", "−6.0", "−12.00"
    ]  # fmt: skip
    assert table["lines"][-1][2:] == ["58", "58", "5,800", "174.0", "348.00"]


@pytest.mark.parametrize(
    ("factor", "end"),
    [
        (1.0, "180.0 s for the whole study, as counted."),
        (1.25, "225.0 s for the whole study; counted is 20.0 % less."),
        (0.8, "144.0 s for the whole study; counted is 25.0 % more."),
    ],
)
def test_against_the_estimate(factor: float, end: str) -> None:
    result = make()
    assert against_estimate(result) == ""
    result.estimate = estimated(result, factor)
    assert against_estimate(result) == f"Expected before the run: {end}"
    result.estimate["may_end_early"] = True
    assert against_estimate(result) == f"Expected before the run: at most {end}"


def test_every_job_with_a_short_id() -> None:
    table = job_table(make())
    assert table is not None
    assert len(table["lines"]) == 60
    assert table["heads"][-1] == "QPU seconds"
    assert table["lines"][1] == [
        "local-012345…", "device", "done", "2026-11-24 15:26:11", "1", "100", "2.5", "3.00"
    ]  # fmt: skip
    assert job_table(make_plain(seeds=1)) is None


def test_prices_times_and_ids_that_are_missing_or_short() -> None:
    result = make(seeds=1, usd_per_second=1.6)
    result.jobs[0] |= {"job_id": "d3k2abc", "sent": None, "usd": None}
    table = job_table(result)
    assert table is not None
    assert table["heads"][-1] == "USD"
    assert table["lines"][0][0] == "d3k2abc"
    assert table["lines"][0][3] == ""
    assert [line[-1] for line in table["lines"][:2]] == ["", "4.80"]


def test_lines_of_the_file_have_whole_ids_and_nothing_of_an_account() -> None:
    result = make(seeds=1)
    result.jobs[0] |= {"account": "mine", "token": "secret", "error": "crn:v1:secret"}
    lines = job_lines(result)
    assert lines[0] == [
        "device", "fake_torino", "local-0123456789abcdef000", "done", 512, 100, 1, 2.5, 3.0, None,
        "2026-11-24T15:26:10Z", "2026-11-24T15:26:10Z", "2026-11-24T15:26:13Z",
    ]  # fmt: skip
    assert len(lines[0]) == len(COLUMNS)
    assert not {"account", "token", "error", "tag"} & set(COLUMNS)
    assert "secret" not in str(lines) + str(job_table(result))
