"""Data sets come whole, in disjoint parts, the same for the same seed, and without a network."""

import gzip
import hashlib
import io
import json
import random
import re
import time
import urllib.request
import urllib.response
from email.message import Message
from urllib.error import URLError

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits

from bncourse import data
from bncourse.data import Part


def blanks(shortest=8, longest=16, *, seed=0):
    return data.with_blanks(data.digits("sequences", seed=seed), shortest, longest, seed=seed)


OFFLINE = {
    "digits": data.digits,
    "diabetes": data.diabetes,
    "moons": data.moons,
    "temporal order": data.temporal_order,
    "copying": data.copying,
    "tokens": lambda seed=0: data.as_tokens(data.digits(seed=seed)),
    "digits and blanks": blanks,
}


def tensors(parts):
    """All tensors of all parts."""
    return [t for part in parts for t in (*(part.x if isinstance(part.x, tuple) else (part.x,)), part.y)]


# Every data set


@pytest.mark.parametrize("make", OFFLINE.values(), ids=OFFLINE)
def test_the_same_seed_gives_the_same_data_and_another_one_other_data(make):
    first, again, other = tensors(make()), tensors(make()), tensors(make(seed=1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("make", [data.moons, data.temporal_order, data.copying])
def test_another_seed_draws_other_samples_and_not_only_other_parts(make):
    def values(seed):
        """Every column, sorted, of all parts together, whatever they were standardized with."""
        x = (
            torch.cat([part.x[0] if isinstance(part.x, tuple) else part.x for part in make(seed=seed)])
            .double()
            .flatten(1)
        )
        return ((x - x.mean(0)) / (x.std(0) + 1e-9)).sort(dim=0).values

    torch.testing.assert_close(values(3), values(3))
    assert not torch.allclose(values(3), values(4), atol=1e-3)


@pytest.mark.parametrize("make", OFFLINE.values(), ids=OFFLINE)
def test_no_global_generator_is_touched(make):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    make()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


@pytest.mark.parametrize("make", OFFLINE.values(), ids=OFFLINE)
def test_parts_are_tensors_of_single_precision_and_whole_numbers(make):
    parts = make()
    assert parts == (parts.train, parts.validation, parts.test)
    kinds = {t.dtype for t in tensors(parts)}
    assert kinds <= {torch.float32, torch.int64, torch.bool}
    for part in parts:
        assert isinstance(part, Part)
        assert {len(t) for t in tensors([part])} == {len(part.y)}


@pytest.mark.parametrize("make", [data.moons, data.temporal_order, data.copying])
def test_synthetic_samples_are_as_many_as_asked_for_in_three_parts(make):
    assert [len(part.y) for part in make(500)] == [300, 100, 100]


@pytest.mark.parametrize(("validation", "test"), [(900, 897), (0, 10), (10, 0), (2000, 10)])
def test_parts_that_leave_nothing_are_an_error(validation, test):
    expected = rf"expected parts .* from 1797 samples; got validation={validation} and test={test}; choose"
    with pytest.raises(ValueError, match=expected):
        data.digits(validation=validation, test=test)


# Digits


def raw(x):
    """Standardized digits as the pixels they came from: the darkest is 0, the brightest 16."""
    return ((x - x.min()) / (x.max() - x.min()) * 16).round().to(torch.int64)


def rows(x):
    """The samples of ``x``, to be counted."""
    return sorted(map(tuple, x.flatten(1).tolist()))


def test_digits_are_all_there_once_in_parts_of_the_promised_size():
    parts = data.digits()
    assert [len(part.y) for part in parts] == [1077, 360, 360]
    everything = torch.cat(
        [raw(torch.cat([part.x for part in parts])).flatten(1), torch.cat([p.y for p in parts])[:, None]], 1
    )
    bunch = load_digits()
    expected = torch.from_numpy(np.column_stack([bunch.data, bunch.target])).to(torch.int64)
    assert rows(everything) == rows(expected)


def test_every_part_of_the_digits_has_its_share_of_each_class():
    counts = np.bincount(load_digits().target)
    for part in data.digits():
        share = counts * len(part.y) / 1797
        assert np.abs(part.y.bincount().numpy() - share).max() <= 1


def test_digits_are_standardized_with_the_training_part_alone():
    parts = data.digits()
    assert parts.train.x.mean().item() == pytest.approx(0, abs=1e-5)
    assert parts.train.x.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    assert abs(parts.test.x.mean().item()) > 1e-4
    assert {part.x.min().item() for part in parts} == {parts.train.x.min().item()}  # 0 is the same number everywhere
    assert {part.x.max().item() for part in parts} == {parts.train.x.max().item()}


def test_forms_of_the_digits_hold_the_same_pixels():
    images, vectors, sequences = (data.digits(form).test for form in ("images", "vectors", "sequences"))
    assert images.x.shape == (360, 1, 8, 8) and vectors.x.shape == (360, 64) and sequences.x.shape == (360, 8, 8)
    assert torch.equal(images.x[:, 0], sequences.x)  # step t is row t
    assert torch.equal(images.x[:, 0, 2, 5], vectors.x[:, 2 * 8 + 5])
    assert torch.equal(images.y, vectors.y) and torch.equal(images.y, sequences.y)


def test_a_form_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match='expected form "images", "vectors" or "sequences"; got \'rows\'; choose'):
        data.digits("rows")


# Digits and blank steps


def test_digits_are_followed_by_blank_rows_and_these_by_padding():
    for part, digits in zip(blanks(9, 13), data.digits("sequences"), strict=True):
        x, mask = part.x
        assert x.shape == (len(part.y), 13, 8) and torch.equal(part.y, digits.y)
        assert torch.equal(x[:, :8], digits.x)
        lengths = mask.sum(1)
        assert torch.equal(mask, torch.arange(13) < lengths[:, None])
        assert set(lengths.tolist()) == {9, 10, 11, 12, 13}
        assert not x[~mask].any()
        assert (x[:, 8:][mask[:, 8:]] == digits.x[0, 0, 0]).all()  # a corner, where nobody writes
    assert digits.x[0, 0, 0] < -0.5, "to be told from the padding"


def test_a_blank_step_has_the_smallest_value_of_each_feature_in_training():
    part = Part(torch.tensor([[[1.0, 5.0], [2.0, 3.0]], [[4.0, 7.0], [0.5, 9.0]]]), torch.tensor([0, 1]))
    other = Part(part.x - 10, part.y)
    x, _ = data.with_blanks(data.Data(part, other, other), 4, 5).test.x
    assert x[:, 2:4].tolist() == [[[0.5, 3.0]] * 2] * 2


@pytest.mark.parametrize(("shortest", "longest"), [(7, 16), (12, 11)])
def test_lengths_that_cut_a_digit_off_are_an_error(shortest, longest):
    with pytest.raises(ValueError, match=f"expected 8 <= shortest <= longest.*shortest={shortest} and longest"):
        blanks(shortest, longest)


# Diabetes and moons


def test_diabetes_features_and_target_are_standardized_one_by_one():
    parts = data.diabetes()
    assert [part.x.shape for part in parts] == [(266, 10), (88, 10), (88, 10)]
    assert [part.y.shape for part in parts] == [(266, 1), (88, 1), (88, 1)]
    for column in (*parts.train.x.T, parts.train.y):
        assert column.mean().item() == pytest.approx(0, abs=1e-5)
        assert column.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    everything = torch.cat([torch.cat([part.x, part.y], 1) for part in parts]).double()
    x, y = load_diabetes(return_X_y=True)
    correlations = np.corrcoef(np.column_stack([x, y]), rowvar=False)  # which standardizing leaves as they are
    np.testing.assert_allclose(np.corrcoef(everything.numpy(), rowvar=False), correlations, atol=1e-5)


def test_moons_are_two_half_circles():
    parts = data.moons(2000, noise=0.0)
    x, y = torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])
    assert x.shape == (2000, 2) and y.bincount().tolist() == [1000, 1000]
    (left, right), low = [x[y == k, 0] for k in (0, 1)], x[y == 1, 1]
    assert left.max() < right.max() and left.min() < right.min() and low.min() < x[y == 0, 1].min()
    noisy = data.moons(2000, noise=0.3)
    assert not torch.equal(noisy.train.x, parts.train.x)
    assert parts.train.x.mean(0).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert parts.train.x.std(0, correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)


