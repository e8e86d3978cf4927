# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from qiskit_kd.errors import ConfigError, DataError
from qiskit_kd.nn.quanvolution import cut_patches, pair, positions

pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=60)
@given(
    st.integers(0, 3), st.integers(1, 3), st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pairs, pairs, st.tuples(st.integers(0, 2), st.integers(0, 2)),
)  # fmt: skip
def test_patches_are_those_of_torchs_unfold(batch, channels, size, kernel, stride, padding) -> None:
    assume(all(k <= s + 2 * p for k, s, p in zip(kernel, size, padding, strict=True)))
    images = torch.arange(1.0, 1 + batch * channels * size[0] * size[1])
    images = images.reshape(batch, channels, *size)
    patches = cut_patches(images, kernel, stride, padding)
    rows, columns = positions(size, kernel, stride, padding)
    assert patches.shape == (channels * kernel[0] * kernel[1], batch * rows * columns)
    assert patches.is_contiguous()
    if batch:
        unfold = nn.Unfold(kernel, stride=stride, padding=padding)
        assert torch.equal(patches, unfold(images).transpose(0, 1).reshape(patches.shape))
        assert unfold(images).shape[2] == rows * columns


def test_gradients_come_back_to_every_pixel_that_was_seen() -> None:
    images = torch.rand(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cut_patches(x, (3, 2), (1, 2), (1, 0)), (images,))


def test_pairs() -> None:
    assert pair(3, name="stride", least=1) == (3, 3)
    assert pair([2, 1], name="stride", least=1) == (2, 1)
    assert pair((0, 2), name="padding", least=0) == (0, 2)
    for wrong in (0, 1.5, True, "22", [1], [1, 2, 3], [1, 0], [1, 2.0], None):
        with pytest.raises(ConfigError, match=r"stride is a whole number or a pair .*; got .*1 or"):
            pair(wrong, name="stride", least=1)


@pytest.mark.parametrize(("size", "kernel"), [((4, 9), (5, 2)), ((9, 4), (2, 5))])
def test_a_kernel_larger_than_the_image_is_refused(size, kernel) -> None:
    match = (
        rf"a kernel of {kernel[0]}x{kernel[1]} on an image of {size[0]}x{size[1]} with padding 0x0,"
        rf" which makes {size[0]}x{size[1]}\. Use a smaller kernel_size"
    )
    with pytest.raises(DataError, match=match):
        positions(size, kernel, (1, 1), (0, 0))
    assert min(positions(size, kernel, (1, 1), (1, 1))) == 2
