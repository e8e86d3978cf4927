# SPDX-License-Identifier: Apache-2.0
"""The public surface: small, sorted, documented, loaded on first use; one version everywhere."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import qiskit_kd

ROOT = Path(__file__).parents[1]
ROOMS = ("circuits", "data", "distill", "execution", "experiment", "interop", "nn", "report")


def test_about_twenty_names_sorted_and_unique() -> None:
    assert list(qiskit_kd.__all__) == sorted(set(qiskit_kd.__all__))
    assert 15 <= len(qiskit_kd.__all__) <= 24
    assert set(qiskit_kd.__all__) <= set(dir(qiskit_kd))


@pytest.mark.parametrize("name", qiskit_kd.__all__)
def test_every_name_can_be_had_and_is_documented(name: str) -> None:
    part = getattr(qiskit_kd, name)
    says = inspect.isclass(part) or inspect.isroutine(part) or inspect.ismodule(part)
    text = inspect.getdoc(part if says else type(part))
    assert text
    assert len(text) > 20


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'qiskit_kd' has no attribute 'Techer'"):
        _ = qiskit_kd.Techer


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_export_what_they_say(room: str) -> None:
    module = __import__(f"qiskit_kd.{room}", fromlist=["*"])
    assert module.__all__ == sorted(module.__all__, key=_isort)
    for name in module.__all__:
        assert (getattr(module, name).__doc__ or "").strip(), name


def _isort(name: str) -> tuple[int, str]:
    # CONSTANTS, then Classes, then functions: the order of ruff's RUF022.
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_import_is_light() -> None:
    code = (
        "import json, sys; import qiskit_kd; "
        "print(json.dumps([m for m in ('torch', 'qiskit', 'numpy', 'matplotlib') "
        "if m in sys.modules]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(out.stdout) == []


def test_type_marker_is_shipped() -> None:
    assert (Path(qiskit_kd.__file__).parent / "py.typed").is_file()


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert qiskit_kd.__version__ == version("qiskit-kd") == project["version"]
    cff = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(project['version'])}$", cff, flags=re.MULTILINE)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.findall(r"^## \[(\d[^\]]*)\]", changes, flags=re.MULTILINE)
    assert newest[0] == project["version"]


def test_licence_is_the_one_that_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text


def test_nothing_is_shown_by_its_address() -> None:
    import torch

    model = qiskit_kd.CircuitModel(
        qiskit_kd.circuits.amplitude(2),
        qiskit_kd.circuits.hardware_efficient(2, 1),
        qiskit_kd.ClassGroups(2, 2),
    )
    layer, module = qiskit_kd.QuantumLayer(model), torch.nn.Linear(4, 2)
    shown = [
        model,
        model.encoding,
        model.readout,
        layer,
        layer.engine,
        qiskit_kd.losses,
        qiskit_kd.losses.kl,
    ]
    shown += [
        qiskit_kd.Term("kl"),
        qiskit_kd.load_backend("exact"),
        qiskit_kd.Teacher.from_module(module),
    ]
    assert not [repr(each) for each in shown if " at 0x" in repr(each)]
