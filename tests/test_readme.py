# SPDX-License-Identifier: Apache-2.0
"""README keeps its promises: commands and files exist, its output is real, its Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer.main
from qiskit.circuit import QuantumCircuit

from qiskit_kd.cli import app
from qiskit_kd.experiment import Study, StudyResult
from qiskit_kd.experiment.loading import parse
from qiskit_kd.registry import Registry
from qiskit_kd.report.grid import split_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/guide.md"]
BEGIN = re.compile(r"<!-- output of c2q-digits: begin(?:; configuration ([0-9a-f]+))? -->")
END = "<!-- output of c2q-digits: end -->"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def begin() -> re.Match[str]:
    found = BEGIN.search(README)
    assert found is not None
    return found


def commands_of_cli() -> set[str]:
    group: Any = typer.main.get_command(app)
    names = set(group.commands)
    for name, command in group.commands.items():
        names |= {f"{name} {inner}" for inner in getattr(command, "commands", {})}
    return names


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z]+):", text, flags=re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    code = "\n".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^```\w*\n(.*?)^```$", text,
                     flags=re.MULTILINE | re.DOTALL)])  # fmt: skip
    made = set(re.findall(r"^make ([a-z]+)", code, flags=re.MULTILINE))
    assert made <= make_targets()
    known = commands_of_cli()
    for words in re.findall(r"^qkd ([a-z][a-z -]*)", code, flags=re.MULTILINE):
        parts = words.split()
        assert parts[0] in known, f"qkd {words}"
        if parts[0] == "circuits":
            assert " ".join(parts[:2]) in known, f"qkd {words}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_paths_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(((?!https?:)[^)#\s]+)\)", text)
    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert not missing


def test_experiments_named_in_the_readme_are_shipped() -> None:
    names = set(re.findall(r"qkd run ([a-z0-9-]+)", README))
    assert names
    assert all((ROOT / "examples" / f"{name}.yaml").is_file() for name in names)


def test_demo_is_the_command_the_readme_gives() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (command,) = re.findall(r"^\t\$\(BIN\)/(qkd run .*)$", makefile, flags=re.MULTILINE)
    (folder,) = re.findall(r"^OUT \?= (.+)$", makefile, flags=re.MULTILINE)
    assert command.replace("$(OUT)", folder) in README


def test_shown_output_was_printed_by_a_run() -> None:
    shown = README[begin().end() : README.index(END)].strip().strip("`").strip()
    assert re.search(r"95 % interval", shown)
    assert re.search(r"^teacher +1,203 +\d+\.\d±\d", shown, flags=re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 100


def test_a_classical_control_stands_beside_the_quantum_students() -> None:
    assert "No quantum advantage" in README
    for name in ("c2q-digits", "c2q-xor"):
        begun, ended = (README.index(f"<!-- output of {name}: {at}") for at in ("begin", "end"))
        shown = README[begun:ended]
        for row in ("linear", "classical control", "hybrid", "fully quantum sharp", "separable"):
            assert re.search(rf"^{row} .*±", shown, flags=re.MULTILINE), (name, row)
        assert "labels" in shown


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("c2q-digits", "make demo readme"),
        ("c2q-xor", "make readme OUT=runs/c2q-xor"),
        ("q2c-fashion", "make readme OUT=runs/q2c-fashion"),
        ("c2q-noise", "make readme OUT=runs/c2q-noise"),
        ("c2q-hardware", "make readme OUT=runs/c2q-hardware"),
    ],
)
def test_shown_output_is_of_the_configuration_that_is_shipped_or_says_that_it_is_not(
    name: str, command: str
) -> None:
    result = StudyResult(
        name="", config=Study.load(name).config.resolved(), candidates=(), failures={},
        missing=0, command="", environment={},
    )  # fmt: skip
    (shown,) = re.findall(rf"<!-- output of {name}: begin; configuration (\w+) -->", README)
    before = README[: README.index(f"<!-- output of {name}: begin")].rstrip().split("\n\n")[-1]
    assert ("of earlier settings" in before) == (shown != result.fingerprint[:16]), (
        f"run `{command}`: its settings changed"
    )


def test_what_the_teacher_saw_is_said_and_right() -> None:
    split = split_of(Study.load("c2q-digits").config.resolved())
    assert split is not None
    (said,) = re.findall(
        r"The teacher\nsaw the same (\d+) labels as its students and speaks on (\d+) samples",
        README,
    )
    assert (int(said[0]), int(said[1])) == (len(split.train.labels), len(split.transfer))
    assert f"one\nthat saw all {len(split.pool.labels)}" in README


def test_first_screen() -> None:
    head = README[: begin().start()]
    assert len(head.splitlines()) <= 25
    assert "make demo" in head
    assert "make test" in head
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", head)
    assert (ROOT / picture).stat().st_size > 2000


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks("python"))
def test_python_runs(block: str) -> None:
    lines = [line for line in block.splitlines() if line.strip()]
    assert len(lines) <= 12
    scope: dict[str, Any] = {}
    exec(compile(block, "README.md", "exec"), scope)
    history = scope["history"]
    assert len(history.curves["epoch"]) >= 1
    circuit = scope["student"].circuit.model.circuit
    assert isinstance(circuit, QuantumCircuit)
    assert isinstance(scope["qkd"].datasets, Registry)


def guide(language: str) -> list[str]:
    text = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_python_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    layers: list[Any] = []
    for block in guide("python"):
        exec(compile(block, "guide.md", "exec"), scope)
        layers += [scope["layer"]] if "layer" in scope else []
    assert layers[0].weight.numel() == 33
    assert scope["maps"].shape == (8, 3, 14, 14)
    assert scope["student"].circuit.model.num_weights == 30
    assert scope["mixed"].num_weights == 6
    x = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    exact, noisy, aer = (layer(x).detach().numpy() for layer in scope["layers"])
    np.testing.assert_allclose(aer, exact, atol=1e-12)
    assert 1e-3 < np.abs(noisy - exact).max() < 0.2


def test_yaml_of_the_guide_makes_an_experiment() -> None:
    """All of it in one file, but for the data of one's own."""
    *blocks, places = [block for block in guide("yaml") if "npz" not in block]
    (swept,) = [block for block in blocks if "learning_rate: [" in block]
    (upper,) = [block for block in blocks if "teacher_labels" in block]
    (control,) = [block for block in blocks if "candidates:" in block]
    blocks = [block for block in blocks if block not in (swept, upper, control)]
    assert len(blocks) == 4
    config = parse(
        upper + control + "name: guide\ndata: {kind: digits}\nbaseline: teacher_labels\n"
    )
    assert len(config.candidates("classical_control", "teacher_labels")) == 4
    config = parse(swept + "name: guide\ndata: {kind: digits}\nstudents: {s: {kind: linear}}\n"
                   "teacher: {kind: mlp, training: {learning_rate: 0.01}}\n")  # fmt: skip
    assert [len(config.candidates("s", name)) for name in config.variants] == [2, 12]
    config = parse("\n".join([*blocks, "name: guide", "students: {small: {kind: convolution}}"]))
    assert config.taught() == ["both"]
    assert len(config.points()) == 6
    config = parse(
        places + "name: guide\ndata: {kind: digits}\nteacher: {kind: mlp}\nbaseline: noisy\n"
        "students: {s: {kind: fully_quantum}}\n",
        ["evaluation.teacher=teacher"],
    )
    assert [here.backends["device"].settings["scale"] for here in map(config.at, config.points())] \
        == [0.0, 0.5, 1.0, 2.0]  # fmt: skip


def test_contributing_is_short_and_starts_with_commands() -> None:
    lines = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 60
    assert lines[2] == "```"
