# SPDX-License-Identifier: Apache-2.0
"""What `qkd init` writes: a small experiment with every key explained."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from qiskit_kd.errors import ConfigError, StorageError
from qiskit_kd.yamlfile import parse_yaml

TEMPLATE = """\
# An experiment: students x variants x paired seeds. Run it with `qkd run {file}`.
schema: 1
name: {name}
title: Does a classical teacher help a quantum student?

data:
  kind: digits              # a registered data set: digits, extended_xor, npz
  options:                  # what its builder takes
    classes: [3, 5, 8]
    centre: true
    train: 60
    transfer: 200           # unlabelled samples, on which only a teacher can speak

teacher:                    # one per seed, trained first; several: teachers: {{NAME: ...}}
  kind: mlp
  options: {{hidden: [16, 8]}}
  training: {{learning_rate: 0.01}}
  sees: same                # same: the student's samples; all: the whole labelled pool

students:                   # row name: a registered student and its options
  linear: {{kind: linear}}
  fully_quantum:
    kind: fully_quantum
    options: {{sharpness: learnable}}

variants:                   # what a student is taught with
  plain:
    terms: [{{loss: ce}}]
  distilled:
    teacher: teacher
    temperature: [1, 4]     # candidates; the validation split chooses
    terms: [{{loss: ce}}, {{loss: kl}}]
  shuffled:                 # a placebo, swept like the real thing
    teacher: teacher
    placebo: shuffled     # others: uniform, untrained
    temperature: [1, 4]
    terms: [{{loss: ce}}, {{loss: kl}}]

baseline: plain             # gains are measured against this variant
headline: fully_quantum     # the student of the report's first line
seeds: 5                    # a number, or a list
training:                   # of every variant alike; a batch counts labelled samples, unlabelled
                            # ones come along, so that all variants take as many steps
  {{epochs: 40, batch_size: 32, learning_rate: 0.03}}
metric: accuracy            # chooses epochs and candidates, on validation data
backend: exact              # see `qkd backends`; a device needs a budget: `qkd estimate {file}`
# axes:                     # all of it again with other settings
#   images: {{title: labelled images, key: data.options.train, values: [30, 60, 120]}}

presets:                    # `--preset quick` puts these on top
  quick: {{seeds: 2, training: {{epochs: 5}}}}
"""


def write_template(path: str | Path) -> Path:
    """Write the template to a new file.

    Raises:
        ConfigError: If the file exists.
        StorageError: If it cannot be written.
    """
    path = Path(path)
    text = TEMPLATE.format(file=shlex.quote(path.name), name=_name(path.stem))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(
            "the file exists already", got=str(path), remedy="Name another one: qkd init NAME.yaml."
        ) from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written", got=str(error.strerror), remedy="Choose another folder."
        ) from None
    return path


def _name(stem: str) -> str:
    """A name the schema takes, in quotes where YAML would read a number or another value."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).lstrip("_.-")[:60] or "experiment"
    return name if parse_yaml(name)[0] == name else json.dumps(name)
