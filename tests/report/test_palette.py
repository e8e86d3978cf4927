# SPDX-License-Identifier: Apache-2.0
"""Looks are fixed, different, and readable on both papers."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from qiskit_kd.report.palette import (
    INK,
    MUTED,
    PAPER,
    SERIES,
    dark_twins,
    look,
    looks,
    order_variants,
    readable,
    told_apart,
)

KNOWN = ["plain", "distilled", "shuffled", "label_smoothing", "teacher"]
ON_DEVICES = ["noise_aware", "fine_tuned", "simulated", "labels", "shuffled"]


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.1."""
    parts = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_variants_differ_in_colour_and_in_marker() -> None:
    for one, other in itertools.combinations(KNOWN, 2):
        assert look(one).color != look(other).color
        assert look(one).marker != look(other).marker


def test_variants_of_a_study_on_a_device_differ_too() -> None:
    looks = [look(name) for name in ON_DEVICES]
    assert len({one.color for one in looks}) == len({one.marker for one in looks}) == len(looks)
    assert [one.label for one in looks[:2]] == ["noise-aware", "fine-tuned"]


@pytest.mark.parametrize("color", [*(look(v).color for v in KNOWN), *(s[0] for s in SERIES)])
def test_graphics_stand_out_on_both_papers(color: str) -> None:
    # WCAG 2.1, 1.4.11: graphical objects need a contrast of 3 to 1.
    assert contrast(color, PAPER) >= 3
    assert contrast(dark_twins()[color], dark_twins()[PAPER]) >= 3


@pytest.mark.parametrize("color", [INK, MUTED])
def test_text_is_readable_on_both_papers(color: str) -> None:
    assert contrast(color, PAPER) >= 4.5
    assert contrast(dark_twins()[color], dark_twins()[PAPER]) >= 4.5


def test_unknown_variants_get_a_stable_look_and_their_own_name() -> None:
    assert look("my_idea") == look("my_idea")
    assert look("my_idea").label == "my idea"
    assert not look("my_idea").is_placebo
    assert not look("my_placebo").is_placebo  # the configuration says what is one
    assert look("my_idea").color in dark_twins()


@pytest.mark.parametrize(
    "names",
    [["kd", "distilled"], ["plain", "alone", "none", "baseline"], ["kd_1", "kd-1", "kd.1"],
     ["uniform", "label_smoothing", "smoothing", "shuffled", "placebo"],
     ["fine_tuned", "distilled"], ["shuffled-teacher", "shuffled"], [f"v{k}" for k in range(60)],
     ["uniform", "uniform-teacher"], ["alone", "plain", "variant-alone"]],
)  # fmt: skip
def test_variants_that_are_drawn_together_are_told_apart(names: list[str]) -> None:
    found = looks(names)
    assert list(found) == names
    assert len({item.label for item in found.values()}) == len(names)
    assert len({(item.color, item.marker) for item in found.values()}) == len(names)
    if len(names) <= len(SERIES):
        assert len({item.color for item in found.values()}) == len(names)
    assert {item.color for item in found.values()} <= {*dark_twins()}


def test_baseline_first_placebos_last() -> None:
    assert order_variants(["shuffled", "b", "distilled", "plain", "b"]) == [
        "plain",
        "b",
        "distilled",
        "shuffled",
    ]


def test_readable() -> None:
    assert readable("fully_quantum-x") == "fully quantum x"


def test_names_that_differ_in_punctuation_alone_are_told_apart_everywhere() -> None:
    from qiskit_kd.report import render, terminal_table
    from tests.report.fake_result import make

    result = make()
    names = {"distilled": "kd_1", "shuffled": "kd-1"}
    text = json.dumps([list(result.rows), list(result.comparisons), dict(result.config)])
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    rows, comparisons, config = json.loads(text)
    other = replace(result, rows=rows, comparisons=comparisons, config=config)
    page = render(other)[0].split("<script")[0]
    for said in (terminal_table(other), page):
        assert "kd 1" in said
        assert "kd-1" in said
    assert readable("kd-1") == "kd 1", "it is said of the study alone"
    with told_apart(
        ["a_b", "a-b", "c"], ["x_1", "x-1", "x:1", "label-smoothing", "label_smoothing"]
    ):
        assert [readable(name) for name in ("a_b", "a-b", "c")] == ["a b", "a-b", "c"]
        labels = [look(n).label for n in ("x_1", "x-1", "x:1", "label-smoothing")]
        assert labels == ["x 1", "x-1", "x:1", "label-smoothing"]
        assert look("label_smoothing").label == "label smoothing"
