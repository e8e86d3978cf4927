# SPDX-License-Identifier: Apache-2.0
"""Logits, probabilities and everything else that networks and files hand over, told apart."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from qiskit_kd.circuits import CircuitModel, ClassGroups, Observables, angle, real_amplitudes
from qiskit_kd.data import Split
from qiskit_kd.distill import Distiller, Teacher, Term, metrics
from qiskit_kd.errors import ConfigError, DataError, DistillError, StorageError, UnknownNameError
from qiskit_kd.nn import FullyQuantumStudent, QuantumLayer

from .toys import FEATURES, blobs, linear, mlp, same, weights

X = np.random.default_rng(3).normal(size=(30, FEATURES))
TRAIN, VALIDATION = blobs(40, "train"), blobs(30, "validation")
Z = mlp()(torch.tensor(X, dtype=torch.float32)).detach().double()
P = Z.softmax(dim=1)


class Answers(nn.Module):
    """A trainable network whose output is changed."""

    def __init__(self, answer, classes=3) -> None:
        super().__init__()
        self.inner, self.answer = linear(1, classes=classes), answer

    def forward(self, x):
        return self.answer(self.inner(x))


def groups(classes=2) -> QuantumLayer:
    model = CircuitModel(angle(2), real_amplitudes(2, 1), ClassGroups(classes, 2))
    return QuantumLayer(model, seed=1)


def fit(student, train=TRAIN, validation=VALIDATION, *args, terms=("ce",), **options):
    distiller = Distiller(student, [Term(t) for t in terms], epochs=2, seed=0, **options)
    return distiller.fit(train, validation, *args)


# Teachers


STORED = [
    lambda p, **o: Teacher.from_logits(X, p, **o),
    lambda p, **o: Teacher.from_logits(torch.tensor(X), p, **o),
    lambda p, **o: Teacher.from_logits(X.tolist(), p.tolist(), **o),
]


@pytest.mark.parametrize("make", STORED)
@pytest.mark.parametrize(
    "form", [P, P.float(), P.half(), P.numpy().round(3), torch.eye(3)[[0] * 30]]
)
def test_stored_probabilities_are_never_taken_for_logits(make, form):
    with pytest.raises(DistillError, match=r"teacher returns logits; .*outputs='probabilities'"):
        make(form)
    said = make(form, outputs="probabilities").logits_for(X)
    expected = torch.as_tensor(form).double()
    assert torch.allclose(said.softmax(dim=1), expected / expected.sum(1, keepdim=True), atol=1e-9)
    assert torch.equal(make(form, outputs="logits").logits_for(X), expected)


def test_log_probabilities_and_logits_pass():
    for logits in (Z, P.log(), Z - 5, Z.abs()):
        assert torch.allclose(Teacher.from_logits(X, logits).logits_for(X), logits)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_files_of_probabilities(tmp_path, kind):
    def write(**arrays):
        path = tmp_path / f"t.{kind}"
        (save_file(arrays, path) if kind == "safetensors" else np.savez(path, **arrays))
        return path

    path = write(samples=X, logits=P.numpy())
    with pytest.raises(DistillError, match="outputs='probabilities'"):
        Teacher.from_file(path)
    expected = Teacher.from_file(path, outputs="probabilities").logits_for(X)
    assert torch.allclose(expected.softmax(1), P)
    named = Teacher.from_file(write(samples=X, probabilities=P.numpy()))
    assert torch.equal(named.logits_for(X), expected)
    with pytest.raises(StorageError, match=r"arrays samples; expected .*'samples' and 'logits'"):
        Teacher.from_file(write(samples=X))


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "[1, 2]"])
def test_other_files_say_what_to_do(tmp_path, text):
    for name in ("t.npz", "t.npy", "t.csv"):
        (tmp_path / name).write_text(text)
        with pytest.raises(StorageError, match=r"numpy\.savez|Rename") as caught:
            Teacher.from_file(tmp_path / name)
        assert "pickle" not in str(caught.value)
    np.save(tmp_path / "t.npy", X)
    with pytest.raises(StorageError, match=r"arrays t; expected an \.npz"):
        Teacher.from_file(tmp_path / "t.npy")
    np.savez(tmp_path / "o.npz", samples=X, logits=np.array([{}] * 30))
    with pytest.raises(StorageError, match="Python objects, which are never loaded"):
        Teacher.from_file(tmp_path / "o.npz")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_networks_that_end_in_a_softmax(dtype):
    network = nn.Sequential(linear(1), nn.Softmax(dim=1)).to(dtype)
    with pytest.raises(DistillError, match=r"teacher returns logits; .*outputs='probabilities'"):
        Teacher.from_module(network).logits_for(X)
    said = Teacher(network, outputs="probabilities").logits_for(X)
    bare = Teacher.from_module(network[0]).logits_for(X)
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-5}.get(dtype, 0.05)
    assert torch.allclose(said.softmax(1), bare.softmax(1), atol=tolerance)
    for average in ("probabilities", "logits"):
        with pytest.raises(DistillError, match=r"teacher returns logits; .*probabilities"):
            Teacher.from_module([network, network[0]], average=average).logits_for(X)
    both = Teacher.from_module([network, network], outputs="probabilities").logits_for(X)
    assert torch.allclose(both.softmax(1), said.softmax(1), atol=tolerance)
    with pytest.raises(DistillError, match="are not negative and sum to 1; got numbers from"):
        Teacher.from_module(network[0], outputs="probabilities").logits_for(X)


def test_a_bare_layer_of_probabilities_teaches_their_logarithm():
    layer = groups()
    found = Teacher.from_module(layer).logits_for(X[:, :2])
    p = layer(torch.tensor(X[:, :2], dtype=torch.float32))
    assert torch.allclose(found.softmax(1), p, atol=1e-6)
    assert torch.allclose(found, torch.log(p + 1e-12), atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda z: (z, z), r"got tuple; .*returns one tensor"),
        (lambda z: {"logits": z}, r"got dict; .*returns output\.logits"),
        (lambda z: SimpleNamespace(logits=z), r"got SimpleNamespace; .*returns output\.logits"),
        (lambda _: None, r"got NoneType; expected a tensor"),
        (lambda z: z.numpy() if not z.requires_grad else z.detach().numpy(), "got ndarray"),
        (lambda z: z[:, 0].sigmoid(), r"torch\.cat\(\[1 - p, p\], dim=1\)"),
        (lambda z: z[:, :1], r"torch\.cat\(\[0 \* z, z\], dim=1\)"),
        (lambda z: z[:, :, None], "got shape .* returns its logits only"),
        (lambda z: z[:1], "got shape"),
        (lambda z: z.argmax(1), "of two classes"),
        (lambda z: z.long(), r"real numbers; got torch\.int64"),
        (lambda z: torch.complex(z, z), r"real numbers; got torch\.complex64"),
    ],
)
def test_what_is_no_row_of_logits_is_refused_on_both_sides(answer, message):
    with pytest.raises(DistillError, match=f"(a|of a) teacher.*{message}"):
        Teacher.from_module(Answers(answer)).logits_for(X)
    with pytest.raises(DistillError, match=f"(a|of a) student.*{message}"):
        fit(Answers(answer))


def test_the_remedy_for_one_number_per_sample_works():
    single = Answers(lambda z: torch.cat([0 * z[:, :1], z[:, :1]], dim=1))
    p = Answers(lambda z: torch.log(torch.cat([1 - z.sigmoid(), z.sigmoid()], dim=1)), classes=1)
    two = blobs(40, "a", classes=2)
    for network in (single, p):
        assert fit(network, two, two).best_epoch
        assert Teacher.from_module(network).logits_for(X).shape == (30, 2)
    stored = np.full((30, 1), 0.3)
    with pytest.raises(DataError, match=r"one row per sample; .*torch\.cat"):
        Teacher.from_logits(X, stored)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("mlp", "torch modules, or is one classifier; got str"),
        (None, "got NoneType"),
        (lambda x: x, "got function"),
        (SimpleNamespace(predict_proba=None), "got SimpleNamespace"),
        ([nn.Linear(2, 2), 3], "got int"),
        ([], "at least one network"),
    ],
)
def test_a_teacher_is_made_of_modules(module, message):
    with pytest.raises(DistillError, match=message):
        Teacher.from_module(module)


def test_a_classifier_of_scikit_learn_teaches_as_its_stored_probabilities_do():
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(TRAIN.features, TRAIN.labels)
    p = model.predict_proba(TRAIN.features)
    teacher = Teacher.from_logits(TRAIN.features, p, outputs="probabilities")
    for each in (teacher, Teacher(model)):
        logits = each.logits_for(TRAIN.features)
        assert torch.allclose(logits.softmax(1), torch.tensor(p), atol=1e-9)
    assert fit(linear(1), terms=["kl"], teacher=teacher).best_epoch


def test_bad_words_for_outputs():
    for make in (Teacher.from_module, lambda _, **o: Teacher.from_logits(X, Z, **o)):
        with pytest.raises(DistillError, match=r"logits or probabilities; got outputs='probs'"):
            make(linear(1), outputs="probs")


@pytest.mark.parametrize(
    "samples", [X + 0j, np.ma.array(X, mask=X > 1), X.astype(str), np.full((2, 6), np.nan), [["a"]]]
)
def test_teachers_check_their_samples(samples):
    for teacher in (Teacher.from_module(mlp()), Teacher.from_logits(X, Z)):
        with pytest.raises(DataError, match="samples"):
            teacher.logits_for(samples)
    with pytest.raises(DataError, match="samples"):
        Teacher.from_logits(samples, Z[: len(samples)])
    with pytest.raises(DataError, match="stored logits"):
        Teacher.from_logits(X, samples)


# Students


@pytest.mark.parametrize(
    "network",
    [lambda: nn.Sequential(linear(1), nn.Softmax(dim=1)),
     lambda: nn.Sequential(linear(1, classes=2), groups()),
     lambda: nn.Sequential(nn.Sequential(linear(1, classes=2), groups()), nn.Identity())],
)  # fmt: skip
def test_students_that_return_probabilities_are_refused_and_the_remedy_works(network):
    data = blobs(40, "a", classes=3 if isinstance(network()[1], nn.Softmax) else 2)
    with pytest.raises(DistillError, match=r"student returns logits; .*FullyQuantumStudent\(netw"):
        fit(network(), data, data)
    assert fit(FullyQuantumStudent(network()), data, data).best_epoch


def test_a_softmax_in_evaluation_alone_is_found():
    class Shy(Answers):
        def forward(self, x):
            z = self.inner(x)
            return z if self.training else z.softmax(dim=1)

    with pytest.raises(DistillError, match="student returns logits"):
        fit(Shy(None))


def test_a_bare_layer_becomes_its_student():
    two = blobs(40, "a", classes=2)
    data = type(two)(two.features[:, :2], two.labels, 2, "two")
    layer, twin = groups(), groups()
    distiller = Distiller(layer, [Term("ce")], epochs=2, seed=0)
    assert isinstance(distiller.student, FullyQuantumStudent)
    assert distiller.student.circuit is layer
    history = distiller.fit(data, data)
    expected = fit(FullyQuantumStudent(twin), data, data)
    assert history.curves == expected.curves
    assert torch.equal(layer.weight, twin.weight)
    # Expectation values are as good logits as any.
    values = QuantumLayer(CircuitModel(angle(2), real_amplitudes(2, 1), Observables(["IZ", "ZI"])))
    assert Distiller(values, [Term("ce")]).student is values


def test_sampled_probabilities_get_half_a_count():
    model = groups().model
    layer = QuantumLayer(model, "exact_shots", shots=50)
    assert FullyQuantumStudent(layer).smoothing == 0.01
    assert FullyQuantumStudent(nn.Sequential(nn.Linear(6, 2), layer)).smoothing == 0.01
    assert FullyQuantumStudent(groups()).smoothing == 0.0
    with pytest.raises(ConfigError, match="returns class probabilities; got str"):
        FullyQuantumStudent("layer")
    with pytest.raises(ConfigError, match=r"sharpness is positive; got sharpness=0"):
        FullyQuantumStudent(layer, sharpness=0)


# Metrics


def test_metrics_of_confidence_refuse_probabilities():
    y = np.zeros(30, int)
    for metric in (metrics.nll, metrics.ece):
        assert metric(P.log(), y) == pytest.approx(metric(Z, y))
        with pytest.raises(DataError, match="logits; got class probabilities"):
            metric(P, y)
    for values in ((P, Z), (Z, P)):
        with pytest.raises(DataError, match="logits; got class probabilities"):
            metrics.kl(*values)
    assert metrics.accuracy(P, y) == metrics.accuracy(Z, y)
    with pytest.raises(DataError, match="labels of a metric"):
        metrics.nll(Z, np.full(30, 7))
    with pytest.raises(DataError, match="complex"):
        metrics.nll(Z.numpy() + 0j, y)


# What `fit` takes


class Pictures(Dataset):
    """As torchvision's: one sample and a Python int at a time."""

    def __len__(self) -> int:
        return len(TRAIN)

    def __getitem__(self, k):
        return torch.tensor(TRAIN.features[k]), int(TRAIN.labels[k])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Pictures()[k] for k in range(len(TRAIN)))