# Sequences and tokens


def test_the_class_of_a_sequence_is_the_order_of_its_two_signals():
    parts = data.temporal_order(500, shortest=3, longest=9)
    for (x, mask), y in parts:
        assert x.shape == (*mask.shape, 6) == (len(y), 9, 6) and mask.dtype == torch.bool
        assert torch.equal(x.sum(-1), mask.float())  # one symbol a step, and nothing at the padding
        for symbols, real, kind in zip(x.argmax(-1), mask, y, strict=True):
            signals = [symbol - 4 for symbol in symbols[real].tolist() if symbol >= 4]
            assert len(signals) == 2 and kind == 2 * signals[0] + signals[1]


def test_sequences_have_every_length_and_padding_only_at_their_end():
    parts = data.temporal_order(2000, shortest=3, longest=9)
    masks = torch.cat([part.x[1] for part in parts])
    assert set(masks.sum(1).tolist()) == set(range(3, 10))
    assert torch.equal(masks, masks.sort(dim=1, descending=True).values)


def test_signals_come_at_every_step_and_say_nothing_about_the_length():
    x, mask = data.temporal_order(4000, shortest=6, longest=6).train.x
    assert mask.all()
    where = (x.argmax(-1) >= 4).float().mean(0)  # two signals in 6 steps: 1/3 at each; standard error 0.01
    assert where.tolist() == pytest.approx([1 / 3] * 6, abs=0.04)
    distractors = x[..., :4].sum((0, 1))
    assert (distractors / distractors.sum()).tolist() == pytest.approx([0.25] * 4, abs=0.02)


