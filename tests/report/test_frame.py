# SPDX-License-Identifier: Apache-2.0
"""The frame: roles from the configuration, contrasts seed by seed, settings of points."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from qiskit_kd.experiment.loading import load
from qiskit_kd.experiment.result import Axis
from qiskit_kd.experiment.statistics import paired_gain
from qiskit_kd.report.contrasts import contrasts
from qiskit_kd.report.frame import (
    Contrast,
    Frame,
    cells,
    interval,
    is_exact,
    judged_on,
    noise_of,
    students_of,
    trained_on,
    values,
    variants_of,
)
from qiskit_kd.report.grid import changes_at, settled
from qiskit_kd.report.sections.noise import preferred
from qiskit_kd.report.style import points

from .fake_axes import make as without_noise
from .fake_noise import make
from .fake_result import FakeResult, tiny
from .fake_result import make as plain

RESULT = make()
CONFIG = RESULT.config
FRAME = Frame(RESULT)


def changed(change: Callable[[dict[str, Any]], None], **more: Any) -> Frame:
    """The study with every student's row changed."""
    rows = copy.deepcopy(RESULT.rows)
    for row in rows:
        if not row["student"].startswith("teacher"):
            change(row)
    return Frame(replace(RESULT, rows=rows, **more))


def found(frame: Frame, *names: str, **options: Any) -> Contrast:
    one = frame.contrast(*names, **options)
    return one


# Rows by themselves.


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_interval_is_students(numbers: list[float]) -> None:
    mean, half = interval(numbers)
    assert mean == pytest.approx(np.mean(numbers))
    assert half == pytest.approx(
        stats.t.ppf(0.975, len(numbers) - 1) * stats.sem(numbers), abs=1e-12
    )


def test_one_number_has_no_interval() -> None:
    assert interval([0.5]) == (0.5, None)


def test_order_of_students_and_variants() -> None:
    rows = list(reversed(plain(seeds=2).rows))
    assert students_of(rows)[0] == "teacher"
    assert variants_of(rows) == ["plain", "label_smoothing", "shuffled", "distilled"]
    frame = Frame(replace(plain(seeds=2), rows=rows))
    assert frame.variants_of() == ["plain", "distilled", "label_smoothing", "shuffled"]


def test_cells_hold_every_student_and_variant_over_all_seeds() -> None:
    result = plain(seeds=4)
    table = cells(result.rows)
    assert len(table) == 1 + 6 * 4
    assert {cell.n for cell in table} == {4}
    cell = next(c for c in table if (c.student, c.variant) == ("hybrid", "distilled"))
    assert cell.parameters == 74
    numbers = values(result.rows, "hybrid", "distilled", "accuracy")
    assert cell.mean == pytest.approx(np.mean([*numbers.values()]))


# Roles.


def test_roles_come_from_the_configuration_never_from_names() -> None:
    result = plain(seeds=2)
    assert Frame(result).roles == {
        "plain": "baseline", "distilled": "taught", "shuffled": "placebo",
        "label_smoothing": "placebo",
    }  # fmt: skip
    kd = [{"loss": "ce"}, {"loss": "kl"}]
    result.config["variants"] = {
        "plain": {"terms": [{"loss": "ce"}]},
        "shuffled": {"teacher": "teacher", "terms": kd},
        "distilled": {"teacher": "teacher", "placebo": "shuffled", "terms": kd},
        "label_smoothing": {"terms": [{"loss": "ce"}], "sees": "all"},
    }
    frame = Frame(result)
    assert frame.roles == {
        "plain": "baseline", "shuffled": "taught", "distilled": "placebo",
        "label_smoothing": "labels",
    }  # fmt: skip
    assert frame.treated == "shuffled"
    assert frame.variants_of()[-1] == "distilled"
    assert FRAME.under_noise() == (["noisy"], ["noise_free"])
    assert (FRAME.over, Frame(plain(seeds=1)).over) == ("noisy", "")


