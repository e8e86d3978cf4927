# SPDX-License-Identifier: Apache-2.0
"""Extended XOR: 64 features, 3 classes, nothing a linear model could use, no download.

The published data set of this name (Piperno et al., IJCNN 2025) comes without its generator. This
one follows what is known of it, 64 features, three classes, not linearly separable, and makes every
choice explicit.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.data.dataset import Dataset, Split, datasets
from qiskit_kd.data.splits import check_count
from qiskit_kd.errors import DataError
from qiskit_kd.seeding import stream
from qiskit_kd.values import real, whole

CLASSES = 3
MAX_PAIRS = 8  # a table of all 2**16 bit patterns


@datasets.register("extended_xor")
def extended_xor(
    *,
    seed: int,
    train: int = 60,
    validation: int = 300,
    test: int = 1000,
    transfer: int = 600,
    extra: int = 1340,
    num_features: int = 64,
    pairs: int = 2,
    copies: int = 1,
    amplitude: float = 1.0,
    noise: float = 0.4,
    jitter: float = 0.3,
    layout: int = 0,
) -> Split:
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

    Args:
        seed: Fixes the samples.
        train: Labelled training samples.
        validation: Samples to choose a model on.
        test: Samples touched once.
        transfer: Unlabelled samples.
        extra: Samples of the pool besides those for training and transfer: with labels, and only
            for a teacher that sees more than its student.
        num_features: Width of a row.
        pairs: Pairs of bits, 2 to 8.
        copies: Features that carry each bit.
        amplitude: Size of the signs.
        noise: Standard deviation of the features that carry nothing.
        jitter: Standard deviation of the Gaussian added to the signs.
        layout: Which permutation of the features.

    Raises:
        DataError: If a number makes no sense or the bits do not fit into the features.
    """
    pairs = whole(
        pairs,
        "extended XOR counts pairs of bits",
        name="pairs",
        least=2,
        most=MAX_PAIRS,
        error=DataError,
        expected=f"2 to {MAX_PAIRS} (one pair makes two classes only)",
    )
    num_features = whole(
        num_features, "num_features is a whole number", least=2 * pairs, error=DataError
    )
    bits = 2 * pairs
    copies = whole(
        copies,
        f"the informative bits fit into the features: {bits} bits x copies in "
        f"{num_features} features",
        name="copies",
        least=1,
        most=num_features // bits,
        error=DataError,
    )
    amplitude = real(
        amplitude,
        "amplitude is a finite number",
        least=0,
        strict=True,
        error=DataError,
        expected="more than 0",
    )
    noise, jitter = (
        real(size, f"{key} is a finite number", least=0, error=DataError, expected="0 or more")
        for key, size in (("noise", noise), ("jitter", jitter))
    )
    sizes = {
        "train": train,
        "validation": validation,
        "test": test,
        "transfer": transfer,
        "extra": extra,
    }
    for part, size in sizes.items():
        least = 0 if part in ("transfer", "extra") else CLASSES
        check_count(size, least, what=f"{part} of extended XOR")

    where = stream(layout, "extended_xor", "layout").permutation(num_features)
    where = where[: bits * copies].reshape(bits, copies)

    def draw(part: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        size = sizes[part]
        labels = np.arange(size) % CLASSES
        # One stream per kind of number: what is drawn for a row never depends on how many follow.
        pick = stream(seed, "extended_xor", part, "bits").random(size)
        x = stream(seed, "extended_xor", part, "noise").standard_normal((size, num_features))
        x *= noise
        spread = stream(seed, "extended_xor", part, "jitter").standard_normal((size, *where.shape))
        for label, patterns in enumerate(_patterns(pairs)):
            rows = np.flatnonzero(labels == label)
            chosen = patterns[(pick[rows] * len(patterns)).astype(int)]
            x[np.ix_(rows, where.ravel())] = (
                amplitude * chosen[:, :, None] + jitter * spread[rows]
            ).reshape(len(rows), where.size)
        return x, labels

    parts = {part: draw(part) for part in sizes}
    pool = [parts["train"], parts.pop("transfer"), parts.pop("extra")]
    unlabelled = pool[1][0]
    parts["pool"] = (np.concatenate([x for x, _ in pool]), np.concatenate([y for _, y in pool]))
    made = {
        part: Dataset(x, y, CLASSES, "extended_xor", copy=False) for part, (x, y) in parts.items()
    }
    return Split(
        made["train"], made["validation"], made["test"], unlabelled, made["pool"], copy=False
    )


def _patterns(pairs: int) -> list[NDArray[np.float64]]:
    """Per class, all sign patterns `(patterns, 2 pairs)` whose differing pairs count to it."""
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=2 * pairs)))
    counts = (signs[:, 0::2] != signs[:, 1::2]).sum(axis=1) % CLASSES
    return [signs[counts == label] for label in range(CLASSES)]
