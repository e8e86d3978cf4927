# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from qiskit_kd.errors import ConfigError
from qiskit_kd.yamlfile import load_yaml, parse_yaml, validation_error


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Cat(Strict):
    kind: Literal["cat"]
    lives: int = Field(default=9, gt=0)
    name: str | None = None


class Dog(Strict):
    kind: Literal["dog"]
    size: Literal["small", "large"] = "small"
    weight: float = 1.0


class Zoo(Strict):
    version: Literal[1] = Field(default=1, alias="schema")
    animals: dict[str, Annotated[Cat | Dog, Field(discriminator="kind")]] = {}
    prices: list[int] = []
    owner: str = "nobody"

    @field_validator("owner")
    @classmethod
    def _polite(cls, value: str) -> str:
        if value.islower() and value != "nobody":
            raise ValueError("an owner begins with a capital letter")
        return value


def faults(text: str) -> str:
    data, locate = parse_yaml(text, name="zoo.yaml")
    with pytest.raises(ValidationError) as caught:
        Zoo.model_validate(data)
    return str(validation_error(caught.value, locate, Zoo))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-.inf", float("-inf")),
        ("010", 10), ("0x1f", 31), ("0o17", 15), ("+3", 3), ("12:30", "12:30"), ("1_000", "1_000"),
        ("no", "no"), ("off", "off"), ("yes", "yes"), ("y", "y"), ("True", True), ("false", False),
        ("2026-01-01", "2026-01-01"), ("~", None), ("", None), ("null", None), ("'1'", "1"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    data, _ = parse_yaml(f"key: {text}")
    assert data["key"] == value
    assert type(data["key"]) is type(value)


def test_locator_finds_keys_values_and_the_nearest_existing_place() -> None:
    _, locate = parse_yaml("a:\n  - x\n  - b: 1\n    c: 2\n", name="f.yaml")
    assert locate(("a", 1, "c")) == "f.yaml:4:8"
    assert locate(("a", 1, "c"), key=True) == "f.yaml:4:5"
    assert locate(("a", 1, "missing")) == "f.yaml:3:5"
    assert locate(("a", 7)) == "f.yaml:2:3"
    assert locate() == "f.yaml:1:1"
    assert parse_yaml("", name="f.yaml")[1](("a",)) == "f.yaml:1:1"


def test_merge_keys_may_be_overridden_and_reused() -> None:
    data, _ = parse_yaml("x: &x {k: 1}\ny: &y {<<: *x, k: 2}\nz: {<<: *y}\n")
    assert data["y"] == data["z"] == {"k": 2}


def test_of_several_merged_mappings_the_first_wins_and_own_keys_win_over_all() -> None:
    data, locate = parse_yaml("a: &a {k: 1, m: 1}\nb: &b {k: 2, n: 2}\nc: {<<: [*a, *b], n: 3}\n")
    assert data["c"] == {"k": 1, "m": 1, "n": 3}
    assert locate(("c", "n")).endswith(":3:22")


@pytest.mark.parametrize("text", ["a: {<<: 3}", "a: {<<: [{k: 1}, word]}", "a: {<<: [[1]]}"])
def test_only_mappings_can_be_merged(text: str) -> None:
    with pytest.raises(ConfigError, match="<< merges a mapping or a list of them, not a s"):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kind: cat, livs: 3", r"unknown key; got 'livs'. did you mean 'lives'\? known: kind"),
        ("kind: cow", "unknown value; got 'cow'. known: cat, dog"),
        ("lives: 3", "zoo.yaml:2:6: animals.a.kind: the key is missing. Add it."),
        ("kind: cat, lives: '3'", r"lives: wrong type; got '3' \(str\); expected a valid integer\. "
         r"Remove the quotes\."),
        ("kind: cat, lives: 1e3", r"got 1000\.0 \(float\); expected a valid integer\. Write 1000"),
        ("kind: cat, lives: 1.5", r"got 1\.5 \(float\); expected a valid integer\. Write it in"),
        ("kind: cat, 1: 2", r"animals\.a\.1: wrong key; got 1 \(int\); expected a word\. Put q"),
        ("kind: cat, lives: 0", r"lives: wrong value; got 0 \(int\); expected greater than 0"),
        ("kind: dog, size: lage", r"unknown value; got 'lage' \(str\). did you mean 'large'"),
        ("kind: dog, weight: [1]", "weight: wrong type; got a list; expected a valid number"),
        ("kind: cat, name: {a: 1}", "name: wrong type; got a mapping; expected a valid string"),
    ],
)  # fmt: skip
def test_each_fault_says_where_what_and_how(line: str, message: str) -> None:
    text = faults(f"animals:\n  a: {{{line}}}\n")
    assert re.search(message, text)
    assert text.startswith("zoo.yaml:2:")
    assert ".cat." not in text  # pydantic's names for members of a union stay out
    assert ".dog." not in text


def test_faults_come_in_the_order_of_the_file() -> None:
    text = faults("ownr: 1\nprices: [x,\n  y]\nanimals: 3\nschema: 2\nzzz: 1\n")
    lines = re.findall(r"zoo.yaml:(\d+):(\d+)", text)
    places = [(int(line), int(column)) for line, column in lines]
    assert len(places) == 6
    assert places == sorted(places)