@pytest.mark.parametrize(
    ("variant", "role"),
    [
        ({"placebo": "shuffled", "terms": [
            {"loss": "ce"}, {"loss": "kl", "teacher": "soft", "placebo": "none"}]}, "taught"),
        ({"placebo": "shuffled", "terms": [
            {"loss": "kl", "teacher": "soft", "placebo": "none"}, {"loss": "logit_mse"}]},
         "placebo"),
        ({"teacher": "soft", "terms": [{"loss": "ce"}]}, "other"),
        ({"terms": [{"loss": "label_smoothing"}]}, "placebo"),
    ],
)  # fmt: skip
def test_a_default_placebo_counts_where_a_teachers_term_takes_it(
    variant: dict[str, Any], role: str
) -> None:
    result = plain(seeds=1)
    result.config["variants"] = {"plain": {"terms": [{"loss": "ce"}]}, "distilled": variant}
    assert Frame(result).roles["distilled"] == role


def test_the_student_of_the_first_line_is_the_one_the_configuration_names() -> None:
    result = plain(seeds=2)
    assert Frame(result).student == "linear"
    result.config["headline"] = "hybrid"
    assert Frame(result).student == "hybrid"
    assert FRAME.compared == ["sharp", "hybrid"]
    few = make(students={"sharp": ("noisy", "noise_free"), "hybrid": ("noisy",)})
    assert Frame(few).compared == ["sharp"]


# Contrasts.


def test_contrasts_pair_by_seed_not_by_position_and_leave_out_lonely_seeds() -> None:
    result = tiny([0.1, 0.5, 0.9], [0.2, 0.6, 1.0])
    result.rows = [result.rows[k] for k in (5, 0, 4, 2, 3, 1)]
    gain = found(Frame(result), "tiny", "distilled").gain
    assert gain.differences == pytest.approx((0.1, 0.1, 0.1))
    assert gain == paired_gain([0.2, 0.6, 1.0], [0.1, 0.5, 0.9])
    assert gain.before == pytest.approx(0.5)
    two = found(Frame(tiny([0.1, 0.5], [0.2, 0.6, 1.0])), "tiny", "distilled").gain
    assert two.n == 2
    one = found(Frame(tiny([0.5], [0.6])), "tiny", "distilled").gain
    assert (one.ends, one.verdict) == (None, "not confirmed")
    assert Frame(result).contrast("tiny", "shuffled") is None


def test_a_contrast_has_the_gains_of_its_points_and_counts_equal_runs_once() -> None:
    one = found(FRAME, "sharp", "from_quantum")
    assert [point for point, _ in one.places] == FRAME.points
    assert one.counts == (8, 4, 0)

    def alike(row: dict[str, Any]) -> None:
        row["key"] = row["key"].replace("marrakesh", "torino")

    assert len(found(changed(alike), "sharp", "from_quantum").places) == 6
    assert FRAME.contrast("hybrid", "from_quantum") is None


def invented(effects: dict[str, dict[int, float]], seeds: int = 5) -> FakeResult:
    """A study of one student whose variants gain exactly so much at each K, give or take."""
    points = [{"train": k} for k in next(iter(effects.values()))]
    rows = []
    for point in points:
        for variant in ("plain", *effects):
            gain = effects.get(variant, {})
            for seed in range(seeds):
                accuracy = 0.5 + gain.get(point["train"], 0.0) + 0.001 * (seed % 3) * bool(gain)
                rows.append({
                    "student": "convolution", "variant": variant, "seed": seed, "point": point,
                    "parameters": 7, "options": {}, "curves": {}, "distribution": None,
                    "test": {"accuracy": accuracy, "macro_f1": accuracy},
                    "validation": {"accuracy": accuracy},
                })  # fmt: skip
    kinds = {name: "shuffled" if name == "shuffled" else "none" for name in effects}
    variants = {"plain": {"terms": [{"loss": "ce"}]}} | {
        name: {"teacher": "t", "placebo": kind, "terms": [{"loss": "kl"}]}
        for name, kind in kinds.items()
    }
    return FakeResult(
        rows=rows,         axes={"train": Axis("K", tuple(p["train"] for p in points))},
        config={"headline": "convolution", "variants": variants},
    )  # fmt: skip


