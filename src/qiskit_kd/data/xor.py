# SPDX-License-Identifier: Apache-2.0
"""Extended XOR: 64 features, 3 classes, nothing a linear model could use, no download.

The published data set of this name (Piperno et al., IJCNN 2025) comes without its generator. This
one follows what is known of it, 64 features, three classes, not linearly separable, and makes every
choice explicit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.data.dataset import Dataset, Split, datasets
from qiskit_kd.data.splits import check_count
from qiskit_kd.errors import DataError
from qiskit_kd.seeding import stream
from qiskit_kd.values import real, spread, whole

CLASSES = 3
MAX_PAIRS = 8  # a table of all 2**16 bit patterns


@dataclass(frozen=True)
class _Sizes:
    """Samples of each part, `extra` those of the pool besides training and transfer."""

    train: int = 60
    validation: int = 300
    test: int = 1000
    transfer: int = 600
    extra: int = 1340

    def __post_init__(self) -> None:
        for part, size in vars(self).items():
            least = 0 if part in ("transfer", "extra") else CLASSES
            check_count(size, least, what=f"{part} of extended XOR")


@dataclass(frozen=True)
class _Task:
    """What a sample looks like, as `extended_xor` tells it."""

    num_features: int = 64
    pairs: int = 2
    copies: int = 1
    amplitude: float = 1.0
    noise: float = 0.4
    jitter: float = 0.3
    layout: int = 0

    def __post_init__(self) -> None:
        pairs = whole(
            self.pairs,
            "extended XOR counts pairs of bits",
            name="pairs",
            least=2,
            most=MAX_PAIRS,
            error=DataError,
            expected=f"2 to {MAX_PAIRS} (one pair makes two classes only)",
        )
        bits, rule = 2 * pairs, "num_features is a whole number"
        width = whole(self.num_features, rule, least=bits, error=DataError)
        rule = (
            f"the informative bits fit into the features: {bits} bits x copies in {width} features"
        )
        most = width // bits
        copies = whole(self.copies, rule, name="copies", least=1, most=most, error=DataError)
        taken: dict[str, float] = {"pairs": pairs, "num_features": width, "copies": copies}
        for key in ("amplitude", "noise", "jitter"):
            size, rule = key == "amplitude", f"{key} is a finite number"
            expected = "more than 0" if size else "0 or more"
            value = getattr(self, key)
            taken[key] = real(value, rule, least=0, strict=size, error=DataError, expected=expected)
        for key, value in taken.items():
            object.__setattr__(self, key, value)

    def positions(self) -> NDArray[np.intp]:
        """`(2 pairs, copies)` features that carry the bits."""
        where = stream(self.layout, "extended_xor", "layout").permutation(self.num_features)
        return where[: 2 * self.pairs * self.copies].reshape(2 * self.pairs, self.copies)

    def draw(
        self, seed: int, part: str, size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Samples of one part and their classes, which take turns."""

        def random(kind: str) -> np.random.Generator:
            # One for each kind: what is drawn for a row never depends on how many follow.
            return stream(seed, "extended_xor", part, kind)

        where, labels = self.positions(), np.arange(size) % CLASSES
        pick = random("bits").random(size)
        x = random("noise").standard_normal((size, self.num_features))
        x *= self.noise
        wobble = random("jitter").standard_normal((size, *where.shape))
        for label, patterns in enumerate(_patterns(self.pairs)):
            rows = np.flatnonzero(labels == label)
            chosen = patterns[(pick[rows] * len(patterns)).astype(int)]
            x[np.ix_(rows, where.ravel())] = (
                self.amplitude * chosen[:, :, None] + self.jitter * wobble[rows]
            ).reshape(len(rows), where.size)
        return x, labels


@datasets.register("extended_xor")
@spread(sizes=_Sizes, task=_Task)
def extended_xor(*, seed: int, sizes: _Sizes, task: _Task) -> Split:
    """Three classes by counting XORs: class = (number of bit pairs that differ) mod 3.

    Each of `2 pairs` bits is written as a sign, plus or minus `amplitude`, on `copies` features,
    with Gaussian jitter; all other features are Gaussian noise around zero.

    - *Disjoint pairs.* With b the number of set bits among k, the sum of XORs over *all* pairs of
      bits is b (k - b), and mod 3 this takes two values only, whatever k. Disjoint pairs give
      all three classes.
    - *Two pairs* by default: the class is then a function of the sum of two products of signs, a
      quadratic form in x. Basis-state probabilities of an amplitude-encoded sample are quadratic
      forms in `x / ||x||`, so the task is within reach of one copy of the state, in principle. With
      three pairs (0 and 3 differing pairs share a class) it is not.
    - *Linear models* cannot use it: every feature and every class has mean zero given the class.
    - *Classes* are equally frequent in every part (within one sample); within a class all bit
      patterns are equally likely.
    - *The middle class* (one pair differs) is hard for class probabilities by themselves: they are
      linear in the sum of products, so with equal classes their best likelihood leaves it at a
      near tie. A learnable sharpness or a linear head resolves it.
    - *Noise, jitter and sizes* were chosen on validation samples, so that there is something to
      distil: a 64-16-8-3 network that sees the pool is good (macro-F1 above 0.9, tested), one that
      sees the training samples alone is not, and small students have room in between.
    - *Positions* of the signs are a fixed random permutation of the features, chosen by `layout`,
      not by `seed`: all seeds pose the same task, and no qubit is favoured.
    - *Nesting.* With one seed, a larger part begins with the smaller one, and the size of one part
      does not change the samples of another.

    Options are the sizes `train`, `validation`, `test`, `transfer` (without labels) and `extra`
    (with labels, only for a teacher that sees more than its student), the width `num_features`,
    `pairs` of bits (2 to 8), `copies` (features that carry each bit), `amplitude` of the signs, the
    standard deviations `jitter` of what is added to them and `noise` of all other features, and
    `layout`.

    Raises:
        DataError: If a number makes no sense or the bits do not fit into the features.
    """
    parts = {part: task.draw(seed, part, size) for part, size in vars(sizes).items()}
    pool = [parts["train"], parts.pop("transfer"), parts.pop("extra")]
    parts["pool"] = (np.concatenate([x for x, _ in pool]), np.concatenate([y for _, y in pool]))
    made: dict[str, Any] = {
        part: Dataset(x, y, CLASSES, "extended_xor", copy=False) for part, (x, y) in parts.items()
    }
    return Split(**made, transfer=pool[1][0], copy=False)


def _patterns(pairs: int) -> list[NDArray[np.float64]]:
    """Per class, all sign patterns `(patterns, 2 pairs)` whose differing pairs count to it."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=2 * pairs)))
    counts = (signs[:, 0::2] != signs[:, 1::2]).sum(axis=1) % CLASSES
    return [signs[counts == label] for label in range(CLASSES)]
