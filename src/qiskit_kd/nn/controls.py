# SPDX-License-Identifier: Apache-2.0
"""Classical controls of the size of a quantum student, as strong as a few simple ideas make them.

A quantum student has shown nothing if a classical network with as many trained numbers does as
well. Which one is best depends on the data, so a study tries several and lets validation choose.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.nn.modules import (
    ClassicalStudent,
    Projection,
    Start,
    check_sizes,
    fitted_widths,
    whole_number,
)
from qiskit_kd.nn.students import students
from qiskit_kd.seeding import stream
from qiskit_kd.values import spread

CONTROLS = ("pca_linear", "pca_mlp", "pca_quadratic", "random_mlp")


@students.register("classical_control")
@spread(start=Start)
def classical_control(
    num_features: int,
    num_classes: int,
    *,
    control: str = "random_mlp",
    budget: int = 74,
    samples: NDArray[np.floating] | None = None,
    start: Start,
) -> ClassicalStudent:
    """Fixed features, fitted to the training samples alone, and a trained part of `budget` numbers.

    The trained part is the smallest with at least `budget` parameters that the features allow: 75
    for 64 features, three classes and the default budget, with each of the controls:

    - `pca_linear`: principal components, then one linear layer (24 components),
    - `pca_quadratic`: the same, the last features being products of the first components, which is
      what outputs of a circuit are: quadratic forms of an amplitude-encoded sample,
    - `pca_mlp`: principal components, then tanh units (14 components, 4 units),
    - `random_mlp`: the same behind a random projection, like `equal_size`.

    Principal components are centred, and scaled to a mean variance of one. Where there are fewer
    samples than components, random directions complete them. `samples` are the `(batch,
    num_features)` training samples, without labels; a study hands its own over.

    Raises:
        ConfigError: If the name is unknown, the budget is no positive integer, or the samples of a
            `pca_` control are missing or of another shape.
    """
    num_features, num_classes = check_sizes(num_features, num_classes)
    if control not in CONTROLS:
        raise UnknownNameError.of("classical control", str(control), CONTROLS)
    budget = whole_number(budget, what="budget", least=1)
    if control in ("pca_mlp", "random_mlp"):
        size, hidden = fitted_widths(num_features, num_classes, budget)
    else:  # C (size + 1) parameters
        size, hidden = max(1, -(-budget // num_classes) - 1), None
    components = size
    if control == "pca_quadratic":  # k components have k (k + 3) / 2 terms of degree one and two
        components = next(k for k in range(1, size + 1) if k * (k + 3) // 2 >= size)
    width = components = min(components, num_features)
    layers: dict[str, nn.Module] = {}
    first: dict[str, Any] = {"seed": start.seed, "dtype": start.precision}
    if control == "random_mlp":
        layers["projection"] = Projection(num_features, components, **first)
    else:
        layers["components"] = Components(_checked(samples, num_features), components, **first)
    if control == "pca_quadratic":
        layers["products"] = products = Products(components, size)
        width = products.size
    if hidden is not None:
        layers["hidden"], layers["tanh"] = start.linear(width, hidden, "hidden"), nn.Tanh()
        width = hidden
    layers["output"] = start.linear(width, num_classes, "output")
    facts: dict[str, Any] = {
        "kind": "classical_control",
        "control": control,
        "budget": budget,
        "projected_features": components,
    }
    return ClassicalStudent(layers, facts | ({} if hidden is None else {"hidden": hidden}))


@students.register("equal_size")
@spread(start=Start)
def equal_size(
    num_features: int, num_classes: int, *, budget: int = 74, start: Start
) -> ClassicalStudent:
    """The classical control of (nearly) the same size: frozen projection, then a tiny network.

    A random orthogonal projection to f features, which is not trained, Linear(f, h), tanh and
    Linear(h, C): `h (f + 1) + C (h + 1)` trainable parameters. f and h make that the smallest
    number not below `budget`; of equally good ones, h is as near as possible to C + 1. From 64
    features: 75 with f = 14, h = 4 for C = 3 classes (74 is out of reach), 74 with f = 5, h = 4
    for ten. It is the control `random_mlp` under the name it had first.

    Raises:
        ConfigError: If the budget is no positive integer.
    """
    made = classical_control(num_features, num_classes, budget=budget, **vars(start))
    same = cast(ClassicalStudent, made)
    same.facts = {key: value for key, value in same.facts.items() if key != "control"}
    same.facts["kind"] = "equal_size"
    return same


class Components(nn.Module):
    """The first principal components of some samples, frozen, but kept with the weights."""

    mean: Tensor
    matrix: Tensor

    def __init__(
        self, samples: NDArray[np.floating], size: int, *, seed: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        mean = samples.mean(axis=0)
        _, spread, axes = np.linalg.svd(samples - mean, full_matrices=False)
        known = min(size, int((spread > 1e-9 * spread[:1]).sum()))
        axes = (
            axes[:known]
            * np.sign(axes[:known, np.abs(axes[:known]).argmax(axis=1)].diagonal())[:, None]
        )
        gauss = stream(seed, "init", "components").standard_normal((samples.shape[1], size - known))
        q, r = np.linalg.qr(np.concatenate([axes.T, gauss], axis=1))
        variance = np.square(spread[:known]).sum() / max(1, known * (len(samples) - 1))
        scale = 1.0 / np.sqrt(variance) if variance > 0 else 1.0
        self.register_buffer("mean", torch.as_tensor(mean, dtype=dtype))
        matrix = q * np.sign(np.diag(r)) * scale
        self.register_buffer("matrix", torch.as_tensor(matrix, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., num_features)` to `(..., size)`."""
        return (x - self.mean) @ self.matrix


class Products(nn.Module):
    """`(..., k)` features, followed by products of two of them, `size` in all."""

    def __init__(self, components: int, size: int) -> None:
        super().__init__()
        pairs = [(i, j) for j in range(components) for i in range(j + 1)][: size - components]
        self.pairs = pairs
        self.size = components + len(pairs)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., k)` to `(..., size)`."""
        first, second = ([pair[side] for pair in self.pairs] for side in (0, 1))
        return torch.cat([x, x[..., first] * x[..., second]], dim=-1)


def _checked(samples: object, num_features: int) -> NDArray[np.float64]:
    found = None if samples is None else np.asarray(samples)
    if (
        found is None
        or found.ndim != 2
        or len(found) < 2
        or found.shape[1] != num_features
        or found.dtype.kind not in "fiu"
        or not np.isfinite(found).all()
    ):
        raise ConfigError(
            "principal components are those of training samples",
            got="samples=None" if found is None else f"{found.dtype} of shape {found.shape}",
            expected=f"two or more rows of {num_features} finite numbers",
            remedy="Pass samples=split.train.features, or take control='random_mlp'.",
        )
    return found.astype(np.float64)