TENSORS = torch.tensor(TRAIN.features), torch.tensor(TRAIN.labels)
FORMS = {
    "arrays": lambda: (TRAIN.features, TRAIN.labels),
    "lists": lambda: [TRAIN.features.tolist(), TRAIN.labels.tolist()],
    "tensors": lambda: TENSORS,
    "column": lambda: (TENSORS[0], TENSORS[1][:, None].float()),
    "one-hot": lambda: (TENSORS[0].requires_grad_(False), torch.eye(3)[TENSORS[1]]),
    "tensor data set": lambda: TensorDataset(*TENSORS),
    "subset": lambda: Subset(TensorDataset(*TENSORS), range(len(TRAIN))),
    "pictures": Pictures,
    "loader": lambda: DataLoader(TensorDataset(*TENSORS), batch_size=7),
    "shuffled loader": lambda: DataLoader(Pictures(), batch_size=7, shuffle=True, drop_last=True),
    "loader of single samples": lambda: DataLoader(TensorDataset(*TENSORS), batch_size=None),
    "stream": lambda: DataLoader(Stream(), batch_size=7),
    "data set of another": lambda: SimpleNamespace(
        features=TENSORS[0], labels=TENSORS[1][:, None], num_classes=np.int64(3), name="mine"
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_data_trains_the_same(form):
    expected, found = linear(1), linear(1)
    history = fit(expected)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    if form == "loader of single samples":
        with pytest.raises(DataError, match="can be read as tensors"):
            fit(found, FORMS[form]())
        return
    assert fit(found, FORMS[form]()).curves == history.curves
    assert same(weights(expected), weights(found))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_sampler_of_ones_own_decides():
    sampler = WeightedRandomSampler(torch.ones(len(TRAIN)), 2 * len(TRAIN))
    loader = DataLoader(TensorDataset(*TENSORS), batch_size=7, sampler=sampler)
    history = Distiller(linear(1), [Term("ce")], epochs=1, batch_size=8).fit(loader, VALIDATION)
    assert history.steps_per_epoch == 2 * len(TRAIN) // 8


def test_images_keep_their_shape():
    x = torch.randn(20, 1, 4, 4)
    student = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten(), nn.Linear(18, 2))
    y = torch.arange(20) % 2
    assert fit(student, (x, y), (x, y), TensorDataset(x)).best_epoch


def test_transfer_sets_come_in_every_form():
    x = blobs(20, "transfer")
    teacher = Teacher.from_module(mlp())
    found = []
    for form in (x.features, torch.tensor(x.features), x, (x.features,), (x.features, x.labels),
                 x.features.tolist(), TensorDataset(torch.tensor(x.features)),
                 DataLoader(TensorDataset(torch.tensor(x.features), torch.zeros(20)))):  # fmt: skip
        student = linear(1)
        fit(student, TRAIN, VALIDATION, form, terms=["kl"], teacher=teacher)
        found.append(weights(student))
    assert all(same(found[0], other) for other in found[1:])


def test_classes_are_counted_of_both_sets_or_given():
    x = TRAIN.features
    few = np.arange(len(x)) % 2
    assert fit(linear(1), (x, few), (VALIDATION.features, VALIDATION.labels)).best_epoch
    with pytest.raises(DistillError, match=r"expected \(\d+, 2\).*num_classes="):
        fit(linear(1), (x, few), (x, few))
    for count in (3, np.int64(3), VALIDATION.labels.max() + 1, torch.tensor(3)):
        distiller = Distiller(linear(1), [Term("ce")], epochs=1)
        assert distiller.fit((x, few), (x, few), num_classes=count).best_epoch
    with pytest.raises(DataError, match=r"number of classes; got num_classes=3\.0"):
        distiller.fit((x, few), (x, few), num_classes=3.0)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, "training set is samples and labels; got None"),
        (3, "samples and labels"),
        ("digits", "samples and labels"),
        (TRAIN.features, "samples and labels; got ndarray"),
        ((TRAIN.features,), "samples and labels"),
        ((TRAIN.features, TRAIN.labels, TRAIN.labels), "samples and labels"),
        ((TRAIN.features + 0j, TRAIN.labels), "features of the training set are n.*complex"),
        ((np.ma.array(TRAIN.features, mask=True), TRAIN.labels), "no masked values"),
        ((TRAIN.features, TRAIN.labels + 0.5), "labels of the training set are integers"),
        ((TRAIN.features, TRAIN.labels[:3]), "one label per sample"),
        ((TRAIN.features[:, :2] * np.nan, TRAIN.labels), "finite numbers; got nan"),
        ((TRAIN.features * 1e300, TRAIN.labels), r"stay finite as torch\.float32"),
        (Split(TRAIN, VALIDATION, VALIDATION), r"fit\(split\.train, split\.validation"),
        (TensorDataset(TENSORS[0]), "samples and labels"),
        (DataLoader([{"x": 1}]), "can be read as tensors"),
        ((TRAIN.features, TRAIN.labels - 1), "-1 in row .*"),
    ],
)  # fmt: skip
def test_other_training_sets_are_refused(train, message):
    with pytest.raises(DataError, match=message):
        fit(linear(1), train)


