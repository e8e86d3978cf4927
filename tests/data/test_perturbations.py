# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import rotate

from qiskit_kd.data import noisy, perturbations, rotated
from qiskit_kd.errors import DataError

SHAPE = (2, 6, 5)


def samples(count: int = 7) -> np.ndarray:
    return np.random.default_rng(0).random((count, 60))


@pytest.mark.parametrize("name", list(perturbations))
def test_shape_determinism_and_what_is_left_alone(name: str) -> None:
    x = samples()
    before = x.copy()
    y = perturbations[name](x, 0.3, shape=SHAPE, seed=4)
    assert np.array_equal(x, before)
    assert (y.shape, y.dtype) == (x.shape, np.float64)
    assert not np.array_equal(y, x)
    assert np.array_equal(y, perturbations[name](x, 0.3, shape=SHAPE, seed=4))
    assert np.allclose(perturbations[name](x, 0.0, shape=SHAPE, seed=4), x, atol=1e-12)


def test_registry_has_what_an_evaluation_can_ask_for() -> None:
    assert {"noise", "rotation"} <= set(perturbations)


class TestNoise:
    def test_has_the_standard_deviation_asked_for_and_is_not_clipped(self) -> None:
        x = np.zeros((500, 400))
        y = noisy(x, 0.2, seed=0)
        assert y.std() == pytest.approx(0.2, rel=0.01)
        assert abs(y.mean()) < 0.005
        assert y.min() < -0.5

    def test_levels_share_their_numbers_and_seeds_do_not(self) -> None:
        x = samples()
        small, large = noisy(x, 0.1, seed=3) - x, noisy(x, 0.3, seed=3) - x
        np.testing.assert_allclose(large, 3 * small, atol=1e-12)
        assert not np.allclose(noisy(x, 0.1, seed=4) - x, small)

    def test_more_samples_leave_the_first_alone(self) -> None:
        assert np.array_equal(
            noisy(samples(7), 0.1, seed=0)[:4], noisy(samples(7)[:4], 0.1, seed=0)
        )

    @pytest.mark.parametrize("level", [-0.1, float("nan"), float("inf")])
    def test_refuses(self, level: float) -> None:
        with pytest.raises(DataError, match=r"standard deviation; got .*; expected a finite num"):
            noisy(samples(), level, seed=0)


class TestRotation:
    @given(
        degrees=st.floats(-180, 180, allow_nan=False),
        shape=st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7)),
        count=st.integers(1, 3),
    )
    def test_is_torchvisions_in_alternating_directions(
        self, degrees: float, shape: tuple[int, int, int], count: int
    ) -> None:
        x = np.random.default_rng(1).random((count, int(np.prod(shape))))
        turned = rotated(x, degrees, shape=shape)
        for k in range(count):
            expected = rotate(
                torch.from_numpy(x[k].reshape(shape)), degrees * (-1) ** k,
                interpolation=InterpolationMode.BILINEAR,
            )  # fmt: skip
            # torchvision computes where pixels come from in single precision.
            np.testing.assert_allclose(turned[k], expected.numpy().ravel(), atol=1e-5)

    def test_a_quarter_turn_of_a_square(self) -> None:
        x = np.random.default_rng(2).random((2, 27))
        turned = rotated(x, 90.0, shape=(3, 3, 3)).reshape(2, 3, 3, 3)
        images = x.reshape(2, 3, 3, 3)
        np.testing.assert_allclose(turned[0], np.rot90(images[0], axes=(1, 2)), atol=1e-12)
        np.testing.assert_allclose(turned[1], np.rot90(images[1], -1, axes=(1, 2)), atol=1e-12)

    def test_what_comes_in_from_outside_is_black(self) -> None:
        turned = rotated(np.ones((1, 49)), 45.0, shape=(1, 7, 7)).reshape(7, 7)
        assert turned[0, 0] == turned[-1, -1] == 0.0
        assert turned[3, 3] == pytest.approx(1.0)

    def test_samples_that_are_no_images(self) -> None:
        with pytest.raises(
            DataError, match=r"only images can be rotated; got samples of shape \(60,\); expected "
            r"a data set with shape \(channels, height, width\)\. Leave the rotation out, or give",
        ):  # fmt: skip
            rotated(samples(), 10.0, shape=None)
        with pytest.raises(DataError, match=r"can be rotated; got samples of shape \(6, 10\)"):
            rotated(samples(), 10.0, shape=(6, 10))

    def test_an_angle_that_is_none(self) -> None:
        with pytest.raises(DataError, match="an angle in degrees; got nan; expected a finite numb"):
            rotated(samples(), float("nan"), shape=SHAPE)
