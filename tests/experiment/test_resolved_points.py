# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest
from noisy_study import STUDY, backends  # noqa: F401 (a fixture)

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.execution.backends import load_backend
from qiskit_kd.experiment.config import ResolvedPoint
from qiskit_kd.experiment.devices import open_backend
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.store import canonical

pytestmark = pytest.mark.usefixtures("backends")


@pytest.fixture
def point() -> ResolvedPoint:
    return point_of()


def point_of(*overrides: str) -> ResolvedPoint:
    (found,) = parse(STUDY, overrides).resolved_points
    return found


def test_a_name_of_the_backend_file(point: ResolvedPoint) -> None:
    assert point.place("noisy") == {"name": "noisy"}
    entry = point.entry("noisy")
    described = load_backend("noisy").describe()
    del described["source"]
    assert entry == described
    assert open_backend(entry).describe() == load_backend("noisy").describe()


def test_a_name_of_the_study(point: ResolvedPoint) -> None:
    place = {"name": "device", "base": "noisy", "settings": {"scale": 2.0}}
    assert point.place("device") == place
    entry = point.entry("device")
    assert {key: entry[key] for key in place} == place
    assert (entry["kind"], entry["scale"], entry["shots"]) == ("noisy", 2.0, None)
    assert entry["noise"]["rates"]["two_qubit"] == 0.04  # what its base says is part of it
    backend = open_backend(entry)
    assert (backend.name, backend.options.scale) == ("device", 2.0)
    assert backend.options.noise == load_backend("noisy").options.noise
    assert open_backend(json.loads(canonical(entry))).describe() == backend.describe()


def test_entries_say_nothing_of_where_the_file_lies(
    point: ResolvedPoint, backends: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    before = canonical([point.entry(name) for name in ("noisy", "device")])
    folder = backends.parent / "elsewhere"
    folder.mkdir()
    moved = backends.rename(folder / "other.yaml")
    monkeypatch.setenv("QISKIT_KD_BACKENDS", str(moved))
    assert canonical([point_of().entry(name) for name in ("noisy", "device")]) == before
    assert "elsewhere" not in before
    moved.write_text(moved.read_text().replace("two_qubit: 0.04", "two_qubit: 0.05"))
    for name in ("noisy", "device"):  # a change of the base is a change of what it is the base of
        assert canonical(point_of().entry(name)) not in before


def test_names_of_the_study_hide_those_of_the_file() -> None:
    entry = point_of("backends.noisy={base: lagos, scale: 0.5}").entry("noisy")
    assert (entry["name"], entry["base"]) == ("noisy", "lagos")
    assert open_backend(entry).options.noise.device == "fake_lagos"
    assert open_backend({"name": "noisy"}).options.noise.device is None


def test_other_shots(point: ResolvedPoint) -> None:
    for name in ("noisy", "device", "exact", "exact_shots"):
        backend = open_backend(point.entry(name), shots=7)
        assert (backend.name, backend.shots, backend.engine(seed=0).shots) == (name, 7, 7)
    assert open_backend(point.place("exact_shots")).shots == 100
    with pytest.raises(ConfigError, match=r"settings of the backend 'exact': shots: wrong value; "
                       r"got 0 \(int\); expected greater than or equal to 1"):  # fmt: skip
        open_backend({"name": "exact"}, shots=0)


def test_what_cannot_be_opened() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backend; got 'nosy'. did you mean 'noisy"):
        open_backend({"name": "nosy"})
    with pytest.raises(UnknownNameError, match=r"unknown backend; got 'nosy'"):
        open_backend({"name": "noisy", "base": "nosy", "settings": {}})
    with pytest.raises(ConfigError, match=r"settings of the backend 'mine': scael: unknown key; "
                       r"got 'scael'. did you mean 'scale'"):  # fmt: skip
        open_backend({"name": "mine", "base": "noisy", "settings": {"scael": 2}})