@pytest.mark.parametrize(("shortest", "longest"), [(1, 5), (6, 5)])
def test_sequences_without_room_for_two_signals_are_an_error(shortest, longest):
    with pytest.raises(ValueError, match=f"got shortest={shortest} and longest={longest}; choose"):
        data.temporal_order(shortest=shortest, longest=longest)


def test_tokens_are_said_again_after_the_separator():
    x, y = data.copying(500, length=5, symbols=3).train
    assert x.shape == y.shape == (300, 10)
    assert (x[:, 5] == 3).all() and set(x[:, :5].unique().tolist()) == {0, 1, 2}
    assert torch.equal(y[:, 5:], x[:, :5])
    assert torch.equal(y[:, 5:-1], x[:, 6:]), "each target is the next token"
    assert (y[:, :5] == -100).all()


def test_images_become_a_class_and_grey_levels_row_by_row():
    images = data.digits(seed=3)
    tokens = data.as_tokens(images, side=4, levels=5)
    for (x, y), part in zip(tokens, images, strict=True):
        pooled = raw(part.x).double().reshape(-1, 4, 2, 4, 2).mean((2, 4))  # 0 to 16
        assert torch.equal(y, (pooled / 3.2).floor().clamp(max=4).long().flatten(1))
        assert torch.equal(x[:, 0], 5 + part.y) and torch.equal(x[:, 1:], y[:, :-1])
    assert set(tokens.train.y.unique().tolist()) == {0, 1, 2, 3, 4}


def test_colour_images_become_grey_and_levels_follow_from_the_training_part():
    dark, bright = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    train = Part(torch.cat([dark, bright]), torch.tensor([1, 0]))
    held_out = torch.cat([dark - 5, bright + 5])  # beyond all that was seen
    held_out[0, 0, :2, :2] = 15.3  # the mean of three channels: 5.3 / 3
    tokens = data.as_tokens(data.Data(train, train, Part(held_out, torch.tensor([1, 0]))), side=2, levels=3)
    assert tokens.train.y.tolist() == [[0] * 4, [2] * 4] and tokens.train.x[:, 0].tolist() == [4, 3]
    assert tokens.test.y.tolist() == [[2, 0, 0, 0], [2] * 4]


# OpenML