@given(st.lists(st.sampled_from([0.1, -0.1, -0.001]), min_size=2, max_size=5))
@settings(max_examples=20, deadline=None)
def test_counts_add_up_and_extremes_are_extremes(effects: list[float]) -> None:
    result = invented({"soft": dict(zip((50, 100, 250, 500, 5000), effects, strict=False))})
    one = found(Frame(result), "convolution", "soft")
    assert one.counts == (effects.count(0.1), effects.count(-0.001), effects.count(-0.1))
    means = [gain.mean for _, gain in one.places]
    table = contrasts(Frame(result), "convolution")
    best, worst = (str(getattr(cell, "text", cell)) for cell in table.lines[0][-2:])
    assert (best, worst) == (points(max(means)), points(min(means)))
    assert one.gain.mean == pytest.approx(np.mean(means))


def test_means_over_settings_are_taken_seed_by_seed() -> None:
    where = FRAME.noisy_points
    one = found(FRAME, "sharp", "noise_free", points=where)
    by_seed = np.mean([gain.differences for _, gain in one.places], axis=0)
    gain = one.gain
    assert (gain.mean, gain.n) == (pytest.approx(by_seed.mean()), 5)
    half = 2.776445105 * by_seed.std(ddof=1) / np.sqrt(5)
    assert gain.ends == pytest.approx((gain.mean - half, gain.mean + half))
    rows = [r for r in RESULT.rows if (r["seed"], r["point"]) != (3, FRAME.points[-1])]
    partly = found(Frame(replace(RESULT, rows=rows)), "sharp", "noise_free", points=where)
    assert partly.gain.n == 4
    assert FRAME.contrast("sharp", "noise_free", points=[]) is None


def test_what_a_variant_loses_along_the_axis() -> None:
    lost = FRAME.lost("sharp", "noise_free")
    steady = FRAME.lost("sharp", "noisy")
    assert lost.mean == pytest.approx(-0.4, abs=0.004)
    assert steady.mean == pytest.approx(-0.1)
    assert FRAME.lost("hybrid", "shuffled") is None
    assert Frame(make(scales=(1,))).lost("sharp", "noisy") is None
    assert Frame(plain(seeds=1)).lost("linear", "plain") is None


# What the validation data prefer.


def test_every_point_has_the_variant_that_validation_prefers() -> None:
    chosen = preferred(FRAME, "sharp")
    assert [item.point for item in chosen] == FRAME.points
    assert {item.variant for item in chosen} == {"from_classical"}
    for item in chosen:
        rows = FRAME.cell("sharp", item.variant, item.point)
        mean = np.mean([row["validation"]["accuracy"] for row in rows])
        assert item.accuracy == pytest.approx(mean)


def test_the_test_data_choose_nothing() -> None:
    def flattered(row: dict[str, Any]) -> None:
        row["test"]["accuracy"] = 0.99 if row["variant"] == "shuffled" else 0.1

    def liked(row: dict[str, Any]) -> None:
        row["validation"]["accuracy"] = 0.9 if row["variant"] == "noisy" else 0.5

    untouched = [item.variant for item in preferred(FRAME, "sharp")]
    assert [item.variant for item in preferred(changed(flattered), "sharp")] == untouched
    assert {item.variant for item in preferred(changed(liked), "sharp")} == {"noisy"}


def test_ties_and_the_metric_of_the_study() -> None:
    def tied(row: dict[str, Any]) -> None:
        row["validation"] = {"accuracy": 0.5, "nll": 0.1 if row["variant"] == "shuffled" else 0.2}

    def diverged(row: dict[str, Any]) -> None:
        tied(row)
        row["validation"]["nll"] = None if row["variant"] == "shuffled" else 0.2

    def split(row: dict[str, Any]) -> None:
        tied(row)
        row["validation"]["accuracy"] = 0.9 if row["variant"] == "noisy" else 0.5

    def chosen(frame: Frame) -> set[str]:
        return {item.variant for item in preferred(frame, "sharp")}

    assert chosen(changed(tied)) == {"shuffled"}
    assert chosen(changed(diverged)) == {"noise_free"}  # the first one listed
    assert chosen(changed(split)) == {"noisy"}
    assert chosen(changed(split, config={**CONFIG, "metric": "loss"})) == {"shuffled"}


