# SPDX-License-Identifier: Apache-2.0
"""`Quanvolution`: a circuit that moves over images like the kernel of a convolution.

Each patch of an image is encoded, run through one circuit per filter, and its readout becomes a
pixel of that filter's map (Henderson et al., arXiv:1904.04767). All patches and filters of a batch
are evaluated together: one call of the engine, one job of a device.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qiskit_kd.circuits.model import CircuitModel, check_model
from qiskit_kd.errors import CircuitError, ConfigError, DataError
from qiskit_kd.execution.autograd import refuse_export, run, uncompiled
from qiskit_kd.execution.engine import Engine
from qiskit_kd.execution.exact import ExactEngine
from qiskit_kd.nn.cache import OutputCache, in_equal_passes, module_hash, sample_keys
from qiskit_kd.nn.layer import AnyBackend, CircuitLayer
from qiskit_kd.values import listed, real, shown, whole

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Where the kernel of a convolution goes: numbers for height and width, or one for both.

    Args:
        kernel_size: Height and width of a patch.
        stride: Steps down and to the right.
        padding: Rows of zeros above and below, columns of zeros to the left and right.

    Raises:
        ConfigError: If one is neither, or too small.
    """

    kernel_size: int | Sequence[int] = 2
    stride: int | Sequence[int] = 2
    padding: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0)):
            value = getattr(self, name)
            rule = f"{name} is a whole number or a pair of them, for height and width"
            try:
                both = [value] * 2 if hasattr(value, "__index__") else listed(value, rule)
                first, second = (whole(each, rule, least=least) for each in both)
            except (ConfigError, ValueError):
                raise ConfigError(rule, got=shown(value), expected=f"{least} or more") from None
            object.__setattr__(self, name, (first, second))

    @property
    def pairs(self) -> tuple[Pair, Pair, Pair]:
        """Kernel, stride and padding, each as (height, width)."""
        return self.kernel_size, self.stride, self.padding  # type: ignore[return-value]

    @property
    def pixels(self) -> int:
        """Pixels of one channel below the kernel."""
        return math.prod(self.pairs[0])

    def positions(self, image: Pair) -> Pair:
        """Rows and columns of places the kernel takes on an image.

        Raises:
            DataError: If the kernel is larger than the image with its padding.
        """
        kernel, stride, padding = self.pairs
        padded = (image[0] + 2 * padding[0], image[1] + 2 * padding[1])
        if kernel[0] > padded[0] or kernel[1] > padded[1]:
            size, seen, border, total = (f"{a}x{b}" for a, b in (kernel, image, padding, padded))
            raise DataError(
                "a kernel is no larger than the padded image",
                got=f"a kernel of {size} on an image of {seen} with padding {border}, which makes "
                f"{total}",
                remedy="Use a smaller kernel_size, more padding or larger images.",
            )
        return (padded[0] - kernel[0]) // stride[0] + 1, (padded[1] - kernel[1]) // stride[1] + 1

    def cut(self, images: Tensor) -> Tensor:
        """`(channels * pixels, batch * positions)` pixels below the kernel, contiguous.

        Of `(batch, channels, height, width)` images. Pixels of a patch are ordered channel, row,
        column, as in `torch.nn.Unfold`; patches image, row, column.
        """
        kernel, stride, (below, beside) = self.pairs
        if below or beside:
            images = nn.functional.pad(images, (beside, beside, below, below))
        windows = images.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
        batch, channels, rows, columns = windows.shape[:4]
        ordered = windows.permute(1, 4, 5, 0, 2, 3)
        return ordered.reshape(channels * self.pixels, batch * rows * columns).contiguous()

    def facts(self) -> dict[str, list[int]]:
        """What a row and a report say."""
        return {name: list(value) for name, value in vars(self).items()}


_CHUNK = 64  # images per pass of a frozen layer on the exact engine


