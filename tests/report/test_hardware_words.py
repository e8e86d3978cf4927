# SPDX-License-Identifier: Apache-2.0
"""Every sentence about devices: what it says, and that it says no more than was found."""

from __future__ import annotations

import pytest

from qiskit_kd.report import terminal_table
from qiskit_kd.report.beside import beside
from qiskit_kd.report.hardware_words import (
    bill,
    ends,
    in_brief,
    lead,
    mitigation,
    number,
    price,
    said,
    seconds,
    teaching,
    test_sentence,
    tuning_tag,
)
from qiskit_kd.report.summary import ALONE, alone
from qiskit_kd.report.terminal import WIDTH
from qiskit_kd.report.tuning import Change, corrected

from .fake_device import LEVELS, make
from .fake_noise import make as make_noise
from .fake_result import make as make_plain

test_sentence.__test__ = False  # type: ignore[attr-defined]
WORSE = LEVELS | {"fine_tuned": (0.6, 0.65, 0.78)}
SAME = LEVELS | {"fine_tuned": (0.5, 0.6, 0.8)}


def change(metric: str = "kl", *, mean: float = -0.1, low: float | None = -0.2, n: int = 5):
    high = None if low is None else 0.05
    return Change("validation", metric, 0.5, 0.4, mean, low, high, n, "not confirmed")


def test_the_first_line_says_that_it_helps() -> None:
    assert lead(make()) == (
        "Fine-tuning on fake torino helps the sharp student: validation KL −0.100 nats (95 % "
        "interval −0.102 to −0.098, n = 5 paired seeds)."
    )
    assert tuning_tag(make()) == "confirmed"


def test_the_first_line_says_that_it_harms() -> None:
    found = make(levels=WORSE)
    assert lead(found).startswith("Fine-tuning on fake torino harms the sharp student: validation ")
    assert "KL +0.100 nats" in lead(found)
    assert tuning_tag(found) == "harmful"


def test_the_first_line_says_plainly_that_it_does_not_help() -> None:
    found = make(levels=SAME)
    assert lead(found).startswith(
        "Fine-tuning on fake torino is not confirmed to help the sharp student: validation KL "
    )
    assert tuning_tag(found) == "not confirmed"


@pytest.mark.parametrize(
    ("seeds", "numbers"), [(1, "(one seed only, n = 1)"), (4, "n = 4 paired seeds)")]
)
def test_the_first_line_says_that_seeds_are_too_few(seeds: int, numbers: str) -> None:
    text = lead(make(seeds=seeds))
    assert text.startswith(
        "Too few seeds to say whether fine-tuning on fake torino helps the sharp student: "
        "validation KL −0."
    )
    assert text.endswith(f"{numbers}; a verdict needs 5 seeds.")
    assert tuning_tag(make(seeds=seeds)) == "not confirmed"


def test_a_backend_that_no_row_has_used_is_called_by_its_own_name() -> None:
    result = make()
    for row in result.rows:
        row.pop("devices", None)
    assert lead(result).startswith("Fine-tuning on “device” helps")


def test_other_studies_have_no_such_line() -> None:
    for result in (make_plain(seeds=2), make_noise(seeds=2)):
        assert lead(result) == test_sentence(result) == teaching(result) == tuning_tag(result) == ""
        assert bill(result) == ""
        assert in_brief(result) == []


def test_with_axes_no_line_stands_for_all_points() -> None:
    result = make()
    result.rows = [{**row, "point": {"scale": s}} for s in (1, 2) for row in result.rows]
    assert lead(result) == ""


def test_the_test_data_have_their_own_say() -> None:
    assert test_sentence(make()) == (
        "On the test data, which chose nothing: KL −0.050 nats [−0.052, −0.048] (better) and "
        "accuracy +2.0 points [+1.8, +2.2] (better). It is compared with “noise-aware”: the same "
        "weights, evaluated without a step on the device. The validation data also chose which "
        "epoch was kept: the start at 1 of 5 seeds, where nothing changes."
    )
    assert test_sentence(make(kept=False)).endswith("also chose which epoch was kept.")
    assert test_sentence(make(seeds=1)).endswith("the start at 1 of 1 seed, where nothing changes.")
    never = make()
    for row in never.rows:
        row.get("fine_tuning", {})["best_epoch"] = 3
    assert test_sentence(never).endswith("also chose which epoch was kept: never the start.")
    assert "accuracy −2.0 points [−2.2, −1.8] (worse)" in test_sentence(make(levels=WORSE))
    one = test_sentence(make(seeds=1))
    assert "KL −0.050 nats (not confirmed) and accuracy +2.0 points (not confirmed)." in one


def test_what_is_evaluated_only_is_compared_with_the_other_trainings() -> None:
    assert teaching(make()) == (
        "Evaluated without fine-tuning, “noise-aware” beats “labels” (+1.0 points, +0.7 to +1.3) "
        "and the placebo “shuffled teacher” (+20.2 points, +20.0 to +20.4), and is not confirmed "
        "to differ from “simulated” (−0.1 points, −0.3 to +0.1)."
    )
    lower = make(levels=LEVELS | {"noise_aware": (0.5, 0.6, 0.5)})
    assert "“noise-aware” does worse than “simulated” (−30.1 points" in teaching(lower)
    assert "beats" not in teaching(lower)
    assert "(+1.0 points, one seed)" in teaching(make(seeds=1))
    alone = {name: LEVELS[name] for name in ("noise_aware", "fine_tuned")}
    assert teaching(make(levels=alone)) == ""