# What a Distiller takes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"student": "hybrid"}, r"a student is a torch module; got str.*students\['hybrid'\]"),
        ({"student": None}, "torch module; got NoneType"),
        ({"terms": [3]}, r"a list of terms; got \[3\]; expected \[Term"),
        ({"terms": None}, "a list of terms"),
        ({"epochs": 2.0}, "epochs is a whole number of at least 1; got 2.0"),
        ({"epochs": True}, "got True"),
        ({"batch_size": "8"}, "batch_size is a whole number"),
        ({"seed": -1}, "seed is a whole number"),
        ({"learning_rate": "0.1"}, "positive number; got '0.1'"),
        ({"learning_rate": np.nan}, "positive number; got nan"),
        ({"optimizer": 3}, "an optimiser is made for .*; got int"),
        ({"optimizer": torch.optim.SGD(linear(1).parameters())}, "got SGD.*Adam, learning_rate"),
        ({"optimizer": nn.Linear}, "is no torch.optim.Optimizer|takes these options"),
        ({"optimizer": lambda _: None}, "returns one; got NoneType"),
        ({"optimizer": torch.optim.SGD, "optimizer_options": {"foo": 1}}, "unexpected keyword"),
        ({"optimizer": lambda p: torch.optim.SGD(p), "optimizer_options": {"lr": 1}}, "knows its"),
        ({"optimizer": torch.optim.LBFGS}, "steps once after one backward pass; got LBFGS"),
        ({"optimizer": lambda p: torch.optim.LBFGS(p)}, "steps once .*loop of your own"),
        ({"optimizer_options": 3}, "options of an optimiser are named"),
        ({"checkpoint_dir": 3}, "checkpoints are kept in a folder; got 3"),
        ({"callbacks": 3}, "callbacks"),
        ({"callbacks": [3]}, "callbacks"),
        ({"metric": []}, "validation metric"),
        ({"metric": "f1"}, r"chosen by a validation metric; got 'f1'.*'accuracy'"),
        ({"optimizer_options": {"momentum": 0.9}}, r"'adam' takes these options; got .*momentum"),
        ({"learning_rate": -1}, r"got .*-1.*expected a positive learning_rate"),
        ({"student": linear(1).requires_grad_(False)}, r"one trainable parameter; got none.*requi"),
        ({"terms": []}, "got no terms"),
        ({"teacher": 3}, "made of torch modules, or is one classifier; got int"),
        ({"teacher": {1: Teacher.from_module(mlp())}}, "teachers have names"),
    ],
)  # fmt: skip
def test_a_distiller_says_what_it_takes(options, message):
    parts = {"student": linear(1), "terms": [Term("ce")], **options}
    with pytest.raises(DistillError, match=message):
        Distiller(parts.pop("student"), parts.pop("terms"), **parts)