class OpenML(urllib.request.HTTPSHandler):
    """Serves one small data set, as OpenML would."""

    def __init__(self, name, pixels, classes):
        super().__init__()
        names = [f"pixel{i}" for i in range(pixels.shape[1])]
        lines = [f"@RELATION {name}", *(f"@ATTRIBUTE {column} REAL" for column in names)]
        lines += ["@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}", "@DATA"]
        lines += [",".join(map(str, [*row, label])) for row, label in zip(pixels, classes, strict=True)]
        self.arff = "\n".join(lines).encode()
        common = {"is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0"}
        columns = [{"name": column, "data_type": "numeric", "is_target": "false"} | common for column in names]
        columns.append({"name": "class", "data_type": "nominal", "is_target": "true"} | common)
        features = [column | {"index": str(i)} for i, column in enumerate(columns)]
        description = {"id": "7", "name": name, "version": "1", "status": "active", "format": "ARFF", "description": ""}
        description |= {"url": "https://localhost/file.arff", "md5_checksum": hashlib.md5(self.arff).hexdigest()}
        quality = [{"name": "NumberOfInstances", "value": str(len(classes))}]
        self.answers = {
            f"data_name/{name.lower()}/limit/2/data_version/1": {"data": {"dataset": [{"did": 7, "version": 1}]}},
            "data/7": {"data_set_description": description},
            "data/features/7": {"data_features": {"feature": features}},
            "data/qualities/7": {"data_qualities": {"quality": quality}},
        }

    def https_open(self, request):
        for end, answer in self.answers.items():
            if request.full_url.endswith(end):
                return self.response(request, json.dumps(answer).encode())
        assert request.full_url.endswith("file.arff"), request.full_url
        return self.response(request, self.arff)

    def response(self, request, body):
        headers = Message()
        headers["Content-Encoding"] = "gzip"
        response = urllib.response.addinfourl(io.BytesIO(gzip.compress(body)), headers, request.full_url, 200)
        response.msg = "OK"
        return response


class NoNetwork(urllib.request.HTTPSHandler):
    def https_open(self, request):
        raise URLError("no network here")


@pytest.fixture
def network(monkeypatch):
    """Chooses what answers."""

    def use(handler):
        monkeypatch.setattr(urllib.request, "_opener", urllib.request.build_opener(handler))

    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    use(NoNetwork())
    return use


SETS = {
    "mnist": (data.mnist, "mnist_784", (1, 28, 28)),
    "cifar10": (data.cifar10, "CIFAR_10", (3, 32, 32)),
}


@pytest.mark.parametrize(("load", "name", "shape"), SETS.values(), ids=SETS)
def test_a_data_set_from_openml_is_read_from_the_cache_when_there_is_no_network(load, name, shape, tmp_path, network):
    rng = np.random.default_rng(0)
    pixels, classes = rng.integers(0, 256, (60, *shape)), np.arange(60) % 10
    pixels[:, -1, 0, 1] = np.arange(60)  # numbers the images
    network(OpenML(name, pixels.reshape(60, -1), classes))
    load(validation=10, test=20, data_home=tmp_path)
    network(NoNetwork())
    parts = load(validation=10, test=20, data_home=str(tmp_path))
    assert [part.x.shape for part in parts] == [(30, *shape), (10, *shape), (20, *shape)]
    number = torch.cat([part.x[:, -1, 0, 1] for part in parts]).argsort()
    x, y = torch.cat([part.x for part in parts])[number], torch.cat([part.y for part in parts])[number]
    assert y.tolist() == classes.tolist() and y.dtype == torch.int64
    for channel in range(shape[0]):  # shifted and scaled by the numbers of the training part
        train = parts.train.x[:, channel]
        assert (train.mean().item(), train.std(correction=0).item()) == pytest.approx((0, 1), abs=1e-5)
        ours, theirs = x[:, channel].flatten().double().numpy(), pixels[:, channel].flatten()
        assert np.corrcoef(ours, theirs)[0, 1] == pytest.approx(1, abs=1e-6)
    vectors = load("vectors", validation=10, test=20, data_home=tmp_path)
    assert torch.equal(vectors.test.x, parts.test.x.flatten(1))
    sequences = load("sequences", validation=10, test=20, data_home=tmp_path)
    assert torch.equal(sequences.test.x[:, 3], parts.test.x[:, :, 3].flatten(1))


@pytest.mark.parametrize(("load", "name", "shape"), SETS.values(), ids=SETS)
def test_without_network_and_cache_the_error_says_what_to_do(load, name, shape, tmp_path, network):
    expected = (
        rf"expected the data set {name} below {re.escape(str(tmp_path))}.*, or a network.*; got URLError.*no network"
    )
    with pytest.raises(FileNotFoundError, match=rf"{expected}.*; call this once with a network.*or use digits\(\)"):
        load(data_home=tmp_path)
