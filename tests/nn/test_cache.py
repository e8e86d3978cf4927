# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qiskit_kd import circuits as kd
from qiskit_kd.circuits import CircuitModel, ClassGroups
from qiskit_kd.errors import StorageError
from qiskit_kd.nn import FullyQuantumStudent, QuantumLayer, students
from qiskit_kd.nn.cache import OutputCache, module_hash, sample_keys
from qiskit_kd.seeding import stream

X = stream(2, "x").normal(size=(300, 6))


def network(value: float = 0.1, width: int = 8) -> nn.Module:
    module = nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width))
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


def test_keys_tell_values_shapes_and_dtypes_apart() -> None:
    keys = sample_keys(X)
    assert len(set(keys)) == 300
    assert sample_keys(X[::-1]) == keys[::-1]
    assert not set(sample_keys(X.astype(np.float32))) & set(keys)
    assert not set(sample_keys(X.reshape(300, 2, 3))) & set(keys)
    assert sample_keys(np.array([[0.0]])) == sample_keys(np.array([[-0.0]]))
    assert sample_keys(X[:0]) == []


def test_module_hashes_tell_weights_and_structures_apart() -> None:
    assert module_hash([network()]) == module_hash([network()])
    several = ([network()], [network(0.2)], [network(width=9)], [network(), network()])
    hashes = {module_hash(m) for m in several}
    other = network()
    other[1].running_mean.add_(1)
    assert len(hashes | {module_hash([other])}) == 5


def test_module_hashes_tell_settings_and_hooks_apart() -> None:
    student = students["fully_quantum"](4, 3, seed=0)
    assert isinstance(student, FullyQuantumStudent)
    hashes = {module_hash([student])}
    student.smoothing = 0.25
    hashes.add(module_hash([student]))
    student.register_forward_hook(lambda *parts: parts[2] * 2)
    assert len(hashes | {module_hash([student])}) == 3
    student.train()
    assert module_hash([student]) == module_hash([student.eval()])


def test_module_hashes_tell_circuits_of_one_size_apart() -> None:
    ansatze = kd.hardware_efficient(3, 2), kd.strongly_entangling(3, 2), kd.su4_brickwork(3, 1)
    layers = [
        QuantumLayer(CircuitModel(encoding, ansatz, readout))
        for encoding in (kd.angle(3), kd.angle(3, scale=2.0), kd.angle(3, axis="x"))
        for ansatz in ansatze[:2]
        for readout in (
            ClassGroups(2, 3), ClassGroups(2, 3, "contiguous"), kd.Observables(["ZII", "IIZ"])
        )
    ]  # fmt: skip
    for layer in layers:
        nn.init.zeros_(layer.weight)
    assert len({module_hash([layer]) for layer in layers}) == len(layers) == 18


def test_every_sample_is_computed_once() -> None:
    asked: list[list[int]] = []

    def compute(places: list[int]) -> Tensor:
        asked.append(places)
        return torch.tensor(places)[:, None] * 10.0

    cache = OutputCache()
    assert cache.fetch([b"a", b"b", b"a"], compute).tolist() == [[20.0], [10.0], [20.0]]
    assert cache.fetch([b"b", b"c"], compute).tolist() == [[10.0], [10.0]]
    assert asked == [[2, 1], [1]]
    assert (cache.hits, cache.misses) == (2, 3)


def test_a_folder_keeps_outputs_between_processes(tmp_path) -> None:
    keys, values = sample_keys(X[:4]), torch.arange(8.0).reshape(4, 2)
    OutputCache(tmp_path).fetch(keys, lambda places: values[places])
    again = OutputCache(tmp_path)
    assert torch.equal(again.fetch(keys[::-1], lambda _: values * torch.nan), values.flip(0))
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"nonsense")
    with pytest.raises(StorageError, match=rf"output cannot be read; got .*{file.name}.*Delete"):
        OutputCache(tmp_path).fetch(keys, lambda _: values)


def test_a_cache_that_cannot_be_written_says_so(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cache = OutputCache(blocked / "cache")
    with pytest.raises(StorageError, match="cannot be written"):
        cache.fetch([b"k" * 16], lambda places: torch.zeros(len(places), 2))
