# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST, MNIST and CIFAR-10: class-balanced subsets of the published files.

What all seeds share (pool, validation and test set) is read once per process and kept as bytes;
float rows are made of a part when somebody first asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qiskit_kd.data.dataset import Dataset, Split, datasets
from qiskit_kd.data.sources import NUM_CLASSES, SOURCES, Source, locate, read
from qiskit_kd.data.splits import (
    balanced_order,
    check_count,
    check_every_class,
    choose_classes,
    relabelled,
)
from qiskit_kd.errors import DataError
from qiskit_kd.seeding import stream
from qiskit_kd.values import spread


class Images(Dataset):
    """A `Dataset` of images, kept as bytes: an eighth of the room of its features.

    `pixels` are `(samples, channels * height * width)` unsigned bytes; the rest is as of `Dataset`.
    Nothing is checked or copied: it comes from files whose MD5 is known, and from rows of those.
    """

    pixels: NDArray[np.uint8]

    def __init__(
        self,
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        num_classes: int,
        name: str,
        shape: tuple[int, ...],
    ) -> None:
        self.__dict__.update(
            pixels=pixels,
            labels=labels.astype(np.int64, copy=False),
            num_classes=num_classes,
            name=name,
            shape=shape,
        )

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """`(samples, features)`: the pixels scaled to 0..1, made on first use and kept."""
        return self.pixels / 255.0

    @property
    def num_features(self) -> int:
        """Width of a row."""
        return int(self.pixels.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, as of `Dataset`, but of the bytes of the pixels."""
        return self._fingerprint(self.pixels)

    def take(self, rows: NDArray[np.intp]) -> Images:
        """A data set of those rows."""
        return Images(
            self.pixels[rows], self.labels[rows], self.num_classes, self.name, self.shape or ()
        )


@dataclass(frozen=True)
class Subset:
    """Which samples of published files; options of all builders here.

    Args:
        train: Labelled training samples, K; None takes all of the pool but `transfer`.
        validation: Samples to choose a model on.
        test: Samples of the test file, the first of each class; None takes all of them.
        transfer: Unlabelled samples of the pool, those behind the K.
        classes: The classes to keep, relabelled 0, 1, ... in the order given; None keeps all ten.
        root: The folder to read from.
        download: Fetch the files through torchvision if they are nowhere.
    """

    train: int | None = None
    validation: int = 1000
    test: int | None = None
    transfer: int = 0
    classes: Sequence[int] | None = None
    root: str | Path | None = None
    download: bool = False


@datasets.register("fashion_mnist")
@spread(subset=Subset)
def fashion_mnist(*, seed: int, subset: Subset) -> Split:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 x 28 pixels, ten classes.

    T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot: 0 to 9.

    - *Validation* rows come from the training file and are the same for every seed, so that one
      teacher can be trained on everything else (`pool`) and teach the students of all seeds.
    - *Balance*: each part has every class equally often, within one sample, for as long as every
      class lasts.
    - *Nesting*: with one seed, a larger `train` begins with the smaller one.
    - *Files* are searched in `root` alone, if given; otherwise in `$QKD_DATA`, in
      `~/.cache/qiskit_kd` and where Debian's package `dataset-fashion-mnist` puts them. In each
      folder torchvision's layout (`FashionMNIST/raw`), a folder `fashion_mnist` and the files by
      themselves are recognised, gzipped or not.

    Options are the fields of `Subset`; the seed chooses the samples of `train` and `transfer`.

    Raises:
        DataError: If the files are missing, truncated or altered, `classes` are not at least two
            distinct ones, there are fewer samples than asked for, or a class gets no sample.

    References:
        H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747.
    """
    return _split(SOURCES["fashion_mnist"], seed, subset)


@datasets.register("mnist")
@spread(subset=Subset)
def mnist(*, seed: int, subset: Subset) -> Split:
    """MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 pixels; options as `fashion_mnist`.

    Classes are not equally frequent: the rarest has 5,421 training images. A larger part than ten
    times that goes on with the other classes.

    References:
        Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Proc. IEEE 86, 2278 (1998).
    """
    return _split(SOURCES["mnist"], seed, subset)


@datasets.register("cifar10")
@spread(subset=Subset)
def cifar10(*, seed: int, subset: Subset) -> Split:
    """CIFAR-10: 50,000 + 10,000 colour pictures, 32 x 32 pixels; options as `fashion_mnist`.

    Airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck: 0 to 9. A row is red,
    then green, then blue, each line by line.

    References:
        A. Krizhevsky, "Learning multiple layers of features from tiny images" (2009).
    """
    return _split(SOURCES["cifar10"], seed, subset)


def _split(source: Source, seed: int, asked: Subset) -> Split:
    for part, least in (("train", 1), ("validation", 1), ("test", 1), ("transfer", 0)):
        if (size := getattr(asked, part)) is not None:
            check_count(size, least, what=f"{part} of {source.title}")
    kept, name = choose_classes(asked.classes, NUM_CLASSES, name=source.name)
    folder = locate(source, asked.root, download=asked.download)
    pool, held_out, judged = _shared(source.name, folder, name, kept, asked.validation, asked.test)
    count = len(pool) - asked.transfer if asked.train is None else asked.train
    if count < 1 or count + asked.transfer > len(pool):
        sizes = {part: getattr(asked, part) for part in ("train", "transfer", "validation")}
        raise _too_many(source, sizes, "training", len(pool) + asked.validation)
    order = balanced_order(pool.labels, stream(seed, "images", "train"))
    taught = pool if count == len(pool) else pool.take(order[:count])
    check_every_class(taught.labels, np.arange(len(kept)), part="train")
    unlabelled = pool.pixels[order[count : count + asked.transfer]] / 255.0
    return Split(taught, held_out, judged, unlabelled, pool, drawn_from=len(pool), copy=False)


@lru_cache(maxsize=2)
def _shared(
    source_name: str,
    folder: Path,
    name: str,
    kept: tuple[int, ...],
    validation: int,
    test: int | None,
) -> tuple[Images, Images, Images]:
    """Pool, validation and test set: the same objects for every seed and K."""
    source = SOURCES[source_name]
    raw = read(source, folder)

    def images(
        pixels: NDArray[np.uint8], rows: NDArray[np.intp], labels: NDArray[np.int64]
    ) -> Images:
        return Images(pixels[rows], labels, len(kept), name, source.shape)

    rows, labels = relabelled(raw.train_labels, kept)
    if validation >= len(rows):
        raise _too_many(source, {"train": None, "validation": validation}, "training", len(rows))
    # Not by the seed of the experiment, on purpose.
    order = balanced_order(labels, stream(0, "images", "validation"))
    pool, held_out = (
        images(raw.train_pixels, rows[where], labels[where])
        for where in (np.sort(order[validation:]), np.sort(order[:validation]))
    )
    rows, labels = relabelled(raw.test_labels, kept)
    if test is not None and test > len(rows):
        raise _too_many(source, {"test": test}, "test", len(rows))
    where = np.sort(balanced_order(labels, None)[:test])
    judged = images(raw.test_pixels, rows[where], labels[where])
    for part, made in (("validation", held_out), ("test", judged)):
        check_every_class(made.labels, np.arange(len(kept)), part=part)
    return pool, held_out, judged


def _too_many(source: Source, sizes: dict[str, int | None], file: str, total: int) -> DataError:
    asked = " + ".join(f"{size} {part}" for part, size in sizes.items() if size)
    return DataError(
        f"the parts of a split fit into the {file} files of {source.title}",
        got=asked if sizes.get("train", 1) else f"{asked}, leaving nothing to train on",
        expected=f"at most {total} in all",
        remedy="Ask for fewer samples.",
    )
