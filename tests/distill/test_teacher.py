# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import nn

from qiskit_kd.distill import Teacher, shuffled, uniform
from qiskit_kd.errors import DataError, DistillError, StorageError
from qiskit_kd.seeding import stream

from .toys import CLASSES, FEATURES, linear, mlp

X = stream(2, "x").normal(size=(300, FEATURES))


def plain(module: nn.Module, x=X) -> torch.Tensor:
    with torch.no_grad():
        return module.eval()(torch.as_tensor(np.array(x), dtype=torch.float32))


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


class Counted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.calls = inner, 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)


def test_a_module_is_frozen_and_runs_in_eval_mode():
    module = mlp(dropout=0.5).train()
    expected = plain(copy.deepcopy(module))
    teacher = Teacher.from_module(module)
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    module.train()  # somebody else's mistake
    logits = teacher.logits_for(X)
    close(logits, expected)
    assert not module.training
    assert not logits.requires_grad


def test_samples_are_computed_once_whatever_their_order():
    module = Counted(mlp())
    teacher = Teacher.from_module(module)
    first = teacher.logits_for(X)
    calls = module.calls
    assert (teacher.hits, teacher.misses) == (0, 300)
    order = stream(0, "order").permutation(300)
    assert torch.equal(teacher.logits_for(X[order]), first[torch.from_numpy(order)])
    assert torch.equal(teacher.logits_for(X[[7, 7, 2]]), first[[7, 7, 2]])
    assert (teacher.hits, teacher.misses) == (303, 300)
    assert module.calls == calls
    # Another data set of the same length is not mistaken for this one.
    other = stream(2, "other").normal(size=(300, FEATURES))
    close(teacher.logits_for(other), plain(module, other))
    assert (teacher.hits, teacher.misses) == (303, 600)


def test_augmented_samples_are_other_samples():
    teacher = Teacher.from_module(mlp())
    before = teacher.logits_for(X)
    close(teacher.logits_for(X * 1.1), plain(teacher.modules[0], X * 1.1))
    assert not torch.equal(before, teacher.logits_for(X * 1.1))


def test_a_row_does_not_depend_on_its_neighbours():
    whole = Teacher.from_module(mlp(width=37)).logits_for(X)
    apart = Teacher.from_module(mlp(width=37))
    for k in (0, 17, 299):
        assert torch.equal(apart.logits_for(X[k : k + 1])[0], whole[k])


def test_a_teacher_trained_further_is_another_teacher():
    module = mlp()
    teacher = Teacher.from_module(module)
    before, mark = teacher.logits_for(X), teacher.fingerprint
    with torch.no_grad():
        module[4].bias.add_(1.0)
    assert teacher.fingerprint != mark
    close(teacher.logits_for(X), before + 1)


def test_called_with_a_batch_it_answers_in_the_batches_dtype():
    teacher = Teacher.from_module(mlp())
    x = torch.from_numpy(X[:8])
    assert teacher(x).dtype == torch.float64
    close(teacher(x).float(), plain(teacher.modules[0], X[:8]))
    assert teacher(x.float()).dtype == torch.float32
    assert Teacher.from_module(linear(dtype=torch.float64)).logits_for(X).dtype == torch.float64
    assert uniform(3)(torch.zeros(2, 4, dtype=torch.int64)).shape == (2, 3)


def test_precision_of_the_teacher_is_part_of_the_address():
    module = linear()
    single, double = (
        Teacher.from_module(module),
        Teacher.from_module(copy.deepcopy(module).double()),
    )
    assert single.fingerprint != double.fingerprint
    near = X[:1] + 1e-12
    single.logits_for(X[:1])
    single.logits_for(near)
    assert (single.hits, single.misses) == (1, 1)
    double.logits_for(X[:1])
    double.logits_for(near)
    assert (double.hits, double.misses) == (0, 2)


