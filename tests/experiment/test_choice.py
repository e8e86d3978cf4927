# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from fixed_images import IMAGES, registered  # noqa: F401 (a fixture)
from test_loading import GOOD
from test_result import row

from qiskit_kd.experiment.choice import choose
from qiskit_kd.experiment.loading import parse


def test_choice_over_seeds_and_per_seed() -> None:
    rows = []
    for seed, (cold, warm) in enumerate([(0.9, 0.8), (0.5, 0.8), (0.7, 0.6)]):
        rows += [row("linear", "distilled", seed, 1.0, validation=cold),
                 row("linear", "distilled", seed, 4.0, validation=warm)]  # fmt: skip

    def temperatures(*overrides: str) -> list[float]:
        return [r["options"]["temperature"] for r in choose(rows, parse(GOOD, overrides))]

    assert temperatures() == [4.0, 4.0, 4.0]
    assert temperatures("selection=per_seed") == [1.0, 4.0, 1.0]


def test_ties_go_to_the_smaller_validation_loss_then_to_the_first() -> None:
    def pick(cold: float, warm: float, *overrides: str) -> float:
        rows = [row("linear", "distilled", seed, t, validation=0.8, nll=nll)
                for seed in range(3) for t, nll in ((1.0, cold), (4.0, warm))]  # fmt: skip
        return choose(rows, parse(GOOD, overrides))[0]["options"]["temperature"]

    assert pick(0.5, 0.4) == 4.0
    assert pick(0.4, 0.5) == 1.0
    assert pick(0.4, 0.4) == 1.0
    assert pick(0.5, None) == 1.0  # a loss that was not finite
    assert pick(0.5, 0.4, "metric=loss") == 4.0


def test_a_candidate_is_judged_on_seeds_that_all_have() -> None:
    rows = [row("linear", "distilled", 0, 1.0, validation=0.6),
            row("linear", "distilled", 0, 4.0, validation=0.7),
            row("linear", "distilled", 1, 1.0, validation=0.99)]  # fmt: skip
    chosen = choose(rows, parse(GOOD))
    assert [(r["seed"], r["options"]["temperature"]) for r in chosen] == [(0, 4.0)]


def test_learning_rate_and_weights_are_chosen_for_the_baseline_as_for_the_rest() -> None:
    config = parse(GOOD, ["training.learning_rate=[0.01, 0.1]",
                          "teacher.training.learning_rate=0.1", "students.quantum.training={}",
                          "variants.shuffled.terms.1.weight=[0.5, 2]",
                          "variants.shuffled.temperature=4"])  # fmt: skip
    rows = []
    for seed in range(3):
        for rate, validation in ((0.01, 0.6), (0.1, 0.7)):
            one = row("linear", "plain", seed, None, validation=validation, test=1 - validation)
            rows.append({**one, "options": {"temperature": None, "learning_rate": rate}})
            for weight, more in ((0.5, 0.02), (2.0, 0.01)):
                other = row("linear", "shuffled", seed, 4.0, validation=1 - validation + more)
                options = {"temperature": 4.0, "weight of kl": weight, "learning_rate": rate}
                rows.append({**other, "options": options})
    chosen = {(r["variant"], *r["options"].values()) for r in choose(rows, config)}
    assert chosen == {("plain", None, 0.1), ("shuffled", 4.0, 0.5, 0.01)}


@pytest.mark.usefixtures("registered")
def test_teachers_come_first_and_students_only_in_their_variants() -> None:
    config = parse(IMAGES, ["seeds=1"]).at({"images": 12, "sees": "same"})
    rows = [row(student, variant, 0, None)
            for student in ("quantum", "classical", "teacher:hybrid", "teacher:soft")
            for variant in ("shuffled", "plain")]  # fmt: skip
    assert [(r["student"], r["variant"]) for r in choose(rows, config)] == [
        ("teacher:soft", "plain"), ("teacher:hybrid", "plain"), ("classical", "plain"),
        ("classical", "shuffled"), ("quantum", "plain"),
    ]  # fmt: skip
