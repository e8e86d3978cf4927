# SPDX-License-Identifier: Apache-2.0
"""Every dependency has a lowest version, which `make test-lowest` installs."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.lowest import PYPROJECT, pins


def test_each_dependency_is_pinned_to_its_own_floor_and_is_installed_at_or_above_it() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())
    lines = declared["project"]["dependencies"] + declared["dependency-groups"]["test"]
    found = dict(pin.split("==") for pin in pins())
    assert [line.split(">=")[0] for line in lines] == list(found)
    for name, floor in found.items():
        here = [int(part) for part in re.findall(r"\d+", version(name))]
        assert here >= [int(part) for part in floor.split(".")], name


def test_a_dependency_without_a_floor_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\ndependencies = ["numpy<3"]\n[dependency-groups]\ntest = []\n')
    with pytest.raises(SystemExit, match=r"names its lowest version .*; got numpy<3"):
        pins(file)