def test_readout_errors_are_counted_per_metric() -> None:
    said = mitigation(corrected(make()))
    assert said == [
        "With readout errors undone, validation KL is better for 5 of 5 variants, worse for 0 and "
        "not confirmed to differ for 0; on average it changes by −0.020 nats.",
        "With readout errors undone, test KL is better for 5 of 5 variants, worse for 0 and not "
        "confirmed to differ for 0; on average it changes by −0.031 nats.",
        "With readout errors undone, test accuracy is better for 5 of 5 variants, worse for 0 and "
        "not confirmed to differ for 0; on average it changes by +1.0 points.",
    ]
    few = mitigation(corrected(make(seeds=2)))
    assert all("better for 0 of 5 variants, worse for 0 and not confirmed" in text for text in few)
    assert mitigation([]) == []


def test_the_bill_of_a_simulated_device() -> None:
    # 5 seeds: 4 trainings of 2 jobs and one of 4, three seconds each.
    assert bill(make()) == (
        "On fake torino: 60 jobs, 60 PUBs, 6,000 executions, 180.0 s of quantum processor time, "
        "30.0 % of the 600 s that IBM's free plan has in 28 days; 30.0 % of the budget of "
        "“device”, 600 s. Fake torino was simulated in the process: the seconds are those of IBM's "
        "formula for the same jobs, and nobody was charged."
    )


def test_the_bill_of_a_real_device() -> None:
    result = make(device="ibm_fez", usd_per_second=1.6)
    result.spent["device"]["budget_seconds"] = None
    assert bill(result) == (
        "On ibm fez: 60 jobs, 60 PUBs, 6,000 executions, 180.0 s of quantum processor time, 30.0 % "
        "of the 600 s that IBM's free plan has in 28 days; 288.00 USD."
    )
    result.jobs, result.spent = result.jobs[:1], {}
    assert bill(result).startswith("On ibm fez: 1 job, 1 PUB, 100 executions, 3.0 s of quantum")


def test_gains_are_over_the_training_that_is_evaluated_only() -> None:
    assert alone(make()) == "“noise-aware”"
    taught = {name: LEVELS[name] for name in ("noise_aware", "fine_tuned", "simulated")}
    assert alone(make(levels=taught)) == "“noise-aware”"  # though none is without a teacher
    assert alone(make_plain(seeds=1)) == ALONE == "the student alone"


def test_a_device_is_called_so_among_the_backends() -> None:
    result = make(seeds=1)
    entry = {"accuracy": 0.8, "kl": 0.5, "distance": 0.0, "samples": 120}
    result.rows[-1]["backends"] = [
        {**entry, "backend": "exact", "kind": "exact", "shots": None},
        {**entry, "backend": "device", "kind": "runtime", "shots": 512},
    ]
    table = beside(result, None, "sharp")
    assert table is not None
    assert [column["what"] for column in table["columns"]] == [
        "exact, probabilities", "device, 512 shots"
    ]  # fmt: skip


def test_several_devices() -> None:
    result = make(seeds=1)
    entry = result.rows[-1]["devices"][0]
    result.rows[-1]["devices"] = [entry, {**entry, "backend": "other", "device": "aer"}]
    assert bill(result).startswith("On fake torino and aer: ")
    assert "Fake torino and aer were simulated in the process" in bill(result)


def test_numbers() -> None:
    assert said(change()) == (
        "validation KL −0.100 nats (95 % interval −0.200 to +0.050, n = 5 paired seeds)"
    )
    assert said(change(low=None, n=1)) == "validation KL −0.100 nats (one seed only, n = 1)"
    assert said(change("nll", low=None)).startswith("validation log loss −0.100 nats")
    assert ends(change("accuracy")) == "−20.0, +5.0"
    assert ends(change(low=None)) == ""
    assert number(change("accuracy"), -0.021) == "−2.1"
    assert [number(change(), x) for x in (0.0, 0.0001)] == ["0.000", "+0.000"]
    assert [seconds(x) for x in (0.04, 999.94, 1234.5)] == ["0.0", "999.9", "1,234"]
    assert [price(x) for x in (1.6, 999.994, 1234.5)] == ["1.60", "999.99", "1,234"]


def test_the_terminal_begins_with_it_and_ends_with_the_bill() -> None:
    text = terminal_table(make())
    whole = text.replace("-\n", "-").replace("\n", " ")
    assert text.startswith("Fine-tuning on fake torino helps the sharp student")
    assert test_sentence(make()) in whole
    assert teaching(make()) in whole
    assert whole.endswith(" ".join(in_brief(make())))
    assert in_brief(make()) == [mitigation(corrected(make()))[1], bill(make())]
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "istillation" not in text.split("device-fake:")[0]
    assert "istillation" in terminal_table(make_plain(seeds=2)).splitlines()[0]
