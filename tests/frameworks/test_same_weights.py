# SPDX-License-Identifier: Apache-2.0
"""skorch, Lightning, torch.compile and a plain loop train one student to the same weights.

Needs the dependency group `frameworks`; what is missing is skipped.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from qiskit_kd.nn import students

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # third parties' own
    pytest.mark.parametrize("name", ["hybrid", "fully_quantum"]),
]
EPOCHS, BATCH, RATE = 3, 10, 0.05  # batches of 10 and 5: on both sides of 2**3


@pytest.fixture
def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(25, 8, generator=generator)
    return TensorDataset(x, (x[:, 0] > x[:, 1]).long())


def make(name: str) -> nn.Module:
    return students[name](8, 2, seed=0, layers=2)


def loop(network: nn.Module, data: TensorDataset) -> None:
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    network.train()
    for _ in range(EPOCHS):
        for x, y in DataLoader(data, BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def expected(name: str, data: TensorDataset) -> torch.Tensor:
    student = make(name)
    start = weights(student).clone()
    loop(student, data)
    assert (weights(student) - start).abs().max() > 0.1
    return weights(student)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(name: str, data: TensorDataset, backend: str) -> None:
    student = make(name)
    loop(torch.compile(student, backend=backend), data)
    torch._dynamo.reset()
    torch.testing.assert_close(weights(student), expected(name, data), atol=1e-6, rtol=0)


def test_skorch(name: str, data: TensorDataset) -> None:
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(
        make(name), criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, lr=RATE,
        max_epochs=EPOCHS, batch_size=BATCH, iterator_train__shuffle=False, train_split=None,
        verbose=0,
    )  # fmt: skip
    x, y = data.tensors
    net.fit(x.numpy(), y.numpy())
    torch.testing.assert_close(weights(net.module_), expected(name, data), atol=1e-6, rtol=0)
    assert net.predict(x.numpy()).shape == (25,)
    copy.deepcopy(net)


def module_of(student: nn.Module) -> nn.Module:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.student = student

        def training_step(self, batch):
            x, y = batch
            return nn.functional.cross_entropy(self.student(x), y)

        def validation_step(self, batch):
            x, y = batch
            self.log("loss", nn.functional.cross_entropy(self.student(x), y))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), RATE)

    return Module()


def trainer(**options):
    lightning = pytest.importorskip("lightning")
    return lightning.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip


def test_lightning_validates_then_fits(name: str, data: TensorDataset) -> None:
    """Validation runs in inference mode, and before the first step too."""
    module = module_of(make(name))
    loader = DataLoader(data, BATCH)
    trainer().validate(module, loader, verbose=False)
    trainer().fit(module, loader, loader)
    torch.testing.assert_close(weights(module), expected(name, data), atol=1e-6, rtol=0)
    trainer().validate(module, loader, verbose=False)


def test_lightning_in_mixed_precision(name: str, data: TensorDataset) -> None:
    module = module_of(make(name))
    loader = DataLoader(data, BATCH)
    trainer(precision="bf16-mixed").fit(module, loader, loader)
    found = weights(module)
    assert found.isfinite().all()
    # Only classical layers round; their bfloat16 has three digits.
    atol = 0.1 if name == "hybrid" else 1e-6
    torch.testing.assert_close(found, expected(name, data), atol=atol, rtol=0)
