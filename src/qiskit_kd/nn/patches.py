# SPDX-License-Identifier: Apache-2.0
"""The patches a kernel sees as it moves over images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from qiskit_kd.errors import ConfigError, DataError
from qiskit_kd.values import listed, shown, whole

__all__ = ["Pair", "cut_patches", "pair", "positions"]

Pair = tuple[int, int]


def pair(value: int | Sequence[int], *, name: str, least: int) -> Pair:
    """`value` for height and width: one whole number for both, or one for each.

    Raises:
        ConfigError: If it is neither, or a number is below `least`.
    """
    rule = f"{name} is a whole number or a pair of them, for height and width"
    try:
        both = [value] * 2 if hasattr(value, "__index__") else listed(value, rule)
        first, second = (whole(each, rule, least=least) for each in both)
    except (ConfigError, ValueError):
        raise ConfigError(rule, got=shown(value), expected=f"{least} or more") from None
    return first, second


def positions(image: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Pair:
    """Rows and columns of places a kernel takes on an image.

    Raises:
        DataError: If the kernel is larger than the image with its padding.
    """
    padded = (image[0] + 2 * padding[0], image[1] + 2 * padding[1])
    if kernel[0] > padded[0] or kernel[1] > padded[1]:
        raise DataError(
            "a kernel is no larger than the padded image",
            got=f"a kernel of {_by(kernel)} on an image of {_by(image)} with padding {_by(padding)}"
            f", which makes {_by(padded)}",
            remedy="Use a smaller kernel_size, more padding or larger images.",
        )
    return (
        (padded[0] - kernel[0]) // stride[0] + 1,
        (padded[1] - kernel[1]) // stride[1] + 1,
    )


def cut_patches(images: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """The pixels below the kernel at all its positions.

    Args:
        images: `(batch, channels, height, width)`.
        kernel: Height and width.
        stride: Steps down and to the right.
        padding: Rows of zeros above and below, columns of zeros to the left and right.

    Returns:
        `(channels * kernel height * kernel width, batch * positions)`, contiguous. Pixels of a
        patch are ordered channel, row, column, as in `torch.nn.Unfold`; patches image, row, column.
    """
    if any(padding):
        below, beside = padding
        images = nn.functional.pad(images, (beside, beside, below, below))
    windows = images.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    batch, channels, rows, columns = windows.shape[:4]
    ordered = windows.permute(1, 4, 5, 0, 2, 3)
    return ordered.reshape(channels * kernel[0] * kernel[1], batch * rows * columns).contiguous()


def _by(size: Pair) -> str:
    return f"{size[0]}x{size[1]}"