def test_empty_mappings_where_one_entry_is_needed() -> None:
    class Full(Strict):
        parts: dict[str, int] = Field(min_length=1)

    data, locate = parse_yaml("parts: {}\n", name="f.yaml")
    with pytest.raises(ValidationError) as caught:
        Full.model_validate(data)
    assert str(validation_error(caught.value, locate, Full)) == (
        "f.yaml:1:8: parts: too few entries; got 0; expected at least 1"
    )


def test_all_faults_are_listed() -> None:
    text = faults("schema: 2\nanimals: 3\nprices: [1, x]\nowner: bob\nownr: 1\n")
    assert text.splitlines() == [
        "5 faults in zoo.yaml:",
        "  zoo.yaml:1:9: schema: unknown value; got 2 (int); expected 1",
        "  zoo.yaml:2:10: animals: wrong type; got 3 (int); expected a mapping",
        "  zoo.yaml:3:13: prices.1: wrong type; got 'x' (str); expected a valid integer. "
        "Write it in digits alone, e.g. 42.",
        "  zoo.yaml:4:8: owner: an owner begins with a capital letter",
        "  zoo.yaml:5:1: ownr: unknown key; got 'ownr'. did you mean 'owner'? known: animals, "
        "owner, prices, schema",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", r"f.yaml:2:1: not valid YAML: the key 'a' is given twice. Correct"),
        ("a: [1\n", r"f.yaml:2:1: not valid YAML: expected ',' or '\]'"),
        ("a:\n\tb: 1", "f.yaml:2:1: not valid YAML: found character '.t' that cannot start"),
        ("a: !!python/object:os.x 1", "f.yaml:1:4: not valid YAML: could not determine"),
        ("b: 1\n? [a, b]\n: 1\n", "f.yaml:2:3: not valid YAML: a key is a word or a number, not"),
        ("? {a: 1}\n: 1\n", "f.yaml:1:3: not valid YAML: a key is a word or a number, not a map"),
        ("a: 1\nb: x\0\n", r"f.yaml:2:5: not valid YAML: a character that no text contains; got "
         r"U\+0000\. Remove it; the file may be damaged"),
        ("a:\n  - !!int abc", "f.yaml:2:5: not valid YAML: 'abc' is no valid int. Correct the"),
        ("a: !!bool x", "f.yaml:1:4: not valid YAML: 'x' is no valid bool"),
        ("a: !!float ''", "f.yaml:1:4: not valid YAML: '' is no valid float"),
        ("a: " + "9" * 5000, r"f.yaml:1:4: not valid YAML: '9{57}\.\.\.' is no valid int"),
        ("a: " + "[" * 3000, "f.yaml: not valid YAML: nested too deeply. Remove some levels"),
        ("- 1", "f.yaml:1:1: the top level is a mapping of keys to values; got list; expected"),
        ("", "f.yaml:1:1: the top level is a mapping of keys to values; got an empty file"),
    ],
)  # fmt: skip
def test_files_that_are_no_mapping(tmp_path, monkeypatch, text: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_yaml("f.yaml")


def test_unreadable_files(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: the file cannot be read; got No such file"):
        load_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml: the file cannot be read; got not UTF-8"):
        load_yaml(tmp_path / "latin.yaml")


def test_errors_of_later_checks_use_the_same_form() -> None:
    _, locate = parse_yaml("a:\n  b: 1\n", name="f.yaml")
    error = locate.error(("a", "b"), "b is even", got="1", expected="2", remedy="Double it.")
    assert str(error) == "f.yaml:2:6: a.b: b is even; got 1; expected 2. Double it."


def _bomb(levels: int, form: str) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for k in range(levels):
        lines.append(f"a{k + 1}: &a{k + 1} " + form % ", ".join([f"*a{k}"] * 9))
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_bomb(20, "[%s]"), "aliases that write out to too many values"),
        (_bomb(20, "{<<: [%s], y: 1}"), "aliases that write out to too many values"),
        ("a: &a [*a]", "an alias inside of what it stands for"),
        ("&a {b: {c: *a}}", "an alias inside of what it stands for"),
        ("a: &a {<<: *a}", "an alias inside of what it stands for"),
        ("a: " + "9" * 30, "is no valid int"),
        ("a: 0x" + "f" * 40_000, "is no valid int"),
        ('a: "x\\0"', "is no valid str"),
        ('"\\b": 1', "is no valid str"),
        ('a: "\\ud800"', "is no valid str"),
        ("a: !!set {b}", "could not determine a constructor for the tag"),
        ("a: !!binary aGk=", "could not determine a constructor for the tag"),
        ("a: !!timestamp 2020-01-01", "could not determine a constructor for the tag"),
        ("a: !!omap [b: 1]", "could not determine a constructor for the tag"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_hostile_yaml_is_refused_at_once(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"not valid YAML: .*{message}"):
        parse_yaml(text, name="f.yaml")


@pytest.mark.slow
def test_long_lists_and_many_aliases_are_fine() -> None:
    assert len(parse_yaml(f"a: [{'1,' * 120_000}]")[0]["a"]) == 120_000
    data, _ = parse_yaml("a: &a {x: 1}\nb: [" + "*a," * 9_000 + "]")
    assert data["b"] == [{"x": 1}] * 9_000
