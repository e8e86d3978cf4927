# SPDX-License-Identifier: Apache-2.0
"""Sections: results, noise, backends, devices, settings; and that a new one is one file."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qiskit_kd.registry import add_plugins
from qiskit_kd.report import document, render, terminal_table
from qiskit_kd.report.document import Details, Entry, Facts, Pictures, Section, Table, Text
from qiskit_kd.report.frame import Frame
from qiskit_kd.report.page import title
from qiskit_kd.report.sections import backends, cost, device, noise, results, settings
from qiskit_kd.report.sections.circuits import traits

from . import fake_axes, fake_device, fake_noise
from .fake_result import make

NOISE = fake_noise.make()

NEW = '''
from qiskit_kd.report.document import Section, Table, gained, section


@section("against smoothing", place=12, terminal=True)
def against_smoothing(frame):
    """Every student taught against itself with smoothed labels."""
    found = [frame.contrast(s, "distilled", "label_smoothing") for s in frame.students]
    table = Table(["student", "gain"], [[one.student, gained(one.gain)] for one in found if one])
    return Section("Against smoothing", [table], [table]) if table.lines else None
'''


def texts(table: Table, line: int) -> list[str]:
    return [one.text if isinstance(one, Entry) else one for one in table.lines[line]]


def tables(found: Section | None) -> list[Table]:
    return [block for block in found.blocks if isinstance(block, Table)]


def note(found: Section | None) -> str:
    assert isinstance(found.blocks[0], Text)
    return found.blocks[0].text


@pytest.mark.slow
def test_a_new_section_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "against_smoothing.py"
    file.write_text(NEW)
    monkeypatch.setenv("QKD_PLUGINS", "")
    add_plugins([file])
    try:
        result = make(seeds=5, students=("hybrid",))
        page, _ = render(result)
        assert page.index("<h2>Results") < page.index("<h2>Against smoothing")
        assert page.index("<h2>Against smoothing") < page.index("<h2>Learning curves")
        assert re.search(r"\nstudent +gain\n─+\nhybrid +\+\d\.\d \[", terminal_table(result))
    finally:
        del document.sections._parts["against smoothing"]
    assert "Against smoothing" not in render(make(seeds=1, students=("hybrid",)))[0]


# Results.


def test_tables_hold_every_student_and_agree_with_the_contrasts() -> None:
    frame = Frame(make(seeds=5))
    accuracy, gains = tables(results.results(frame))
    assert list(accuracy.heads) == [
        "student", "params", "alone", "distilled", "shuffled teacher", "label smoothing",
    ]  # fmt: skip
    assert [texts(accuracy, k)[0] for k in (0, 1)] == ["teacher", "linear"]
    assert len(accuracy.lines) == 7
    gain, entry = frame.contrast("linear", "distilled").gain, gains.lines[0][1]
    assert isinstance(entry, Entry)
    assert entry.text.replace("−", "-") == f"{100 * gain.mean:+.1f}"
    assert entry.verdict == gain.verdict
    # Placebos too, as the legend says of every number: unmarked means neither.
    for entry, name in zip(gains.lines[0][1:], frame.variants_of()[1:], strict=True):
        assert entry == document.gained(frame.gain("linear", name))


def test_a_sweep_has_a_table_a_student_and_one_a_panel() -> None:
    result = fake_axes.make(seeds=5, train=(50, 500), maps=False, robust=False)
    frame = Frame(result)
    found = results.results(frame)
    same, every = tables(found)
    assert same.title.startswith("teacher data: same, gain over the student alone")
    assert [texts(every, k)[0] for k in range(5)] == [
        "soft", "features", "both", "untrained (placebo)", "shuffled teacher (placebo)",
    ]  # fmt: skip
    details = found.blocks[-1]
    assert isinstance(details, Details)
    panel = details.blocks[0]
    assert isinstance(panel, Table)
    rows = frame.cell("convolution", "soft", {"train": 50, "sees": "same"})
    mean = np.mean([row["test"]["accuracy"] for row in rows])
    soft = next(k for k, line in enumerate(panel.lines) if texts(panel, k)[0] == "soft")
    assert texts(panel, soft)[1].startswith(f"{100 * mean:.1f}±")


def test_chance_counts_distinct_intervals() -> None:
    result = fake_axes.make(seeds=6, train=(50, 500, 5000), maps=False, robust=False)
    found = results.results(Frame(result))
    (said,) = [b.text for b in found.blocks if isinstance(b, Text) and "shown" in b.text]
    # The placebo of the features does not depend on what the teacher saw.
    assert said.startswith("27 intervals of gains over the student alone are shown and ")


# Noise.


def test_the_table_of_preferences_and_of_what_noise_takes() -> None:
    frame = Frame(NOISE)
    found = tables(noise.noise(frame))
    lost, first = found[0], found[1]
    assert lost.title == "What noise takes, from noise scale 0 to 2, mean over 4 panels"
    assert texts(lost, 0)[:2] == ["sharp", "noisy"]
    assert first.title == "The sharp student, device: torino, encoding: amplitude"
    assert [t.title.split(",")[0] for t in found[1:]] == ["The sharp student"] * 4 + [
        "The hybrid student"
    ] * 4
    cells = dict(zip(first.heads, first.lines[2], strict=True))
    assert texts(first, 2)[:2] == ["2", "from classical"]
    assert cells["over from classical"] == "is preferred"
    point = {"scale": 2, "device": "torino", "encoding": "amplitude"}
    gain = frame.gain("sharp", "from_classical", "noise_free", points=[point])
    entry = cells["over noise free"]
    assert entry == document.gained(gain)
    assert (entry.text, entry.verdict) == (f"+{100 * gain.mean:.1f}", "confirmed")


def test_shots_are_shown_at_the_devices_own_noise_or_at_the_last_value() -> None:
    found = noise.shots(Frame(NOISE))
    (group,) = [block for block in found.blocks if isinstance(block, Pictures)]
    assert [picture.title for picture in group.items] == [
        "Accuracy of the sharp student", "KL(teacher ‖ student) of the sharp student",
        "Accuracy of the hybrid student", "KL(teacher ‖ student) of the hybrid student",
    ]  # fmt: skip
    assert "at noise scale = 1;" in note(found)
    assert note(found).endswith("without shots, from exact probabilities.")
    assert "at noise scale = 2;" in note(noise.shots(Frame(fake_noise.make(scales=(0, 2)))))


@pytest.mark.parametrize(
    ("judged", "trained"), [("exact_shots", "exact"), (None, "exact_shots"), ("mine", "exact")]
)
def test_shots_of_the_backend_file_are_shots(judged: str | None, trained: str) -> None:
    config = copy.deepcopy(dict(NOISE.config))
    config["backends"] |= {"mine": {"base": "exact_shots"}}
    config["evaluation"] = {"backend": judged}
    for variant in config["variants"].values():
        variant["backend"] = trained
    said = note(noise.shots(Frame(replace(NOISE, config=config))))
    assert said.endswith("as it was judged for all other numbers of this page.")


def test_a_study_without_noise_or_devices_has_none_of_it() -> None:
    quiet = Frame(fake_axes.make(seeds=2, train=(50, 500), maps=False, robust=False))
    for section in (
        noise.noise, noise.shots, backends.backends, backends.compiled, device.fine_tuning,
        device.readout, cost.cost, cost.layout,
    ):  # fmt: skip
        assert section(quiet) is None
    assert cost.bill(quiet) == ""
    assert device.lead(quiet) is None


# Backends.


def changed(part: str, change: Any) -> Frame:
    rows = copy.deepcopy(NOISE.rows)
    for row in rows:
        for entry in row.get(part) or ():
            change(entry, row)
    return Frame(replace(NOISE, rows=rows))


def test_a_cell_per_backend() -> None:
    table = backends.beside(Frame(NOISE), "hybrid")
    assert list(table.heads) == [
        "variant", "exact: exact, probabilities", "aer: aer, probabilities",
        "device: noisy, probabilities", "aer device: noisy, 4,096 shots",
    ]  # fmt: skip
    assert table.title == "The hybrid student: seed 0, 48 test samples"
    assert len(table.lines) == 8  # 2 devices, 2 encodings, 2 variants, at the scale that asks
    first = table.lines[0]
    where = "noise scale = 1, device: torino, encoding: amplitude"
    assert first[0] == Entry("noise free", where)
    row = next(r for r in NOISE.rows if r["student"] == "hybrid" and "backends" in r)
    distances = ["0.080", "0.080", "0", "0.009"]
    for cell, entry, distance in zip(first[1:], row["backends"], distances, strict=True):
        text = f"{100 * entry['accuracy']:.1f}"
        assert cell == Entry(text, f"KL {entry['kl']:.3f}, TV {distance}")


def test_a_backend_that_some_lack_and_no_teacher() -> None:
    def without(entry: dict[str, Any], row: dict[str, Any]) -> None:
        entry.pop("kl")
        entry.pop("samples")
        if row["variant"] == "noisy":
            row["backends"] = [e for e in row["backends"] if e["backend"] != "aer"]

    table = backends.beside(changed("backends", without), "hybrid")
    noisy = next(k for k in range(8) if texts(table, k)[0] == "noisy")
    assert table.lines[noisy][2] == Entry("")
    assert isinstance(table.lines[noisy][1], Entry)
    assert "KL" not in table.lines[noisy][1].note
    assert table.title.endswith("all test samples")


def test_which_backends_agree() -> None:
    distances, sampled, alike = backends.agreement(Frame(NOISE))
    assert distances == (
        "Mean TV over 28 networks: “exact” 0.080 (at most 0.080), “aer” 0.080 (at most 0.080), "
        "“device” 0 (at most 0) and “aer device” 0.009 (at most 0.009)."
    )
    assert sampled == "That of “aer device” (4,096 shots) holds the noise of its shots."
    assert alike == (
        "“exact” and “aer” answer alike: every accuracy is the same, and KL differs by 1e-7 nats "
        "at most."
    )

    def off(entry: dict[str, Any], row: dict[str, Any]) -> None:
        if entry["backend"] == "aer" and row["student"] == "sharp":
            entry["kl"] += 0.01

    def partly(entry: dict[str, Any], row: dict[str, Any]) -> None:
        row["backends"] = [e for e in row["backends"] if e["backend"] != "aer"]
        if row["student"] == "sharp":
            row["backends"] += [{**row["backends"][0], "backend": "aer"}]

    for change in (off, partly):
        assert len([*backends.agreement(changed("backends", change))]) == 2


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_shots_move_probabilities_by_no_more_than_is_said(classes: int) -> None:
    bound = 0.5 * np.sqrt((classes - 1) / 4096)
    rows = [{**row, "distribution": [[0.0]] * classes} for row in NOISE.rows]
    said = backends.shot_noise(Frame(replace(NOISE, rows=rows)))
    assert f"at most {bound:.3f} with 4,096 shots" in said
    rng = np.random.default_rng(5)
    for concentration in (0.2, 1.0, 50.0):
        p = rng.dirichlet(np.full(classes, concentration))
        drawn = rng.multinomial(4096, p, size=2000) / 4096
        assert np.abs(drawn - p).sum(axis=1).mean() / 2 <= bound * 1.01


def test_every_distinct_circuit_once() -> None:
    (table,) = tables(backends.compiled(Frame(NOISE)))
    assert list(table.heads) == [
        "device", "encoding", "student", "qubits", "two-qubit gates", "two-qubit depth", "gates",
        "depth", "duration, µs",
    ]  # fmt: skip
    assert table.lines == [
        ["fake torino", "amplitude", "sharp, hybrid", "6", "190", "181", "950", "570", "19.00"],
        ["fake torino", "angle", "sharp, hybrid", "6", "40", "31", "200", "120", "4.00"],
        ["fake marrakesh", "amplitude", "sharp, hybrid", "6", "230", "221", "1,150", "690",
         "23.00"],
        ["fake marrakesh", "angle", "sharp, hybrid", "6", "80", "71", "400", "240", "8.00"],
    ]  # fmt: skip

    def other(entry: dict[str, Any], row: dict[str, Any]) -> None:
        if row["student"] == "hybrid":
            entry |= {"seconds": None, "gates": 1}

    (apart,) = tables(backends.compiled(changed("circuits", other)))
    assert {line[2] for line in apart.lines} == {"sharp", "hybrid"}
    assert {line[-1] for line in apart.lines if line[2] == "hybrid"} == {""}

    def scaled(entry: dict[str, Any], row: dict[str, Any]) -> None:
        entry["gates"] += int(row["point"]["scale"])

    (more,) = tables(backends.compiled(changed("circuits", scaled)))
    assert list(more.heads)[1:3] == ["noise scale", "encoding"]


# Devices.


def test_the_control_is_the_same_variant_without_its_second_stage() -> None:
    own = fake_device.VARIANTS
    assert device.controls({"variants": own}) == {"fine_tuned": "noise_aware"}
    lonely = {"a": {**fake_device.TAUGHT, "backend": "exact"}, "b": own["fine_tuned"]}
    assert device.controls({"variants": lonely}) == {}
    two = {**own, "also": {**own["labels"], "fine_tune": fake_device.STAGE}}
    assert device.controls({"variants": two}) == {"fine_tuned": "noise_aware", "also": "labels"}
    assert device.controls({}) == {}


def test_changes_are_paired_by_seed_and_less_divergence_is_better() -> None:
    result = fake_device.make()
    (item,) = device.tuned(Frame(result))
    assert (item.student, item.variant, item.control) == ("sharp", "fine_tuned", "noise_aware")
    assert [(c.part, c.metric, c.gain.n, c.verdict) for c in item.changes] == [
        ("validation", "kl", 5, "confirmed"), ("test", "kl", 5, "confirmed"),
        ("test", "accuracy", 5, "confirmed"),
    ]  # fmt: skip
    first, kl, accuracy = (change.gain for change in item.changes)
    rows = {(row["variant"], row["seed"]): row for row in result.rows if row["student"] == "sharp"}
    assert first.mean == pytest.approx(np.mean([
        rows["fine_tuned", k]["validation"]["kl"] - rows["noise_aware", k]["validation"]["kl"]
        for k in range(5)
    ]))  # fmt: skip
    assert first.low < first.mean < first.high < 0
    assert first.before == pytest.approx(
        np.mean([rows["noise_aware", k]["validation"]["kl"] for k in range(5)])
    )
    assert kl.mean == pytest.approx(-0.05, abs=0.002)
    assert accuracy.mean == pytest.approx(0.02, abs=0.002)
    assert [c.gain.mean for c in item.raw] == pytest.approx(
        [c.gain.mean for c in item.changes], abs=1e-9
    )
    worse = fake_device.make(levels=fake_device.LEVELS | {"fine_tuned": (0.6, 0.7, 0.7)})
    (item,) = device.tuned(Frame(worse))
    assert [change.verdict for change in item.changes] == ["harmful"] * 3
    assert [np.sign(change.gain.mean) for change in item.changes] == [1, 1, -1]


def test_only_shared_seeds_count_and_none_make_no_entry() -> None:
    result = fake_device.make(seeds=6)
    result.rows = [r for r in result.rows if (r["variant"], r["seed"]) != ("fine_tuned", 3)]
    (item,) = device.tuned(Frame(result))
    assert {change.gain.n for change in item.changes} == {5}
    result.rows = [row for row in result.rows if row["variant"] != "noise_aware"]
    assert device.tuned(Frame(result)) == []


def test_without_a_teacher_the_loss_stands_for_the_divergence() -> None:
    result = fake_device.make()
    for row in result.rows:
        for part in ("validation", "test"):
            row[part].pop("kl", None)
            row[part]["nll"] = 0.5 if row["variant"] == "fine_tuned" else 0.6
        if "raw" in row:
            row["raw"] = {part: {"nll": 0.7, "accuracy": 0.5} for part in ("validation", "test")}
    (item,) = device.tuned(Frame(result))
    assert [change.name for change in item.changes] == [
        "validation log loss", "test log loss", "test accuracy",
    ]  # fmt: skip
    # Differences that are all equal say nothing of other seeds.
    assert item.changes[0].gain.mean == pytest.approx(-0.1)
    assert item.changes[0].verdict == "not confirmed"


def test_tables_of_fine_tuning_and_of_readout_errors() -> None:
    frame = Frame(fake_device.make())
    (tuned,) = tables(device.fine_tuning(frame))
    assert tuned.title == "sharp: fine-tuned against noise-aware"
    assert tuned.lines[0] == [
        "validation KL", Entry("−0.100", "[−0.102, −0.098]", "confirmed"), "better", "0.540",
        "0.440", "5",
    ]  # fmt: skip
    assert texts(tuned, 2) == ["test accuracy", "+2.0", "better", "84.0 %", "86.0 %", "5"]
    assert texts(tuned, 3)[0] == "validation KL, raw"
    counts, table = tables(device.readout(frame))
    assert texts(counts, 1) == ["test KL", "5", "0", "0", "−0.031 nats"]
    first = table.lines[0]
    assert first[2] == Entry("0.560 → 0.540", "−0.020 [−0.021, −0.020]", "confirmed")
    assert [item.variant for item in device.corrected(frame)] == list(fake_device.LEVELS)
    few = note(device.fine_tuning(Frame(fake_device.make(seeds=2, kept=False))))
    assert few.endswith("A verdict needs 5 paired seeds; with 2 nothing here is confirmed.")


def test_what_devices_cost_per_variant_and_in_total() -> None:
    frame = Frame(fake_device.make(seeds=3))
    found = {item.variant: item for item in cost.spendings(frame)}
    assert list(found) == list(fake_device.LEVELS)
    assert {item.runs for item in found.values()} == {3}
    tuned = found["fine_tuned"].cost
    assert (tuned.jobs, tuned.pubs, tuned.executions, tuned.usd) == (12, 12, 1200, None)
    whole = cost.total_of(frame)
    assert (whole.jobs, whole.pubs, whole.executions) == (36, 36, 3600)
    assert whole.seconds == sum(item.cost.seconds for item in found.values())
    priced = Frame(fake_device.make(seeds=2, usd_per_second=1.5))
    seconds = fake_device.SECONDS
    assert cost.total_of(priced).usd == pytest.approx(1.5 * 24 * seconds)
    usd = {item.variant: item.cost.usd for item in cost.spendings(priced)}
    assert usd["fine_tuned"] == pytest.approx(1.5 * 8 * seconds)


def test_sums_without_a_journal_of_unsent_jobs_and_of_runs_at_several_points() -> None:
    result = fake_device.make(seeds=2)
    result.jobs[0] |= {"job_id": None, "status": "intent", "seconds": 0.0}
    result.jobs[1] |= {"status": "failed", "seconds": 1.0}
    assert len(cost.sent_jobs(Frame(result))) == 23
    whole = cost.total_of(Frame(result))
    assert (whole.jobs, whole.executions) == (23, 2200)
    assert whole.seconds == pytest.approx(22 * fake_device.SECONDS + 1)
    result.jobs = []
    assert cost.total_of(Frame(result)).jobs == 24
    assert cost.total_of(Frame(make(seeds=1))).jobs == 0
    result.rows = [{**row, "point": {"scale": s}} for s in (1, 2) for row in result.rows]
    assert len(cost.devices_of(Frame(result))) == 10
    assert {item.runs for item in cost.spendings(Frame(result))} == {2}


def usage(result: Any) -> Table:
    return tables(cost.cost(Frame(result)))[0]


def test_usage_beside_the_estimate_and_the_price() -> None:
    plain = usage(fake_device.make())
    assert list(plain.heads) == ["variant", "runs", "jobs", "PUBs", "executions", "QPU seconds"]
    assert plain.lines[1] == ["fine-tuned", "5", "20", "20", "2,000", "60.0"]
    assert plain.lines[-1] == ["together", "25", "60", "60", "6,000", "180.0"]
    result = fake_device.make(usd_per_second=2.0)
    result.estimate = fake_device.estimated(result, 1.05)
    table = usage(result)
    assert list(table.heads)[5:] == ["QPU seconds", "expected, s", "USD"]
    assert table.lines[1][5:] == ["60.0", "63.0", "120.00"]
    assert table.lines[-1][5:] == ["180.0", "189.0", "360.00"]
    for row in result.rows:
        if row["variant"] == "labels":
            row["student"] = "other_one"
    assert list(usage(result).heads)[:2] == ["student", "variant"]


def test_jobs_of_no_run_and_jobs_that_runs_share_have_a_line() -> None:
    result = fake_device.make()
    result.rows = [row for row in result.rows if row["variant"] != "labels"]
    assert usage(result).lines[-2] == ["jobs of no run above", "", "10", "10", "1,000", "30.0"]
    result = fake_device.make(usd_per_second=2.0)
    result.jobs = result.jobs[2:]
    assert usage(result).lines[-2] == [
        "jobs that runs share, paid once", "", "−2", "−2", "−200", "−6.0", "−12.00"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("factor", "end"),
    [
        (1.0, "180.0 s for the whole study, as counted."),
        (1.25, "225.0 s for the whole study; counted is 20.0 % less."),
        (0.8, "144.0 s for the whole study; counted is 25.0 % more."),
    ],
)
def test_against_the_estimate(factor: float, end: str) -> None:
    result = fake_device.make()
    result.estimate = fake_device.estimated(result, factor)
    for early in (False, True):
        result.estimate["may_end_early"] = early
        found = cost.cost(Frame(result))
        assert isinstance(found.blocks[1], Text)
        most = "at most " * early
        assert found.blocks[1].text == f"Expected before the run: {most}{end}"


@pytest.mark.slow
def test_every_job_with_a_short_id_and_nothing_of_an_account() -> None:
    result = fake_device.make(usd_per_second=1.6)
    result.jobs[0] |= {"account": "mine", "token": "secret", "error": "crn:v1:secret"}
    result.jobs[1] |= {"job_id": "d3k2abc", "sent": None, "usd": None}
    found = cost.cost(Frame(result))
    details = found.blocks[-1]
    assert isinstance(details, Details)
    assert details.summary == "Every job (60)"
    table = details.blocks[1]
    assert isinstance(table, Table)
    assert table.lines[0] == [
        "local-012345…", "device", "done", "2026-11-24 15:26:10", "1", "100", "2.5", "3.00", "4.80"
    ]  # fmt: skip
    assert (table.lines[1][0], table.lines[1][3], table.lines[1][-1]) == ("d3k2abc", "", "")
    lines = cost.job_lines(Frame(result))
    assert lines[0] == [
        "device", "fake_torino", "local-0123456789abcdef000", "done", 512, 100, 1, 2.5, 3.0,
        pytest.approx(4.8),
        "2026-11-24T15:26:10Z", "2026-11-24T15:26:10Z", "2026-11-24T15:26:13Z",
    ]  # fmt: skip
    assert len(lines[0]) == len(cost.COLUMNS)
    assert "secret" not in str(lines) + str(table) + render(result)[0]


def test_the_bill() -> None:
    result = fake_device.make()
    assert cost.bill(Frame(result)) == (
        "On fake torino: 60 jobs, 60 PUBs, 6,000 executions, 180.0 s of quantum processor time, "
        "30.0 % of the 600 s that IBM's free plan has in 28 days; 30.0 % of the budget of "
        "“device”, 600 s. Fake torino was simulated in the process: the seconds are those of IBM's "
        "formula for the same jobs, and nobody was charged."
    )
    real = fake_device.make(device="ibm_fez", usd_per_second=1.6)
    assert cost.bill(Frame(real)).endswith("; 288.00 USD.")
    entries = [entry for row in real.rows for entry in row.get("devices", ())]
    entries[0]["calibrations"] = [
        fake_device.CIRCUIT["calibrated"], "2025-02-27T15:26:08-05:00"
    ]  # fmt: skip
    both = "2025-02-26 15:26 (UTC−05:00) and 2025-02-27 15:26 (UTC−05:00)"
    assert f". ibm fez was calibrated anew: its jobs ran under the calibrations of {both}" in (
        cost.bill(Frame(real))
    )
    entries[0]["without_effect"] = ["twirling"]
    assert "Of “device”, twirling changed nothing there" in cost.bill(Frame(real))
    for name, simulated in (("fake_torino", True), ("aer", True), ("ibm_fez", False)):
        assert cost.is_simulated(name) is simulated


def test_where_circuits_ran_every_copy_best_first() -> None:
    found = cost.layout(Frame(fake_device.make()))
    facts, table = found.blocks
    assert isinstance(facts, Facts)
    assert isinstance(table, Table)
    assert (facts.title, dict(facts.items)) == ("fake torino", {
        "used as": "device",
        "kind": "simulated in the process, from the device's stored calibration",
        "calibrated": "2025-02-26 15:26 (UTC−05:00)",
        "circuits": "1 distinct",
    })  # fmt: skip
    assert table.title == (
        "50 two-qubit gates, depth 175, 7.18 µs; 2 copies side by side, with 0.25 to 0.50 faults "
        "to be expected in one run of a copy. Copies whose errors are out of line were left out."
    )
    assert table.lines == [
        ["1", "3 4 5", "0.250", "1.00", "2.0"], ["2", "9 8 7", "0.500", "2.00", "4.0"],
        ["left out", "0 1 2", "1.000", "4.00", ""],
    ]  # fmt: skip


def test_one_copy_other_circuits_days_and_backends() -> None:
    result = fake_device.make(seeds=2, device="ibm_fez")
    alone = {
        **fake_device.CIRCUIT, "layout": [[3, 4, 5]], "readout": [[[0.01, 0.03]] * 3], "tiles": []
    }  # fmt: skip
    del alone["left_out"]
    rows = [row for row in result.rows if row.get("devices")]
    for row in rows:
        row["devices"][0]["circuits"] = [alone]
    rows[0]["devices"].append({**rows[0]["devices"][0], "backend": "tuner"})
    rows[1]["devices"][0]["circuits"] = [alone, {**alone, "depth": 9}]
    rows[2]["devices"][0]["calibrated"] = None
    found = cost.layout(Frame(result))
    facts = [dict(block.items) for block in found.blocks if isinstance(block, Facts)]
    assert facts[0]["used as"] == "device and tuner"
    assert facts[0]["kind"] == "quantum processor"
    assert facts[0]["circuits"] == "2 distinct"
    assert facts[1]["calibrated"] == "unknown"
    assert tables(found)[0].lines == [["1", "3 4 5", "2.0"]]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("2025-02-26", "2025-02-26"),
        ("2025-02-26T15:26:08Z", "2025-02-26 15:26 UTC"),
        ("2025-02-26T15:26:08", "2025-02-26 15:26"),
        ("2025-02-26T15:26:08+01:00", "2025-02-26 15:26 (UTC+01:00)"),
        (None, "unknown"),
    ],
)
def test_dates(written: str | None, said: str) -> None:
    assert cost.day(written) == said


# Settings.


def picked(options: Callable[[dict[str, Any]], Any], **config: Any) -> list[Any]:
    """What a table of choices says of three seeds whose rows have these options."""
    result = make(seeds=3, students=("hybrid",))
    for row in result.rows:
        row["options"] = options(row)
    result.config |= config
    return [*settings.choices(Frame(result))]


def test_options_tell_what_was_picked_per_student() -> None:
    def at(*values: int | None) -> Any:
        return lambda row: {
            "temperature": values[row["seed"]] if row["variant"] == "distilled" else None,
            "layers": 4,
        }

    assert picked(at(4, 4, 4)) == [("hybrid", "distilled", {"temperature": "4"})]
    assert picked(at(4, 4, 2))[0][2] == {"temperature": "2 (1 seed), 4 (2 seeds)"}
    assert picked(at(4, 4, None))[0][2] == {"temperature": "4 (2 of 3 seeds)"}
    found = picked(
        lambda _: {"control": "pca_linear", "learning_rate": 0.1, "layers": 4},
        training={"learning_rate": [0.1, 0.2]},
        students={"hybrid": {"candidates": {"control": ["pca_linear", "pca_mlp"]}}},
    )
    assert found
    assert all(own == {"control": "pca linear", "learning rate": "0.1"} for *_, own in found)


def test_sharpness_stands_with_the_settings() -> None:
    def learned(row: dict[str, Any], mode: str = "learnable") -> dict[str, Any]:
        row["extra"] = {"sharpness": 1.5 + row["seed"]}
        return {"sharpness_mode": mode} if row["student"] == "hybrid" else {}

    (_, *mine), (_, *none) = picked(learned), picked(lambda row: learned(row, "fixed"))
    assert [own["sharpness reached"][:7] for *_, own in mine] == ["2.50 ± "] * 4
    assert none == []


def test_settings_read_like_a_sentence() -> None:
    distilled = {
        "terms": [
            {"loss": "ce", "weight": 1.0}, {"loss": "jsd", "weight": 0.5, "options": {"beta": 0.3}}
        ],
        "teacher": "teacher", "temperature": [1.0, 2.0, 4.0],
    }  # fmt: skip
    config = {
        "name": "x", "students": {"a": {"kind": "linear"}},
        "variants": {
            "distilled": distilled,
            "plain": {"terms": [{"loss": "ce"}], "teacher": "none", "temperature": None},
            "labels": {"terms": [{"loss": "ce"}], "sees": "all"},
        },
    }  # fmt: skip
    assert dict(settings.flat(settings.settings_of(config))) == {
        "students: a": "kind linear",
        "variants: distilled": (
            "ce + 0.5 × jsd (beta 0.3); teacher: teacher; temperature from 1, 2, 4"
        ),
        "variants: plain": "ce",
        "variants: labels": "ce; on all labels of the pool (sees: all)",
    }


def test_settings_that_an_axis_changes_show_all_its_values() -> None:
    config = {
        "data": {"kind": "digits", "options": {"train": 1000}}, "training": {"epochs": 60},
        "teachers": {"teacher": {"kind": "mlp", "sees": "same"}},
        "axes": {
            "k": {"values": {"50": {"data.options.train": 50, "training.epochs": 9,
                                    "training.patience": 3},
                             "500": {"data.options.train": 500, "training.epochs": 8}}},
            "sees": {"key": "teacher.sees", "values": ["same", "all"]},
        },
    }  # fmt: skip
    said = dict(settings.flat(settings.settings_of(config)))
    assert said["data: options"] == "train 50 or 500"
    assert said["training: epochs"] == "9 or 8"
    assert "training: patience" not in said  # it is not set at the other value
    assert "same or all" in " ".join(said.values())
    assert config["training"] == {"epochs": 60}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), ([], ""), ({}, ""), (True, "yes"), (False, "no"), (0.03, "0.03"),
        ([0, 1, 2, 3], "0 to 3"), ([1, 2], "1, 2"), ([3, 5, 8], "3, 5, 8"),
        ("over_seeds", "by the mean over all seeds"), ("extended_xor", "extended xor"),
        ("/tmp/my_file.npz", "/tmp/my_file.npz"),
        ({"hidden": [16, 8], "none": None}, "hidden 16, 8"),
    ],
)  # fmt: skip
def test_values_as_people_write_them(value: object, text: str) -> None:
    assert settings.plain(value) == text


def test_traits_of_a_student_are_words() -> None:
    learned = traits({
        "kind": "fully_quantum", "dead_weights": 0, "ansatz": "product",
        "ansatz_options": {"num_weights": 74, "final_ry": True}, "sharpness_mode": "learnable",
        "sharpness": 1.0, "shots": None, "parameters": 1203,
    })  # fmt: skip
    assert learned == [
        ("kind", "fully quantum"), ("ansatz", "product (num weights 74, final ry)"),
        ("parameters", "1,203"), ("initial sharpness", "1 (learnable)"),
    ]  # fmt: skip
    fixed = dict(traits({"sharpness": 1.0, "sharpness_mode": "fixed"}))
    assert fixed == {"sharpness": "1 (fixed)"}


def test_provenance_and_title() -> None:
    result = make(seeds=2)
    shown = dict(settings.provenance(Frame(result)))
    assert shown["configuration"] == result.fingerprint[:16]
    assert shown["qiskit"] == "2.6.2"
    assert title(Frame(result)) == "c2q-fake · 6 students · 2 paired seeds"
    one = make(seeds=1, students=("hybrid",))
    one.config["title"] = "A question?"
    assert title(Frame(one)) == "A question? · 1 student · 1 seed"
    assert (
        title(Frame(NOISE)) == "Which training holds? · 2 students · 12 settings · 5 paired seeds"
    )
