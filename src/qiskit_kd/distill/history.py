# SPDX-License-Identifier: Apache-2.0
"""`History`: what a training run leaves behind besides its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

__all__ = ["History"]


@dataclass(frozen=True, slots=True)
class History:
    """Curves of a finished run, one number per epoch.

    Keys: `epoch` (from 1), `train/<term>` (mean over the epoch, without the term's weight),
    `grad/<term>` (Euclidean norm of that mean's gradient with respect to the student, on the
    epoch's first batch, without the weight), `validation/loss` (cross entropy, nats) and
    `validation/accuracy`.
    """

    curves: dict[str, list[float]]
    best_epoch: int
    """The epoch whose weights the student carries, from 1; 0 where it kept those of the start."""
    stopped: str
    """Why it ended: `"epochs"`, `"patience"`, or what a callback gave as reason."""
    start: dict[str, float] = field(default_factory=dict)
    """`validation/loss` and `validation/accuracy` of the start, where its weights may be kept."""
    steps_per_epoch: int = 0
    """Steps of the optimiser in one epoch; of runs that are compared it should be the same."""

    def __getitem__(self, key: str) -> list[float]:
        return self.curves[key]

    @property
    def num_epochs(self) -> int:
        """Epochs that were completed."""
        return len(self.curves["epoch"])

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)
