# SPDX-License-Identifier: Apache-2.0
"""The words and numbers of the page."""

from __future__ import annotations

import pytest

from qiskit_kd.report import facts

from .fake_result import make


def test_table_groups_by_student_and_agrees_with_the_comparisons() -> None:
    result = make(seeds=4)
    groups = facts.table(result)
    assert [group["student"] for group in groups][:2] == ["teacher", "linear"]
    assert [len(group["lines"]) for group in groups] == [1, 4, 4, 4, 4, 4, 4]
    line = groups[1]["lines"][1]
    comparison = next(
        item
        for item in result.comparisons
        if (item["student"], item["variant"], item["baseline"], item["metric"])
        == ("linear", "distilled", "plain", "accuracy")
    )
    assert line["variant"] == "distilled"
    assert line["gain"].replace("−", "-") == f"{100 * comparison['gain']:+.1f}"
    assert line["verdict"] == comparison["verdict"]
    assert groups[1]["lines"][0]["gain"] == ""


def test_others_are_sorted_by_what_became_of_them() -> None:
    text = facts.others(make())
    assert "a gain is confirmed for" in text
    assert "distillation harms fully quantum" in text
    assert "learnable" not in text
    assert facts.others(make(students=("hybrid",))) == ""
    assert facts.others(make(seeds=2, variants=("plain",))) == ""


def test_options_tell_what_was_picked_per_student() -> None:
    result = make(seeds=3, students=("hybrid",))
    for row in result.rows:
        row["options"] = {"temperature": 4 if row["variant"] == "distilled" else None, "layers": 4}
    assert facts.options(result.rows) == [
        {"student": "hybrid", "variant": "distilled", "picked": {"temperature": "4"}}
    ]
    result.rows[-3]["options"]["temperature"] = 2  # a distilled one of the last seed
    picked = facts.options(result.rows)[0]["picked"]["temperature"]
    assert picked == "2 (1 seed), 4 (2 seeds)"


def test_an_option_of_some_seeds_says_so() -> None:
    result = make(seeds=3, students=("hybrid",))
    for row in result.rows:
        chosen = 4 if (row["variant"], row["seed"]) == ("distilled", 1) else None
        row["options"] = {"temperature": chosen}
    assert facts.options(result.rows)[0]["picked"] == {"temperature": "4 (1 of 3 seeds)"}


def test_what_every_variant_picked_of_several_is_told() -> None:
    result = make(seeds=2, students=("hybrid",))
    for row in result.rows:
        row["options"] = {"control": "pca_linear", "learning_rate": 0.1, "layers": 4}
    config = {**result.config, "training": {"learning_rate": [0.1, 0.2]}}
    config["students"] = {"hybrid": {"candidates": {"control": ["pca_linear", "pca_mlp"]}}}
    told = facts.options(result.rows, config)
    assert told
    for item in told:
        assert item["picked"] == {"control": "pca linear", "learning rate": "0.1"}


def test_settings_tell_which_labels_a_variant_sees() -> None:
    config = {"variants": {"labels": {"terms": [{"loss": "ce"}], "sees": "all"}}}
    lines = dict(facts.flat(facts.settings(config, with_students=False)))
    assert lines == {"variants: labels": "ce; on all labels of the pool (sees: all)"}


def test_sharpness_stands_with_the_settings() -> None:
    result = make(seeds=2, students=("hybrid",))
    for row in result.rows:
        row["options"] = {}
        if row["variant"] == "plain" and row["student"] == "hybrid":
            row["extra"] = {"sharpness": 2.0 + row["seed"]}
    (item,) = facts.options(result.rows)
    assert item["picked"]["sharpness reached"].startswith("2.50 ± ")
    for row in result.rows:
        row["options"] = {"sharpness_mode": "fixed"}
    assert facts.options(result.rows) == []


def test_unfinished_studies_warn() -> None:
    result = make(seeds=2)
    assert facts.unfinished(result) == ""
    result.missing = 2  # type: ignore[attr-defined]
    result.failures = {"k": {"label": "hybrid, seed 1", "error": "DataError: bad row"}}  # type: ignore[attr-defined]
    text = facts.unfinished(result)
    assert "2 tasks have no row, 1 of them failed" in text
    assert "hybrid, seed 1: DataError: bad row" in text