def test_only_seeds_that_all_variants_have_finished_choose() -> None:
    def lucky(row: dict[str, Any]) -> None:
        row["validation"]["accuracy"] = 0.9 if row["seed"] == 4 else 0.5
        row["validation"]["accuracy"] += 0.01 * (row["variant"] == "noisy")

    rows = [r for r in changed(lucky).rows if (r["variant"], r["seed"]) != ("noisy", 4)]
    waiting = Frame(replace(RESULT, rows=rows))
    assert {item.variant for item in preferred(waiting, "sharp")} == {"noisy"}
    lonely = replace(RESULT, rows=[r for r in RESULT.rows if r["variant"] == "noisy"])
    assert preferred(Frame(lonely), "sharp") == []


# Settings of points, and where students are trained and judged.


def test_settings_of_a_point_and_of_the_last_one() -> None:
    here = FRAME.settled({"scale": 1, "device": "torino", "encoding": "amplitude"})
    assert here["backends"]["device"]["scale"] == 1.0
    assert here["backends"]["device"]["noise"] == {"device": "fake_torino"}
    assert here["students"]["hybrid"]["options"]["encoding"] == "amplitude"
    last = FRAME.settled()
    assert last["backends"]["device"]["scale"] == 2.0
    assert last["students"]["sharp"]["options"]["encoding"] == "angle"
    assert "options" not in CONFIG["students"]["sharp"]  # a copy


def test_every_point_of_an_experiment_is_what_its_own_model_says() -> None:
    config = load(Path(__file__).parents[2] / "examples" / "c2q-noise.yaml")
    resolved = config.resolved()
    for point in config.points():
        own = config.at(point).resolved()
        here = settled(resolved, point)
        for section in ("backends", "students", "teachers", "data", "evaluation"):
            assert here[section] == own[section], point


def test_changes_of_a_label_and_of_a_listed_value() -> None:
    assert changes_at({"values": {"0.25": {"a": 1}}}, 0.25) == {"a": 1}
    assert changes_at({"values": [1, 2], "key": "a.b"}, 2) == {"a.b": 2}


def test_where_weights_come_from() -> None:
    assert trained_on(CONFIG, "noise_free") == "exact"
    assert trained_on(CONFIG, "noisy") == "device"
    assert trained_on({"variants": {}}, "any") == "exact"
    tuned = {"variants": {"a": {"backend": "exact", "fine_tune": {"backend": "device"}}}}
    assert trained_on(tuned, "a") == "device"
    assert judged_on(CONFIG) == "device"
    assert judged_on({"evaluation": None}) is None


@pytest.mark.parametrize(
    ("backend", "noise"),
    [("device", 1.0), ("aer_device", 1.0), ("exact", None), ("noisy", 1.0), ("nowhere", None)],
)
def test_noise_of_a_backend(backend: str, noise: float | None) -> None:
    assert noise_of(CONFIG, backend) == noise
    assert is_exact(CONFIG, backend) is (backend not in ("aer_device", "nowhere"))


def test_settings_that_a_backend_of_the_study_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "backends.yaml"
    file.write_text(
        "schema: 1\nbackends: {strong: "
        "{kind: noisy, noise: {device: fake_lagos}, scale: 3.0, shots: 50}}\n"
    )
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(file))
    own = {
        "other": {"base": "strong", "noise": {"device": "fake_perth"}},
        "fresh": {"base": "strong", "kind": "exact"},
    }
    config = {**CONFIG, "backends": own}
    assert noise_of(config, "other") == 3.0
    assert not is_exact(config, "other")
    assert noise_of(config, "fresh") is None
    assert is_exact(config, "fresh")


def test_settings_with_noise() -> None:
    scales = [float(point["scale"]) for point in FRAME.points]
    assert [FRAME.scale_at(point) for point in FRAME.points] == scales
    assert FRAME.noisy_points == [point for point in FRAME.points if point["scale"]]
    quiet = without_noise(seeds=1, train=(50,), sees=("same", "all"), maps=False, robust=False)
    assert Frame(quiet).noisy_points == []


def test_where_each_is_judged_where_it_was_trained() -> None:
    point = {"scale": 2, "device": "torino", "encoding": "angle"}
    at_home = replace(RESULT, config={**CONFIG, "evaluation": {"backend": None}})
    assert Frame(at_home).scale_at(point) == 2.0
    alone = {"noise_free": CONFIG["variants"]["noise_free"]}
    quiet = replace(at_home, config={**at_home.config, "variants": alone})
    assert Frame(quiet).scale_at(point) is None