def test_a_lazy_network_is_no_teacher():
    with pytest.raises(DistillError, match=r"trained network; got lazy parameters.*Run it once"):
        Teacher(nn.LazyLinear(2))


@pytest.mark.parametrize("error", [KeyError, AttributeError, AssertionError, IndexError, TypeError])
def test_networks_that_fail_say_so(error):
    def fails(_: torch.Tensor) -> None:
        raise error("no luck")

    with pytest.raises(DistillError, match=f"a teacher runs on the samples; got {error.__name__}"):
        Teacher(Answers(fails)).logits_for(X)
    with pytest.raises(DistillError, match=f"a student runs on the samples; got {error.__name__}"):
        fit(Answers(fails))


def test_options_of_an_optimiser_may_be_numpys(tmp_path):
    found = []
    for k, kind in enumerate((float, np.float64)):
        student = linear(1)
        options = {"momentum": kind(0.5), "nesterov": np.bool_(True)}
        fit(student, optimizer="sgd", optimizer_options=options, checkpoint_dir=tmp_path / str(k))
        found.append(weights(student))
    assert same(*found)
    options = {"momentum": np.float32(0.5)}
    fit(linear(1), optimizer="sgd", optimizer_options=options, checkpoint_dir=tmp_path / "2")


def test_an_optimiser_by_class_is_that_by_name():
    named, given = linear(1), linear(1)
    options = {"learning_rate": 0.2, "optimizer_options": {"momentum": 0.5}}
    fit(named, optimizer="sgd", **options)
    fit(given, optimizer=torch.optim.SGD, **options)
    for a, b in zip(named.parameters(), given.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(UnknownNameError, match=r"unknown optimizer; got 'adm'.*did you mean 'ad"):
        fit(linear(1), optimizer="adm")