def test_outputs_survive_in_a_folder(tmp_path):
    module = Counted(mlp())
    first = Teacher.from_module(module, cache_dir=tmp_path).logits_for(X[:200])
    calls = module.calls
    again = Teacher.from_module(module, cache_dir=tmp_path)
    assert torch.equal(again.logits_for(X[:200]), first)
    assert module.calls == calls
    assert (again.hits, again.misses) == (200, 0)
    assert again.logits_for(X).shape == (300, CLASSES)
    assert (again.hits, again.misses) == (400, 100)
    third = Teacher.from_module(module, cache_dir=tmp_path)
    third.logits_for(X)
    assert third.misses == 0
    other = Teacher.from_module(mlp(1), cache_dir=tmp_path)
    other.logits_for(X)
    assert other.misses == 300


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_a_damaged_file_in_the_folder_is_named(tmp_path, damage):
    Teacher.from_module(linear(), cache_dir=tmp_path).logits_for(X)
    (file,) = tmp_path.glob("*/*.safetensors")
    file.write_bytes(file.read_bytes()[:-20] if damage is None else damage)
    with pytest.raises(StorageError, match=rf"cannot be read; got .*{file.name}.*Delete the file"):
        Teacher.from_module(linear(), cache_dir=tmp_path).logits_for(X)


def test_ensembles_average_probabilities_or_logits():
    members = [mlp(0), linear(1), mlp(2)]
    stack = torch.stack([plain(member) for member in members])
    mixture = Teacher.from_module(members).logits_for(X)
    close(mixture.softmax(1), stack.softmax(2).mean(0))
    logits = Teacher.from_module(members, average="logits")
    close(logits.logits_for(X), stack.mean(0))
    assert logits.fingerprint != Teacher.from_module(members).fingerprint
    big = linear()
    with torch.no_grad():
        big.weight.mul_(1e5)
    assert torch.isfinite(Teacher.from_module([big, linear(1)]).logits_for(X)).all()


def test_features_come_from_a_layer():
    module = mlp()
    teacher = Teacher.from_module(module)
    close(teacher.features_for(X, "0"), plain(module[0]))
    close(teacher.features_for(X, "2"), plain(module[:3]))
    teacher.features_for(X[::-1], "2")
    assert (teacher.hits, teacher.misses) == (300, 600)
    with pytest.raises(DistillError, match=r"the teacher has no layer of that name; got '22'"):
        teacher.features_for(X, "22")
    with pytest.raises(DistillError, match=r"features come from one network; got an ensemble of 2"):
        Teacher.from_module([mlp(), mlp(1)]).features_for(X, "0")
    with pytest.raises(DistillError, match=r"need a teacher with layers; got a UniformTeacher"):
        uniform(3).features_for(X, "0")


class Answers(nn.Module):
    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


def test_modules_that_return_no_logits_are_refused():
    def asked(*answers) -> torch.Tensor:
        return Teacher.from_module([Answers(answer) for answer in answers]).logits_for(X)

    with pytest.raises(
        DistillError, match=r"one row of class logits per sample; got shape \(256,\) for 256.*two"
    ):
        asked(lambda x: x[:, 0])
    with pytest.raises(DistillError, match=r"got tuple; expected a tensor \(256, classes\)"):
        asked(lambda x: (x, x))
    with pytest.raises(DistillError, match=r"same classes apart; got \(256, 6\), \(256, 2\)"):
        asked(lambda x: x, lambda x: x[:, :2])
    with pytest.raises(DistillError, match=r"a teacher's logits are finite numbers; got NaN"):
        asked(lambda x: x / 0)
    with pytest.raises(DistillError, match=r"at least one network; got an empty sequence"):
        Teacher.from_module([])
    with pytest.raises(DistillError, match=r"averages one of two things; got 'votes'"):
        Teacher.from_module(linear(), average="votes")
    with pytest.raises(DataError, match=r"at least one sample; got shape \(0, 6\)"):
        Teacher.from_module(linear()).logits_for(X[:0])


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_stored_logits_are_found_by_content(tmp_path, suffix: str):
    logits = stream(2, "logits").normal(size=(300, CLASSES))
    path = tmp_path / f"logits.{suffix}"
    if suffix == "npz":
        np.savez(path, samples=X.astype(np.float32), logits=logits)
    else:
        save_file({"samples": X.astype(np.float32), "logits": logits}, path)
    teacher = Teacher.from_file(path)
    order = stream(0, "order").permutation(300)
    assert torch.equal(teacher.logits_for(X[order]), torch.from_numpy(logits[order]))
    assert torch.equal(
        Teacher.from_logits(X, logits).logits_for(X[5:7]), torch.from_numpy(logits[5:7])
    )
    unseen = np.concatenate([X[:3], X[:2] + 1])
    with pytest.raises(
        DistillError, match=r"got 2 of 5 samples without logits, the first in row 3.*Store logits"
    ):
        teacher.logits_for(unseen)


