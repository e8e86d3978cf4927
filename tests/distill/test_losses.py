# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from qiskit_kd.distill import Loss, losses
from qiskit_kd.distill.losses import (
    ce,
    dkd,
    jsd,
    kl,
    label_smoothing,
    logit_mse,
    loss,
    reverse_kl,
    standardised,
)
from qiskit_kd.errors import ConfigError, DistillError, UnknownNameError
from qiskit_kd.seeding import stream

CONTRACT = {
    "ce", "kl", "reverse_kl", "jsd", "logit_mse", "dkd", "feature_mse", "attention",
    "rkd_distance", "rkd_angle", "kernel_alignment", "label_smoothing",
}  # fmt: skip
SHIFT_INVARIANT = ["ce", "kl", "reverse_kl", "jsd", "logit_mse", "dkd", "label_smoothing"]


def logits(name: str, batch: int = 5, classes: int = 4, scale: float = 2.0) -> Tensor:
    return torch.from_numpy(scale * stream(3, name).normal(size=(batch, classes)))


def inputs(found: Loss, batch: int = 5) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Random (student, teacher, target) of the shapes a loss takes."""
    random = stream(5, "inputs")
    shape = (batch, 3, 2, 2) if found.features else (batch, 4)
    student, teacher = (torch.from_numpy(random.normal(size=shape)) for _ in range(2))
    target = torch.from_numpy(random.integers(0, 4, batch))
    return student, teacher if found.teacher else None, target if found.target else None


def loop_kl(p_logits: Tensor, q_logits: Tensor, temperature: float = 1.0) -> float:
    """Sum over classes, mean over the batch, the plain way."""
    total = 0.0
    for z_p, z_q in zip(p_logits.numpy(), q_logits.numpy(), strict=True):
        p, q = softmax(z_p / temperature), softmax(z_q / temperature)
        for p_c, q_c in zip(p, q, strict=True):
            total += p_c * math.log(p_c / q_c)
    return total / len(p_logits)


def test_all_losses_of_the_contract_are_registered_with_what_they_need():
    assert set(losses) >= CONTRACT
    relational = ("feature_mse", "attention", "rkd_distance", "rkd_angle", "kernel_alignment")
    for name in CONTRACT:
        found = losses[name]
        on_labels = name in ("ce", "label_smoothing")
        assert found.target == (on_labels or name == "dkd")
        assert found.teacher != on_labels
        assert found.features == (name in relational)


@pytest.mark.parametrize("name", sorted(losses))
def test_docstring_gives_formula_and_reference(name: str):
    text = losses[name].function.__doc__ or ""
    assert "`" in text
    assert name == "ce" or "arXiv:" in text


@pytest.mark.parametrize("name", sorted(losses))
def test_value_is_a_finite_scalar_whose_gradient_is_right(name: str):
    student, teacher, target = inputs(losses[name])
    student.requires_grad_()
    value = losses[name](student, teacher, target)
    assert value.shape == ()
    assert torch.isfinite(value)
    assert torch.autograd.gradcheck(lambda s: losses[name](s, teacher, target), (student,))
    (gradient,) = torch.autograd.grad(value, student)
    assert gradient.abs().max() > 1e-6, "a loss without gradient trains nothing"


@pytest.mark.parametrize("name", sorted(losses))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0, 1e4])
def test_values_and_gradients_stay_finite(name: str, dtype: torch.dtype, scale: float):
    student, teacher, target = inputs(losses[name])
    student = (student.sign() * scale).to(dtype).requires_grad_()
    teacher = None if teacher is None else (teacher.sign() * -scale).to(dtype)
    value = losses[name](student, teacher, target)
    value.backward()
    assert torch.isfinite(value)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(
    ("name", "standardise"),
    [(name, False) for name in sorted(losses) if losses[name].teacher]
    + [(name, True) for name in ("kl", "reverse_kl", "jsd", "logit_mse")],
)
def test_zero_with_zero_gradient_where_student_equals_teacher(name: str, standardise: bool):
    student, _, target = inputs(losses[name])
    options = {"standardise": True} if standardise else {}
    student.requires_grad_()
    value = losses[name](student, student.detach().clone(), target, **options)
    (gradient,) = torch.autograd.grad(value, student)
    assert abs(value.item()) < 1e-15
    assert gradient.abs().max() < 1e-15


@pytest.mark.parametrize("name", sorted(losses))
def test_the_order_of_samples_does_not_matter(name: str):
    student, teacher, target = inputs(losses[name])
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = [None if x is None else x[order] for x in (student, teacher, target)]
    value = losses[name](student, teacher, target)
    torch.testing.assert_close(losses[name](*moved), value)


@pytest.mark.parametrize("name", [n for n in sorted(losses) if not losses[n].features])
def test_the_names_of_classes_do_not_matter(name: str):
    student, teacher, target = inputs(losses[name])
    order = torch.tensor([2, 0, 3, 1])
    moved = None if target is None else order.argsort()[target]
    value = losses[name](student[:, order], None if teacher is None else teacher[:, order], moved)
    torch.testing.assert_close(value, losses[name](student, teacher, target))


@pytest.mark.parametrize("name", SHIFT_INVARIANT)
def test_a_constant_added_to_the_logits_changes_nothing(name: str):
    student, teacher, target = inputs(losses[name])
    value = losses[name](student + 7, None if teacher is None else teacher - 3, target)
    torch.testing.assert_close(value, losses[name](student, teacher, target))


@pytest.mark.parametrize("name", [n for n in sorted(losses) if not losses[n].features])
def test_repeating_the_batch_changes_nothing(name: str):
    student, teacher, target = inputs(losses[name])
    twice = [None if x is None else torch.cat([x, x]) for x in (student, teacher, target)]
    torch.testing.assert_close(losses[name](*twice), losses[name](student, teacher, target))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_summed_over_classes_and_averaged_over_the_batch(temperature: float):
    z, t = logits("s"), logits("t")
    expected = temperature**2 * loop_kl(t, z, temperature)
    assert kl(z, t, temperature=temperature).item() == pytest.approx(expected, rel=1e-12)
    expected = temperature**2 * loop_kl(z, t, temperature)
    assert reverse_kl(z, t, temperature=temperature).item() == pytest.approx(expected, rel=1e-12)
    assert kl(z, t).item() != pytest.approx(reverse_kl(z, t).item(), rel=1e-2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_half_precision_stays_finite(name: str, scale: float, dtype: torch.dtype):
    student, teacher, target = inputs(losses[name], batch=6)
    student = (scale * student).to(dtype).requires_grad_()
    teacher = None if teacher is None else (scale * teacher).to(dtype)
    value = losses[name](student, teacher, target)
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_classes_of_probability_zero_do_not_dilute_kl():
    z, t = logits("s"), logits("t")
    pad = torch.full((5, 13), -1e4, dtype=torch.float64)
    wide = kl(torch.cat([z, pad], 1), torch.cat([t, pad], 1))
    torch.testing.assert_close(wide, kl(z, t))


@pytest.mark.parametrize("function", [kl, reverse_kl, dkd])
def test_the_gradient_keeps_its_size_as_temperature_grows(function):
    # For large T the gradient of T^2 KL tends to that of the centred logit difference.
    target = torch.tensor([0, 1, 2, 3, 0])
    gradients = []
    for temperature in (1e4, 1e5):
        z = logits("s").requires_grad_()
        function(z, logits("t"), target, temperature=temperature).backward()
        gradients.append(z.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)
    if function is kl:
        difference = logits("s") - logits("t")
        centred = difference - difference.mean(1, keepdim=True)
        torch.testing.assert_close(gradients[1], centred / (5 * 4), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_jsd_equals_scipy(beta: float, temperature: float):
    z, t = logits("s"), logits("t")
    q, p = (softmax(x.numpy() / temperature, axis=1) for x in (z, t))
    m = beta * p + (1 - beta) * q
    expected = (beta * rel_entr(p, m) + (1 - beta) * rel_entr(q, m)).sum(1).mean()
    value = jsd(z, t, beta=beta, temperature=temperature).item()
    assert value == pytest.approx(temperature**2 * expected, rel=1e-12)


def test_jsd_tends_to_both_kls():
    z, t = logits("s", scale=1.0), logits("t", scale=1.0)
    forward, reverse = kl(z, t).item(), reverse_kl(z, t).item()
    assert jsd(z, t, beta=0).item() == forward
    assert jsd(z, t, beta=1).item() == reverse
    assert jsd(z, t, beta=1e-6).item() / 1e-6 == pytest.approx(forward, rel=1e-4)
    assert jsd(z, t, beta=1 - 1e-6).item() / 1e-6 == pytest.approx(reverse, rel=1e-4)
    # With unequal weights the divergence tells teacher from student.
    assert jsd(z, t, beta=0.1).item() != pytest.approx(jsd(t, z, beta=0.1).item(), rel=1e-3)


finite = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=2, max_size=2).map(
    lambda rows: torch.tensor(rows, dtype=torch.float64)
)


@settings(max_examples=60, deadline=None)
@given(finite, finite, st.floats(0, 1), st.floats(0.3, 20))
def test_divergences_are_never_negative(z: Tensor, t: Tensor, beta: float, temperature: float):
    for value in (
        kl(z, t, temperature=temperature),
        reverse_kl(z, t, temperature=temperature),
        jsd(z, t, beta=beta, temperature=temperature),
        dkd(z, t, torch.tensor([0, 2]), temperature=temperature),
    ):
        assert value.item() >= -1e-9
    # The mixture is never further from either than its weight allows.
    bound = -(beta * math.log(beta) + (1 - beta) * math.log(1 - beta)) if 0 < beta < 1 else math.inf
    assert jsd(z, t, beta=beta).item() <= bound + 1e-9


def loop_dkd(z: Tensor, t: Tensor, y: Tensor, alpha: float, beta: float, temperature: float):
    total = 0.0
    for z_b, t_b, c in zip(z.numpy(), t.numpy(), y.tolist(), strict=True):
        q, p = softmax(z_b / temperature), softmax(t_b / temperature)
        tckd = rel_entr(p[c], q[c]) + rel_entr(1 - p[c], 1 - q[c])
        p_rest, q_rest = np.delete(p, c) / (1 - p[c]), np.delete(q, c) / (1 - q[c])
        total += alpha * tckd + beta * rel_entr(p_rest, q_rest).sum()
    return temperature**2 * total / len(z)


def test_dkd_equals_its_definition():
    z, t, y = logits("s"), logits("t"), torch.tensor([3, 1, 0, 0, 2])
    value = dkd(z, t, y, alpha=0.7, beta=2.5, temperature=3.0).item()
    assert value == pytest.approx(loop_dkd(z, t, y, 0.7, 2.5, 3.0), rel=1e-10)


def test_dkd_recombines_to_kl():
    z, t = logits("s", batch=1), logits("t", batch=1)
    rest = 1 - torch.softmax(t, 1)[0, 2].item()
    value = dkd(z, t, torch.tensor([2]), alpha=1.0, beta=rest)
    torch.testing.assert_close(value, kl(z, t))


def test_dkd_refuses_two_classes():
    z = torch.zeros(4, 2)
    with pytest.raises(
        DistillError, match=r"got 2 classes; expected at least 3\. Use the loss 'kl'"
    ):
        dkd(z, z, torch.tensor([0, 1, 0, 1]))


def test_cross_entropies_equal_their_definitions():
    z, y = logits("s"), torch.tensor([3, 1, 0, 0, 2])
    log_q = log_softmax(z.numpy(), axis=1)
    picked = -log_q[np.arange(5), y.numpy()]
    assert ce(z, None, y).item() == pytest.approx(picked.mean())
    smooth = 0.8 * picked - 0.2 * log_q.mean(axis=1)
    assert label_smoothing(z, None, y, smoothing=0.2).item() == pytest.approx(smooth.mean())
    assert label_smoothing(z, None, y, smoothing=0).item() == ce(z, None, y).item()


def test_logit_mse_equals_its_definition():
    z, t = logits("s"), logits("t")
    difference = (z - t).numpy()
    plain = (difference**2).sum(1).mean()
    centred = ((difference - difference.mean(1, keepdims=True)) ** 2).sum(1).mean()
    assert logit_mse(z, t, centre=False).item() == pytest.approx(plain)
    assert logit_mse(z, t).item() == pytest.approx(centred)
    z_std, t_std = (
        (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True) for x in (z.numpy(), t.numpy())
    )
    value = logit_mse(z, t, standardise=True).item()
    assert value == pytest.approx(((z_std - t_std) ** 2).sum(1).mean(), rel=1e-5)


def test_standardised_logits_forget_scale_and_shift():
    z, t = logits("s"), logits("t")
    torch.testing.assert_close(standardised(z).mean(1), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(
        standardised(z).std(1, correction=0), torch.ones(5).double(), rtol=1e-5, atol=0
    )
    value = kl(3 * z + 1, t, temperature=2, standardise=True)
    torch.testing.assert_close(value, kl(z, t, temperature=2, standardise=True), rtol=1e-5, atol=0)
    assert torch.equal(standardised(torch.full((2, 3), 4.0)), torch.zeros(2, 3))


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "dkd"])
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf, 1e30, 10**400])
def test_a_temperature_is_positive(name: str, temperature: float):
    student, teacher, target = inputs(losses[name])
    with pytest.raises(DistillError, match=r"temperature is a positive number; got .*; expected"):
        losses[name](student, teacher, target, temperature=temperature)


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jsd", "dkd"])
def test_the_hottest_temperature_is_finite(name: str):
    student, teacher, target = inputs(losses[name])
    for dtype in (torch.float32, torch.float64):
        z = student.detach().to(dtype).requires_grad_()
        value = losses[name](z, teacher.to(dtype), target, temperature=10**6)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("beta", [-0.1, 1.1])
def test_beta_is_a_share(beta: float):
    with pytest.raises(
        DistillError, match=r"teacher's share of the mixture; got -?\d.*0 <= beta <= 1"
    ):
        jsd(logits("s"), logits("t"), beta=beta)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_is_a_share(smoothing: float):
    with pytest.raises(DistillError, match=r"share of the uniform.*expected 0 <= smoothing < 1"):
        label_smoothing(logits("s"), None, torch.zeros(5, dtype=torch.int64), smoothing=smoothing)


def test_unknown_and_mistyped_options_are_refused():
    with pytest.raises(DistillError, match=r"no such option; got 'temprature'.*Did you mean 'temp"):
        losses["kl"].check({"temprature": 2})
    with pytest.raises(DistillError, match=r"'ce' has no such option.*expected no options at all"):
        losses["ce"].check({"x": 2})
    with pytest.raises(DistillError, match=r"'temperature' of the loss 'kl' has a type; got '4'"):
        losses["kl"].check({"temperature": "4"})
    with pytest.raises(DistillError, match="expected true or false"):
        losses["kl"].check({"standardise": 1})
    with pytest.raises(DistillError, match=r"expected a number"):
        losses["kl"].check({"temperature": True})
    losses["kl"].check({"temperature": 4, "standardise": True})


def test_names_are_looked_up_with_suggestions_and_taken_once():
    with pytest.raises(UnknownNameError, match=r"unknown loss; got 'rkd'.*did you mean"):
        losses["rkd"]
    with pytest.raises(ConfigError, match="the loss 'kl' is registered twice"):
        loss("kl")(reverse_kl)


def test_a_loss_may_take_any_option():
    def anything(student, teacher, target, **options):
        return student.sum() * options["factor"]

    found = Loss("any", anything)
    found.check({"factor": 1, "whatever": "x"})
    assert found(torch.ones(2), factor=3).item() == 6
