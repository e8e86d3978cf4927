# SPDX-License-Identifier: Apache-2.0
"""Hooks into the training loop: derive from `Callback` and override what is of interest."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from torch import Tensor

from qiskit_kd.errors import ConfigError


@dataclass
class State:
    """Where a training run stands; everything a checkpoint keeps besides the optimiser."""

    epochs: int
    """Epochs it will take at most."""
    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Steps completed, over all epochs."""
    batch: int = 0
    """Steps completed in the current epoch."""
    sums: dict[str, list[float]] = field(default_factory=dict)
    """Per term: sum of its values over samples, and number of samples, in the current epoch."""
    gradients: dict[str, float] = field(default_factory=dict)
    """Per term: the latest gradient norm."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """The history so far."""
    best: list[float] = field(default_factory=list)
    """Score of the best epoch; larger is better, compared in order."""
    best_epoch: int = 0
    """The best epoch, from 1; 0 before the first."""
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """State dict of the best epoch."""
    start: dict[str, float] = field(default_factory=dict)
    """Validation loss and accuracy of the weights it starts with, where these may be the best."""
    stopped: str | None = None
    """Reason to stop; a callback may set it, which takes effect at the end of the epoch."""


class Callback:
    """Does nothing at every occasion; override what is wanted."""

    def on_fit_start(self, state: State) -> None:
        """Before the first step, after a checkpoint has been read."""

    def on_step_end(self, state: State) -> None:
        """After a step, and after its checkpoint if one was due."""

    def on_epoch_end(self, state: State) -> None:
        """After validation, before the epoch's checkpoint; may set `state.stopped`."""

    def on_fit_end(self, state: State) -> None:
        """At the end, also when an exception ended the run."""


class Progress(Callback):
    """A progress bar over the epochs."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def on_fit_start(self, state: State) -> None:
        """Open the bar."""
        from rich.progress import Progress as Bar

        self._bar = Bar(transient=True)
        self._bar.start()
        self._task = self._bar.add_task("epochs", total=state.epochs, completed=state.epoch)

    def on_epoch_end(self, state: State) -> None:
        """Advance by an epoch."""
        loss, accuracy = (state.curves[f"validation/{key}"][-1] for key in ("loss", "accuracy"))
        text = f"epoch {state.epoch}/{state.epochs}  loss {loss:.4f}  accuracy {accuracy:.3f}"
        self._bar.update(self._task, completed=state.epoch, description=text)

    def on_fit_end(self, state: State) -> None:  # noqa: ARG002
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


_JUDGED = ("loss", "accuracy")


@dataclass(frozen=True, slots=True, repr=False)
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

    def __repr__(self) -> str:
        if not self.best_epoch:
            return f"History({self.num_epochs} epochs, none better than the start)"
        best = {key: self.curves[f"validation/{key}"][self.best_epoch - 1] for key in _JUDGED}
        said = ", ".join(f"{key} {value:.3f}" for key, value in best.items())
        return f"History({self.num_epochs} epochs, best {self.best_epoch}: validation {said})"

    def _repr_html_(self) -> str:
        heads = [key for key in self.curves if not key.startswith("grad/")]
        rows = sorted({0, self.best_epoch - 1, self.num_epochs - 1} & set(range(self.num_epochs)))
        cells = [[f"{self.curves[key][row]:.4g}" for key in heads] for row in rows]
        lines = ["".join(f"<td>{cell}</td>" for cell in line) for line in cells]
        top = "".join(f"<th>{escape(key)}</th>" for key in heads)
        body = "".join(f"<tr>{line}</tr>" for line in lines)
        return f"<table><caption>{escape(repr(self))}</caption><tr>{top}</tr>{body}</table>"

    def to_frame(self) -> Any:
        """The curves as a pandas frame, a row an epoch; pandas must be installed."""
        try:
            import pandas  # type: ignore[import-untyped, import-not-found, unused-ignore]
        except ImportError as error:
            raise ConfigError(
                "a frame is one of pandas",
                got="an environment without it",
                remedy="pip install pandas, or take History.curves.",
            ) from error
        return pandas.DataFrame(self.curves).set_index("epoch")

    def plot(self, *, ax: Any = None) -> Any:
        """Losses and validation metrics over the epochs; the axes of the figure.

        Args:
            ax: Matplotlib axes to draw into; None makes some.
        """
        from matplotlib import pyplot

        ax = pyplot.subplots()[1] if ax is None else ax
        for key, values in self.curves.items():
            if key != "epoch" and not key.startswith("grad/"):
                ax.plot(self.curves["epoch"], values, label=key)
        if self.best_epoch:
            ax.axvline(self.best_epoch, linestyle=":", color="0.5", label="best epoch")
        ax.set_xlabel("epoch")
        ax.legend()
        return ax

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)