class Quanvolution(CircuitLayer):
    """A quantum convolution: `(batch, channels, height, width)` to `(batch, maps, rows, columns)`.

    `maps` is `filters * num_outputs`, the filter slowest. Filters share the circuit and have
    weights of their own. Pixels of a patch are the features of the circuit in the order channel,
    row, column, so the model takes `channels * kernel height * kernel width` features. Unlike a
    convolution it has no bias.

    With `trainable=False` the weights stay random, as in the original quanvolution. The maps of an
    image are then computed once and found again by its content, as long as no gradient is asked for
    (neither of the weights nor of the images). They are kept in memory, and in `cache_dir` where
    one is given. On a sampled backend that means the shots of an image are drawn once: when it is
    first seen. Copies and checkpoints do not carry what memory keeps, so a run that is resumed in
    another process draws anew, and ends with the same bits only where `cache_dir` is given.

    Args:
        model: The circuit model of one patch.
        filters: Number of filters.
        kernel_size: Height and width of a patch, one number or a pair.
        stride: Steps of the kernel down and to the right, one number or a pair.
        padding: Rows and columns of black pixels (zeros, before `offset`) added on each side, one
            number or a pair. With angle encoding a black pixel does not turn its qubit.
        backend: A name in `backends.yaml`, a `Backend`, or an `Engine`.
        trainable: Whether the weights learn.
        offset: Added to every pixel. Amplitude encoding normalises each patch and has no state for
            a black one; with an offset, a black patch is the uniform superposition.
        cache_dir: Folder that keeps the maps of a frozen layer between processes.
        run: `gradient`, `shots`, `seed` and `dtype`, as of `QuantumLayer`; outputs have the type of
            the images.

    Raises:
        CircuitError: If `model` is no `CircuitModel` or no number of channels gives its features.
        ConfigError: If a number makes no sense, the backend is unknown, or an option does not fit.

    Attributes:
        weight: `(filters, num_weights)` angles in radians, the one parameter. The state dict of
            a `TorchConnector` over the same circuit loads into a quanvolution of one filter.
        backend: What `backend` was. Setting it exchanges the engine, as setting `gradient`,
            `shots` or `engine` does.

    References:
        Henderson et al., arXiv:1904.04767 (random circuits as filters of a first layer).
    """

    def __init__(
        self,
        model: CircuitModel,
        filters: int = 3,
        kernel_size: int | Sequence[int] = 2,
        stride: int | Sequence[int] = 2,
        padding: int | Sequence[int] = 0,
        backend: AnyBackend = "exact",
        *,
        trainable: bool = True,
        offset: float = 0.0,
        cache_dir: str | Path | None = None,
        **run: Any,
    ) -> None:
        super().__init__()
        check_model(model, part="a quanvolution")
        self.filters = whole(filters, "filters is a whole number", least=1)
        self.offset = real(offset, "offset is a finite number")
        if not isinstance(trainable, bool):
            raise ConfigError("trainable is true or false", got=repr(trainable))
        if trainable and cache_dir is not None:
            raise ConfigError(
                "only maps of frozen weights are kept",
                got="cache_dir beside trainable=True",
                remedy="Leave cache_dir out, or set trainable=False.",
            )
        self.window = Window(kernel_size, stride, padding)
        self.kernel_size, self.stride, self.padding = self.window.pairs
        pixels, (high, wide) = self.window.pixels, self.kernel_size
        if model.num_features % pixels:
            raise CircuitError(
                "a filter takes one feature for each channel and pixel of its kernel",
                got=f"{model.num_features} features for a kernel of {high}x{wide}",
                expected=f"a multiple of {pixels}",
                remedy=f"Use an encoding of {pixels} features per channel, e.g. angle({pixels}), "
                "or another kernel_size.",
            )
        self.channels = model.num_features // pixels
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._kept: tuple[str, Engine, OutputCache] | None = None
        self._remembers = not trainable
        shape = (self.filters, model.num_weights)
        self._set_up(model, shape, trainable=trainable, backend=backend, **run)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # copies compute, or read the folder, anew

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        # A connector over the same circuit has one row of weights, under one key or both.
        for key in (f"{prefix}weight", f"{prefix}_weights"):
            if self.filters == 1 and key in state_dict and state_dict[key].ndim == 1:
                state_dict[key] = state_dict[key][None]
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def output_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """`(channels, height, width)` of an image to `(maps, rows, columns)`.

        Raises:
            DataError: If such images do not fit the circuit or the kernel.
        """
        channels, height, width = shape
        if channels != self.channels:
            high, wide = self.kernel_size
            raise DataError(
                f"the circuit of this quanvolution takes {self.model.num_features} features, one "
                "for each pixel of a patch",
                got=f"{channels} channels x {high}x{wide} pixels = {channels * high * wide}",
                expected=f"images of {self.channels} channels",
                remedy="Use an encoding of as many features, or another kernel_size.",
            )
        rows, columns = self.window.positions((height, width))
        return self.filters * self.model.num_outputs, rows, columns

    def forward(self, images: Tensor) -> Tensor:
        """Run every filter on every patch; of one image, the first axis is missing on both sides.

        Outputs `(batch, filters * num_outputs, rows, columns)` have the dtype and device of the
        images `(batch, channels, height, width)`.

        Raises:
            DataError: If the images do not fit the circuit or the kernel, or a patch cannot be
                encoded.
        """
        refuse_export()
        if not isinstance(images, Tensor) or images.is_nested or images.layout != torch.strided:
            raise DataError(
                "a quanvolution takes one dense tensor",
                got=f"a tensor of layout {images.layout}"
                if isinstance(images, Tensor)
                else f"an object of type {type(images).__name__}",
                expected="(batch, channels, height, width) or (channels, height, width)",
                remedy="Convert it: torch.as_tensor, to_dense or to_padded_tensor.",
            )
        if images.ndim not in (3, 4):
            raise DataError(
                "a quanvolution takes images",
                got=f"shape {tuple(images.shape)}",
                expected="(batch, channels, height, width) or (channels, height, width)",
                remedy="Put nn.Unflatten in front of it where samples are rows.",
            )
        if images.is_complex() or images.dtype == torch.bool:
            raise DataError(
                "pixels are real numbers",
                got=f"a tensor of {images.dtype}",
                expected="a floating-point tensor",
                remedy="Convert the images first.",
            )
        batch = images if images.ndim == 4 else images[None]
        if not batch.is_floating_point():
            batch = batch.to(self.weight.dtype)
        size = self.output_shape(batch.shape[1:])
        maps = self._recalled(batch, size) if self._is_fixed(batch) else self._maps(batch, size)
        return maps if images.ndim == 4 else maps[0]

    def check(self, images: Tensor) -> None:
        """Refuse images with a patch that the circuit cannot encode; nothing is run."""
        _, *places = self.output_shape(images.shape[1:])
        patches = self._patches(images)
        try:
            self.model.encoding.check(patches.T.detach().cpu().numpy())
        except DataError as error:
            self._explain(patches, (places[0], places[1]), error)
            raise

    @contextmanager
    def without_memory(self) -> Iterator[None]:
        """Inside, a frozen layer neither finds maps nor keeps them, in memory or in its folder."""
        before = self._kept, self.cache_dir
        self._kept = self.cache_dir = None
        try:
            yield
        finally:
            self._kept, self.cache_dir = before

    def extra_repr(self) -> str:
        """Sizes, circuit and backend, for `print(layer)` and for the name of a cache."""
        return (
            f"channels={self.channels}, filters={self.filters}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding}, offset={self.offset}, "
            f"qubits={self.model.num_qubits}, outputs={self.model.num_outputs}, "
            f"{self.circuit_text()}, "
            f"trainable={not self._remembers}"
        )

    def _maps(self, images: Tensor, size: tuple[int, int, int]) -> Tensor:
        maps, rows, columns = size
        patches = self._patches(images)
        try:
            values = run(self.engine, self.model, patches.T, self.weight)
        except DataError as error:
            self._explain(patches, (rows, columns), error)
            raise
        batch = len(images)
        split = values.reshape(self.filters, batch, rows, columns, self.model.num_outputs)
        return split.permute(1, 0, 4, 2, 3).reshape(batch, maps, rows, columns)

    def _patches(self, images: Tensor) -> Tensor:
        """`(num_features, patches)` of all images."""
        patches = self.window.cut(images)
        return patches + self.offset if self.offset else patches

    def _explain(self, patches: Tensor, places: Pair, error: DataError) -> None:
        """Say which image cannot be encoded; an engine knows but a long list of patches."""
        broken = ~torch.isfinite(patches).all(dim=0)
        black = ~patches.any(dim=0)
        if broken.any():
            raise DataError(
                "pixels are finite numbers",
                got=f"NaN or infinity in {self._where(broken, places)}",
                remedy="Remove or repair the image.",
            ) from error
        if self.model.encoding.zero_is_undefined and black.any():
            raise DataError(
                "amplitude encoding normalises each patch, so no patch may be all zeros",
                got=f"zeros only in {self._where(black, places)}",
                remedy="Set offset, e.g. 0.1, which is added to every pixel before encoding.",
            ) from error

    def _where(self, bad: Tensor, places: Pair) -> str:
        found = torch.nonzero(bad)[:, 0].tolist()
        image, place = divmod(found[0], places[0] * places[1])
        row, column = divmod(place, places[1])
        top = row * self.stride[0] - self.padding[0]
        left = column * self.stride[1] - self.padding[1]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return f"image {image}, the patch at row {top}, column {left}{more}"

    def _is_fixed(self, images: Tensor) -> bool:
        """Whether the maps are a function of the images alone, without a gradient."""
        differentiated = torch.is_grad_enabled() and images.requires_grad
        return (
            self._remembers
            and not self.weight.requires_grad
            and not differentiated
            and len(images) > 0
            and images.device.type != "meta"
            and not torch._C._are_functorch_transforms_active()  # noqa: SLF001
        )

    @uncompiled
    def _recalled(self, images: Tensor, size: tuple[int, int, int]) -> Tensor:
        rows = images.detach().cpu()
        if rows.dtype not in (torch.float32, torch.float64):
            rows = rows.float()
        keys = sample_keys(rows.numpy())
        drawn = getattr(self.engine, "seed", None) if self.engine.shots else None
        name = f"{module_hash([self])}{drawn}"
        name = hashlib.sha256(name.encode()).hexdigest()[:32]
        # Weights may have been loaded or changed, and the engine exchanged.
        if self._kept is None or self._kept[0] != name or self._kept[1] is not self.engine:
            folder = None if self.cache_dir is None else self.cache_dir / name
            self._kept = (name, self.engine, OutputCache(folder))
        maps = self._kept[2].fetch(keys, lambda places: self._frozen_maps(rows[places], size))
        return maps.to(images)

    def _frozen_maps(self, images: Tensor, size: tuple[int, int, int]) -> Tensor:
        with torch.no_grad():
            if not isinstance(self.engine, ExactEngine):
                return self._maps(images.to(self.weight.device), size)
            home = self.weight.device
            return in_equal_passes(images, _CHUNK, lambda part: self._maps(part.to(home), size))