def test_provenance_names_configuration_and_versions() -> None:
    result = make(seeds=2, students=("hybrid",))
    shown = dict(facts.provenance(result, None))
    assert shown["configuration"] == result.fingerprint[:16]
    assert shown["qiskit"] == "2.6.2"


def test_only_treatments_get_a_verdict_placebos_get_their_numbers() -> None:
    for group in facts.table(make()):
        for line in group["lines"]:
            placebo = line["variant"] in ("shuffled teacher", "label smoothing")
            assert bool(line["verdict"]) is (line["variant"] == "distilled")
            assert bool(line["range"]) is (placebo or line["variant"] == "distilled")


def test_traits_of_a_student_are_words() -> None:
    learned = facts.traits(
        {
            "kind": "fully_quantum", "dead_weights": 0, "ansatz": "product",
            "ansatz_options": {"num_weights": 74, "final_ry": True}, "sharpness_mode": "learnable",
            "sharpness": 1.0, "shots": None, "parameters": 1203,
        }
    )  # fmt: skip
    assert learned == [
        ("kind", "fully quantum"),
        ("ansatz", "product (num weights 74, final ry)"),
        ("parameters", "1,203"),
        ("initial sharpness", "1 (learnable)"),
    ]
    fixed = dict(facts.traits({"sharpness": 1.0, "sharpness_mode": "fixed"}))
    assert fixed == {"sharpness": "1 (fixed)"}


def test_settings_read_like_a_sentence() -> None:
    config = {
        "name": "x",
        "students": {"a": {"kind": "linear"}},
        "variants": {
            "distilled": {
                "terms": [
                    {"loss": "ce", "weight": 1.0},
                    {"loss": "jsd", "weight": 0.5, "options": {"beta": 0.3}},
                ],
                "teacher": "teacher",
                "temperature": [1.0, 2.0, 4.0],
            },
            "plain": {"terms": [{"loss": "ce"}], "teacher": "none", "temperature": None},
        },
    }
    shown = dict(facts.flat(facts.settings(config)))
    assert shown["variants: distilled"] == (
        "ce + 0.5 × jsd (beta 0.3); teacher: teacher; temperature from 1, 2, 4"
    )
    assert shown["variants: plain"] == "ce"
    assert "name" not in shown
    assert shown["students: a"] == "kind linear"
    assert "students: a" not in dict(facts.flat(facts.settings(config, with_students=False)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ([], ""),
        ({}, ""),
        (True, "yes"),
        (False, "no"),
        (0.03, "0.03"),
        ([0, 1, 2, 3], "0 to 3"),
        ([1, 2], "1, 2"),
        ([3, 5, 8], "3, 5, 8"),
        ("over_seeds", "by the mean over all seeds"),
        ("extended_xor", "extended xor"),
        ("/tmp/my_file.npz", "/tmp/my_file.npz"),
        ({"hidden": [16, 8], "none": None}, "hidden 16, 8"),
    ],
)
def test_values_as_people_write_them(value: object, text: str) -> None:
    assert facts.plain(value) == text


def test_lists() -> None:
    assert facts.listed(["a"]) == "a"
    assert facts.listed(["a", "b", "c"]) == "a, b and c"


def test_title_counts() -> None:
    assert facts.title(make(seeds=2)) == "c2q-fake · 6 students · 2 paired seeds"
    one = make(seeds=1, students=("hybrid",))
    one.config["title"] = "A question?"
    assert facts.title(one) == "A question? · 1 student · 1 seed"


def test_settings_that_an_axis_changes_show_all_its_values() -> None:
    config = {
        "data": {"kind": "digits", "options": {"train": 1000}}, "training": {"epochs": 60},
        "teachers": {"teacher": {"kind": "mlp", "sees": "same"}},
        "axes": {
            "k": {"values": {"50": {"data.options.train": 50, "training.epochs": 9,
                                    "training.patience": 3},
                             "500": {"data.options.train": 500, "training.epochs": 8}}},
            "sees": {"key": "teacher.sees", "values": ["same", "all"]},
        },
    }  # fmt: skip
    said = dict(facts.flat(facts.settings(config)))
    assert said["data: options"] == "train 50 or 500"
    assert said["training: epochs"] == "9 or 8"
    assert "training: patience" not in said  # it is not set at the other value
    assert "same or all" in " ".join(said.values())
    assert config["training"] == {"epochs": 60}
