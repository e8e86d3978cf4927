# SPDX-License-Identifier: Apache-2.0
"""Where students are trained and judged, and the settings of one point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qiskit_kd.experiment.loading import load
from qiskit_kd.report.grid import changes_at, settled
from qiskit_kd.report.sentences import setup_sentence
from qiskit_kd.report.whereabouts import is_exact, judged_on, noise_of, places_sentence, trained_on

from .fake_axes import make as without_noise
from .fake_device import make as on_a_device
from .fake_noise import make

RESULT = make()
CONFIG = RESULT.config


def test_settings_of_a_point_and_of_the_last_one() -> None:
    here = settled(CONFIG, {"scale": 1, "device": "torino", "encoding": "amplitude"})
    assert here["backends"]["device"]["scale"] == 1.0
    assert here["backends"]["device"]["noise"] == {"device": "fake_torino"}
    assert here["students"]["hybrid"]["options"]["encoding"] == "amplitude"
    last = settled(CONFIG)
    assert last["backends"]["device"]["scale"] == 2.0
    assert last["students"]["sharp"]["options"]["encoding"] == "angle"
    assert "options" not in CONFIG["students"]["sharp"]  # a copy


def test_every_point_of_an_experiment_is_what_its_own_model_says() -> None:
    config = load(Path(__file__).parents[2] / "examples" / "c2q-noise.yaml")
    resolved = config.resolved()
    for point in config.points():
        own = config.at(point).resolved()
        found = settled(resolved, point)
        for section in ("backends", "students", "teachers", "data", "evaluation"):
            assert found[section] == own[section], point


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


def test_a_second_stage_follows_the_first() -> None:
    text = places_sentence(on_a_device())
    assert text == (
        "Trained: noise-aware, labels and shuffled teacher on “model” (noisy); fine-tuned on "
        "“model” (noisy), then on “device”; simulated on “exact”. Judged, wherever they were "
        "trained: on “device”."
    )
    once = on_a_device(levels={"fine_tuned": (0.4, 0.5, 0.8)}, seeds=1)
    once.config["variants"]["fine_tuned"]["backend"] = "device"
    assert places_sentence(once) == ""  # both stages and the judge are one place


def test_the_gradients_of_a_second_stage() -> None:
    found = on_a_device(seeds=1)
    assert setup_sentence(found, None).endswith(
        "Exact gradients, SPSA gradients while fine-tuning."
    )
    stage = {"backend": "model", "training": {}}
    variants = found.config["variants"] | {
        "fine_tuned": found.config["variants"]["fine_tuned"] | {"fine_tune": stage}
    }
    assert setup_sentence(
        replace(found, config=found.config | {"variants": variants}), None
    ).endswith("Exact gradients.")


@pytest.mark.parametrize(
    ("backend", "noise"),
    [("device", 1.0), ("aer_device", 1.0), ("exact", None), ("noisy", 1.0), ("nowhere", None)],
)
def test_noise_of_a_backend(backend: str, noise: float | None) -> None:
    assert noise_of(CONFIG, backend) == noise


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


def test_exact_backends() -> None:
    assert is_exact(CONFIG, "device")
    assert is_exact(CONFIG, "exact")
    assert not is_exact(CONFIG, "aer_device")
    assert not is_exact(CONFIG, "nowhere")


def test_the_sentence_of_places() -> None:
    assert places_sentence(RESULT) == (
        "Trained: noise free on “exact”; noisy, from quantum, from classical and shuffled teacher "
        "on “device” (noisy). Judged, wherever they were trained: on “device” (noisy), with exact "
        "probabilities."
    )
    sampled = {**CONFIG, "evaluation": {"backend": "aer_device"}}
    assert places_sentence(replace(RESULT, config=sampled)).endswith("on “aer device” (noisy).")
    at_home = {**CONFIG, "evaluation": {}}
    assert "Judged" not in places_sentence(replace(RESULT, config=at_home))
    quiet = without_noise(seeds=1, train=(50,), sees=(), maps=False, robust=False)
    assert places_sentence(quiet) == ""


def test_setup_names_places_or_the_one_backend() -> None:
    assert setup_sentence(RESULT, None).endswith("with exact probabilities. Exact gradients.")
    quiet = without_noise(seeds=1, train=(50,), sees=("all",), maps=False, robust=False)
    assert setup_sentence(quiet, None).endswith("Backend exact, exact gradients.")
    rows = [{**r, "options": {"backend": "device"}} for r in quiet.rows]
    here = replace(quiet, rows=rows, config={**quiet.config, "backends": CONFIG["backends"]})
    assert setup_sentence(here, None).endswith("Backend device, exact gradients.")
    rows = [{**r, "options": {"backend": "aer_device", "shots": 4096}} for r in quiet.rows]
    assert setup_sentence(replace(here, rows=rows), None).endswith(
        "Backend aer device, SPSA gradients, 4,096 shots."
    )
