# SPDX-License-Identifier: Apache-2.0
"""Networks for images: a first layer of filters, classical or quantum, and one linear layer.

The setting in which a network with a quanvolution teaches the same network with a convolution. Both
take flat rows, like every other student, and have the same initial head at the same seed.

`convolution` and `quanvolution` are registered with the other students when `qiskit_kd.nn` loads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from qiskit_kd.errors import ConfigError
from qiskit_kd.nn.circuit_spec import CircuitSpec, RunOptions, quantum_student
from qiskit_kd.nn.modules import (
    ACTIVATIONS,
    ClassicalStudent,
    Start,
    check_activation,
    check_sizes,
    seeded,
    whole_number,
)
from qiskit_kd.nn.quanvolution import Quanvolution, Window
from qiskit_kd.nn.students import students
from qiskit_kd.values import image_shape, spread

_ACTIVATIONS = {**ACTIVATIONS, "none": nn.Identity}
_SCALED = ("angle", "reuploading")  # encodings whose angles are pi times a pixel in 0..1
_AMPLITUDE_OFFSET = 0.1

Shape = tuple[int, int, int]


class ImageStudent(ClassicalStudent):
    """Flat rows to images, filters, an activation and a linear layer on the flattened maps."""

    @property
    def circuit(self) -> Quanvolution | None:
        """The quanvolution, where the filters are one; None for a convolution."""
        filters = self.filters
        return filters if isinstance(filters, Quanvolution) else None


@students.register("convolution")
@spread(start=Start, window=Window)
def convolution(
    num_features: int,
    num_classes: int,
    *,
    shape: Sequence[int] | None = None,
    filters: int = 3,
    activation: str = "relu",
    start: Start,
    window: Window,
) -> ImageStudent:
    """A convolution, an activation and a linear layer: 5,905 parameters for 28 x 28 and 10 classes.

    They are 3 x (2 x 2 + 1) = 15 of the filters and 3 x 14 x 14 x 10 + 10 = 5,890 of the head. The
    shape `(channels, height, width)` of an image is given by studies from their data set, the
    activation is `"relu"`, `"tanh"` or `"none"`, and the fields of `Window` are options too.

    Raises:
        ConfigError: If there is no shape, it does not fit the features, or an option makes no
            sense.
        DataError: If the kernel is larger than the padded image.
    """
    image = _shape(num_features, num_classes, shape)
    filters = whole_number(filters, what="filters", least=1)
    maps = (filters, *window.positions(image[1:]))
    layer = nn.Conv2d(image[0], filters, *window.pairs, dtype=start.precision, device="meta")
    seeded(layer, image[0] * window.pixels, seed=start.seed, name="filters")
    facts = {
        "kind": "convolution",
        "image": list(image),
        "filters": filters,
        **window.facts(),
        "activation": activation,
        "maps": list(maps),
    }
    return _student(layer, facts, num_classes, start)


@students.register("quanvolution")
@quantum_student(without=("num_qubits",), groups={"window": Window}, encoding="angle", layers=1)
def quanvolution(
    spec: CircuitSpec,
    num_classes: int,
    run: RunOptions,
    *,
    shape: Sequence[int] | None = None,
    filters: int = 3,
    activation: str = "relu",
    measured: Sequence[int] | None = None,
    trainable: bool = True,
    offset: float | None = None,
    window: Window,
) -> ImageStudent:
    """A quanvolution, an activation and a linear layer: 5,923 parameters, 33 of them quantum.

    That is for images of 28 x 28 and 10 classes. With the defaults, a pixel turns one of 4 qubits
    by `RY(pi * pixel)`; one layer of the hardware-efficient ansatz has 11 weights per filter, and Z
    of the last qubit is read, which every weight can move. With amplitude encoding a patch of 2 x 2
    takes 2 qubits and a filter 5 weights.

    Options are those of `convolution`; of `CircuitSpec`, where the encodings `angle` and
    `reuploading` have the scale pi unless it is given (pixels are numbers from 0 to 1); and of
    `RunOptions`. Each of the qubits `measured` makes a map of every filter. Filters that are not
    `trainable` stay random, and their maps are kept. The `offset` is added to every pixel; None is
    0, or 0.1 for encodings that normalise a patch, since a black one has no norm.

    Raises:
        ConfigError: If there is no shape, it does not fit the features, a name is unknown, or an
            option makes no sense.
        CircuitError: If a patch does not fit the qubits or a part cannot be built.
        DataError: If the kernel is larger than the padded image.
    """
    image = _shape(spec.num_features, num_classes, shape)
    window.positions(image[1:])  # before a circuit as wide as a kernel too large
    options = spec.encoding_options
    if spec.encoding in _SCALED and (options is None or isinstance(options, Mapping)):
        options = {"scale": math.pi, **(options or {})}
    features = image[0] * window.pixels
    spec = replace(spec, num_features=features, encoding_options=options, measured=measured)
    if offset is None:
        offset = _AMPLITUDE_OFFSET if spec.code.zero_is_undefined else 0.0
    own = {"trainable": trainable, "offset": offset, **run.of_layers()}
    layer = Quanvolution(spec.model, filters, *window.pairs, **own)
    maps = layer.output_shape(image)
    if trainable:
        spec.warn_dead_weights()
    facts = {
        "kind": "quanvolution",
        "image": list(image),
        "filters": layer.filters,
        **window.facts(),
        "activation": activation,
        "maps": list(maps),
        "trainable": trainable,
        "quantum_weights": layer.weight.numel(),
        "encoding_options": dict(options or {}),
        "offset": layer.offset,
        **spec.facts(),
        **run.facts(),
    }
    return _student(layer, facts, num_classes, run)


def _student(
    filters: nn.Module, facts: dict[str, Any], num_classes: int, start: Start
) -> ImageStudent:
    activation = facts["activation"]
    check_activation(activation, _ACTIVATIONS)
    layers = {
        "image": nn.Unflatten(-1, tuple(facts["image"])),
        "filters": filters,
        "activation": _ACTIVATIONS[activation](),
        "flatten": nn.Flatten(-3),  # of one image, too
        "head": start.linear(math.prod(facts["maps"]), num_classes, "head"),
    }
    return ImageStudent(layers, facts)


def _shape(num_features: int, num_classes: int, shape: Sequence[int] | None) -> Shape:
    num_features, num_classes = check_sizes(num_features, num_classes)
    channels, height, width = image_shape(
        shape,
        num_features,
        error=ConfigError,
        axes=3,
        rule="a network for images needs the shape of its images",
        remedy="Use a data set of images, or give the option shape, e.g. [1, 28, 28].",
    )
    return channels, height, width