def test_stored_logits_are_checked():
    z = np.zeros((300, 3))
    with pytest.raises(DataError, match=r"one row per sample; got samples \(299, 6\), logits"):
        Teacher.from_logits(X[1:], z)
    with pytest.raises(DataError, match="finite numbers; got nan in row 4, feature 0"):
        Teacher.from_logits(X, np.where(np.arange(300)[:, None] == 4, np.nan, z))
    twice = np.concatenate([X[:2], X[:1]])
    with pytest.raises(DataError, match=r"equal samples have equal logits; got rows 0 and 2"):
        Teacher.from_logits(twice, np.arange(9.0).reshape(3, 3))
    assert Teacher.from_logits(twice, np.ones((3, 3))).logits_for(X[:1]).shape == (1, 3)


def test_stored_logits_need_a_readable_file(tmp_path):
    path = tmp_path / "x.npz"
    match = r"stored logits cannot be read; got .*x\.npz.*numpy\.savez"
    with pytest.raises(StorageError, match=r"does not exist; got .*x\.npz; expected an \.npz or"):
        Teacher.from_file(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(StorageError, match=r"cannot be read; got .*x\.npz \(text, .*numpy\.savez"):
        Teacher.from_file(path)
    np.savez(path, samples=X)
    with pytest.raises(StorageError, match=match):
        Teacher.from_file(path)
    np.savez(path, samples=X, logits=np.zeros((1, 3)))
    with pytest.raises(DataError, match="one row per sample"):
        Teacher.from_file(path)
    other = tmp_path / "x.safetensors"
    other.write_bytes(b"nonsense")
    with pytest.raises(StorageError, match=r"x\.safetensors"):
        Teacher.from_file(other)


def test_the_shuffled_placebo_keeps_the_outputs_and_breaks_every_pair():
    teacher = Teacher.from_module(mlp())
    true = teacher.logits_for(X)
    placebo = shuffled(teacher, 5)
    false = placebo.logits_for(X)
    assert not (true == false).all(dim=1).any(), "no sample keeps its own logits"
    assert sorted(true.tolist()) == sorted(false.tolist())
    assert torch.equal(placebo.logits_for(X), false), "drawn once per data set"
    order = stream(0, "order").permutation(300)
    assert torch.equal(placebo.logits_for(X[order]), false[torch.from_numpy(order)])
    assert not torch.equal(shuffled(teacher, 6).logits_for(X), false)
    # Features follow the same exchange.
    features = placebo.features_for(X, "4")
    close(features, false)
    with pytest.raises(DistillError, match=r"swaps outputs between samples; got 1 sample"):
        placebo.logits_for(X[:1])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6))
def test_a_shuffle_is_one_cycle(n: int, seed: int):
    z = np.eye(n)
    moved = shuffled(Teacher.from_logits(X[:n], z, outputs="logits"), seed).logits_for(X[:n])
    source, place, seen = moved.argmax(1).tolist(), 0, set()
    while place not in seen:
        seen.add(place)
        place = source[place]
    assert len(seen) == n


def test_the_uniform_placebo_knows_nothing():
    logits = uniform(4).logits_for(X)
    assert logits.shape == (300, 4)
    assert not logits.any()
    with pytest.raises(DistillError, match="at least two classes; got 1"):
        uniform(1)
