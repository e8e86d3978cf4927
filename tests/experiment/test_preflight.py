# SPDX-License-Identifier: Apache-2.0
"""What cannot work is refused while planning, before anything is trained."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fixed_images import IMAGES, registered  # noqa: F401 (a fixture)
from noisy_study import STUDY, backends  # noqa: F401 (a fixture)
from test_plan import SMALL

from qiskit_kd.circuits.ansatze import hardware_efficient
from qiskit_kd.circuits.encodings import amplitude
from qiskit_kd.circuits.model import CircuitModel
from qiskit_kd.circuits.readouts import ClassGroups
from qiskit_kd.data import Dataset, Split
from qiskit_kd.distill.distiller import Distiller
from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import plan
from qiskit_kd.experiment.preflight import Preflight
from qiskit_kd.nn.quanvolution import Quanvolution

pytestmark = pytest.mark.usefixtures("registered")


@pytest.fixture(autouse=True)
def _nobody_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Distiller, "fit", lambda *_, **__: pytest.fail("something was trained"))


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(parse(IMAGES, overrides))
    return str(caught.value)


BOTH = "variants.both.terms.2"


def test_a_plan_leaves_random_numbers_alone() -> None:
    state = torch.random.get_rng_state()
    assert plan(parse(IMAGES))
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_path_the_student_does_not_have() -> None:
    text = refusal(f"{BOTH}.layers.student=activatoin")
    assert text.startswith(
        "lessons that cannot work:\n  students.classical, variants.both: the student has no layer "
        "of that name; got 'activatoin'; expected for example 'activation'"
    )
    assert text.count("students.classical") == 1  # not once per point, seed or temperature


def test_a_path_the_teacher_does_not_have() -> None:
    text = refusal(f"{BOTH}.layers.teacher=filter")
    assert "students.classical, variants.both: the teacher 'hybrid' has no layer" in text
    assert "got 'filter'; expected for example 'filters'" in text


def test_all_of_them_are_named() -> None:
    text = refusal(f"{BOTH}.layers.teacher=filter", "variants.untrained.terms.1.layers.student=fil")
    assert "variants.both: the teacher 'hybrid'" in text
    assert "variants.untrained: the student has no layer of that name; got 'fil'" in text


def test_maps_of_different_size() -> None:
    text = refusal("students.classical.options={filters: 5}")
    assert (
        "students.classical, variants.both: feature maps are compared element by element; got "
        "student (2, 5, 2, 2), teacher (2, 3, 2, 2)" in text
    )
    wider = ["students.classical.options={filters: 5}", f"{BOTH}.adapter=channels",
             "variants.untrained.terms.1.adapter=linear"]  # fmt: skip
    assert plan(parse(IMAGES, wider))
    text = refusal(
        "students.classical.options={kernel_size: 1, stride: 1}",
        f"{BOTH}.adapter=channels",
        "variants.untrained.terms.1.adapter=linear",
    )
    assert "the adapter 'channels' keeps the positions of a map" in text
    assert "variants.untrained" not in text


def test_sizes_are_tried_at_every_point() -> None:
    filters = "axes.filters={key: students.classical.options.filters, values: [3, 4]}"
    assert "student (2, 4, 2, 2), teacher (2, 3, 2, 2)" in refusal(filters)


def test_feature_maps_that_nobody_has() -> None:
    assert refusal("evaluation.feature_maps.layer=activatoin").startswith(
        "evaluation.feature_maps: the network of students.classical has no layer of that name; got "
        "'activatoin'; expected for example 'activation'"
    )
    assert refusal("evaluation.feature_maps.layer=head").startswith(
        "evaluation.feature_maps: the layer 'head' of students.classical returns no maps; got a "
        "shape of (3,) per sample; expected (channels, height, width). Choose a layer in front"
    )


def test_data_that_are_no_images() -> None:
    first, _, *rest = SMALL.splitlines(keepends=True)
    rows = "data: {kind: extended_xor, options: {train: 20, validation: 20, test: 20}}\n"
    small = "".join([first, rows, *rest])
    with pytest.raises(ConfigError, match=r"evaluation.feature_maps: feature maps belong to images"
                       r"; got the data set '.*' of rows. Leave feature_maps out"):  # fmt: skip
        plan(parse(small, ["evaluation.feature_maps={layer: output}"]))
    with pytest.raises(ConfigError, match=r"evaluation.robustness.rotation: only images can be"):
        plan(parse(small, ["evaluation.robustness={rotation: [5]}"]))


def test_samples_that_seeds_share_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.circuits.encodings import Encoding

    checked: list[int] = []
    check = Encoding.check

    def counted(self: Encoding, x: np.ndarray) -> None:
        checked.extend([len(x)] * (x.shape[1] > 4))  # not the patches that filters see
        check(self, x)

    monkeypatch.setattr(Encoding, "check", counted)
    overrides = ["students.quantum={kind: fully_quantum, options: {layers: 1}}", "seeds=3",
                 "evaluation.feature_maps=null"]  # fmt: skip
    plan(parse(IMAGES, [*overrides, "axes.images.only=[12]"]))
    once = [60, 15, 18]  # pool, validation, test
    assert [checked.count(n) for n in once] == [1, 1, 1]
    assert checked.count(12) == 3  # the training samples of each seed, once for both points


# Every backend is tried.


def noisy_refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(parse(STUDY, overrides))
    return str(caught.value)


NARROW = "backends.narrow={base: noisy, noise: {rates: {num_qubits: 1}}}"


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize(
    "where",
    ["backend=narrow", "variants.noisy.backend=narrow", "variants.tuned.fine_tune.backend=narrow",
     "evaluation.backend=narrow", "evaluation.side_by_side.backends=[exact, narrow]"],
)  # fmt: skip
def test_a_circuit_wider_than_a_device_that_is_named_anywhere(where: str) -> None:
    assert noisy_refusal(NARROW, where) == (
        "networks that cannot be built:\n  students.quantum: a circuit is no wider than the device"
        "; got 2 qubits; expected at most the 1 of 'rates'. Use fewer qubits or a larger device."
    )


@pytest.mark.usefixtures("backends")
def test_a_device_that_nobody_runs_on_is_not_tried() -> None:
    assert plan(parse(STUDY, [NARROW, "students.linear.variants=[noisy]"]))
    only = ["students.quantum.variants=[plain]", "variants.noisy.backend=narrow"]
    assert plan(parse(STUDY, [NARROW, *only]))
    assert "a circuit is no wider" in noisy_refusal(
        NARROW, *only, "students.quantum.variants=[plain, noisy]"
    )


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("sampled", ["", ", shots: 50", ", shots: 50, sampled_by: qiskit_aer",
                                     ", shots: 2000, mitigation: tensored"])  # fmt: skip
def test_sampled_devices_are_tried_too(sampled: str) -> None:
    narrow = f"{NARROW[:-1]}{sampled}, readout: true}}".replace(
        "num_qubits: 1", "num_qubits: 1, readout: 0.1"
    )
    assert "at most the 1 of 'rates'" in noisy_refusal(narrow, "variants.noisy.backend=narrow")


@pytest.mark.usefixtures("backends")
def test_circuits_that_slide_over_images_are_tried_too() -> None:
    with pytest.raises(ConfigError, match=r"students.quantum: a circuit is no wider than the device"
                       r"; got 4 qubits; expected at most the 1 of 'rates'"):  # fmt: skip
        plan(parse(IMAGES, [NARROW, "backend=narrow"]))


@pytest.mark.usefixtures("backends")
def test_devices_are_tried_at_every_point() -> None:
    axis = "axes.width={key: backends.device.noise.rates.num_qubits, values: [2, 1, 3]}"
    text = noisy_refusal(axis)
    assert "expected at most the 1 of 'rates'" in text
    assert text.endswith("found at axes.width = 1")


@pytest.mark.usefixtures("backends")
def test_each_network_is_tried_once_on_each_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    from qiskit_kd.experiment.devices import open_backend

    opened: list[str] = []

    def watched(entry, *, shots=None):
        opened.append(entry["name"])
        return open_backend(entry, shots=shots)

    plan(parse(STUDY), opened=watched)
    # The quantum student, the linear one and both teachers; the teachers run exactly.
    assert sorted(opened) == sorted(["exact", "device", "aer"] * 2 + ["exact"])


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_images_that_a_quanvolution_cannot_encode(value: float) -> None:
    """As the rows of a student are: before anything is trained, with the image and the patch."""
    rng = np.random.default_rng(0)

    def part(rows: int) -> Dataset:
        features = rng.uniform(0.1, 1, size=(rows, 16))
        return Dataset(features, np.arange(rows) % 2, 2, "images", (1, 4, 4))

    split = Split(part(4), part(4), part(4))
    model = CircuitModel(amplitude(2), hardware_efficient(2, 1), ClassGroups(2, 2))
    network = torch.nn.Sequential(torch.nn.Unflatten(1, (1, 4, 4)), Quanvolution(model))
    Preflight().samples({"students.q": network}, split, 0)
    broken = split.test.features.copy()
    broken[3] = value
    object.__setattr__(split.test, "features", broken)
    with pytest.raises(ConfigError, match=r"students.q cannot encode the test samples of seed 0: .*"
                       r"image 3, the patch at row 0, column 0"):  # fmt: skip
        Preflight().samples({"students.q": network}, split, 0)
