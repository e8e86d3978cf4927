# SPDX-License-Identifier: Apache-2.0
"""Distillation as a classifier of scikit-learn."""

from __future__ import annotations

from copy import deepcopy
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from qiskit_kd.distill import Training, distill
from qiskit_kd.errors import DistillError
from qiskit_kd.values import shown


class DistilledClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """`distill` as a classifier of scikit-learn, for pipelines, grid searches and `clone`.

    Args:
        student: As of `distill`. A name, a builder or a `CircuitModel` is built anew at each `fit`,
            a module copied; a name or a builder fits samples of any width.
        teacher: As of `distill`, or a classifier that is not fitted yet: it is fitted to the
            samples and labels of `fit`, with `random_state` where it has none of its own.
            `clone` forgets what a classifier has learned, so that each fold of a search fits its
            own; `sklearn.frozen.FrozenEstimator(teacher)` and `Teacher(teacher)` keep it.
        loss: As of `distill`.
        epochs: Passes over the samples.
        learning_rate: Of the optimiser.
        batch_size: Labelled samples per step.
        validation: Share of the samples that the best epoch is chosen by.
        backend: As of `distill`.
        random_state: A number is the `seed` of `distill`; None takes another one each time.
        training: Everything else, e.g. `Training(patience=5)`; its epochs, learning rate, batch
            size and seed are those said here.

    Attributes:
        classes_: The labels, in the order of the probabilities.
        distilled_: What `distill` returned: `student`, `history`, `export`.
        teacher_: Who taught.
        n_features_in_: Width of a sample.
    """

    def __init__(
        self,
        student: Any = "fully_quantum",
        teacher: Any = None,
        *,
        loss: Any = None,
        epochs: int = 100,
        learning_rate: float = 0.01,
        batch_size: int = 32,
        validation: float = 0.2,
        backend: Any = None,
        random_state: Any = 0,
        training: Training | None = None,
    ) -> None:
        self.student = student
        self.teacher = teacher
        self.loss = loss
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validation = validation
        self.backend = backend
        self.random_state = random_state
        self.training = training

    def fit(self, X: ArrayLike, y: ArrayLike, X_transfer: ArrayLike | None = None) -> Self:
        """Teach the student.

        Args:
            X: `(samples, features)`.
            y: `(samples,)` labels of any type.
            X_transfer: Samples without labels, for the teacher to speak about.

        Raises:
            ValueError: For samples and labels that cannot be learned from; as `distill`.
            DistillError: If a teacher that is fitted knows other classes; as `distill`.
        """
        if not isinstance(self.training, Training | None):
            raise DistillError(
                "further options of training are one value",
                got=f"training={shown(self.training)}",
                expected="such as Training(patience=5), or None",
            )
        samples, labels = validate_data(self, X, y, ensure_min_samples=2)
        check_classification_targets(labels)
        if X_transfer is not None:
            X_transfer = validate_data(self, X_transfer, reset=False)
        self.classes_ = np.unique(labels)
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = int(check_random_state(seed).randint(np.iinfo(np.int32).max))
        self.teacher_ = self._taught(samples, labels, seed)
        module = isinstance(self.student, nn.Module)
        self.distilled_ = distill(
            self.teacher_,
            deepcopy(self.student) if module else self.student,
            (samples, labels),
            loss=self.loss,
            transfer=X_transfer,
            validation=self.validation,
            test=0,
            backend=self.backend,
            seed=seed,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            batch_size=self.batch_size,
            training=self.training,
        )
        return self

    def _taught(self, samples: NDArray[Any], labels: NDArray[Any], seed: int) -> Any:
        """The teacher, ready to teach; the one that was given is left as it is."""
        if not (hasattr(self.teacher, "fit") and hasattr(self.teacher, "get_params")):
            return deepcopy(self.teacher)
        try:
            check_is_fitted(self.teacher)
        except NotFittedError:
            teacher = clone(self.teacher)
            free = [
                name
                for name, value in teacher.get_params().items()
                if name.split("__")[-1] == "random_state" and value is None
            ]
            return teacher.set_params(**dict.fromkeys(free, seed)).fit(samples, labels)
        return self.teacher

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Class probabilities `(samples, classes)`, in the order of `classes_`."""
        check_is_fitted(self)
        return self.distilled_.predict_proba(validate_data(self, X, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest label of each sample."""
        best = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[best])
