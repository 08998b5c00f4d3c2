"""Data sets for the chapters: deterministic and, but for the last two, offline.

Every function returns :class:`Data`: three parts of inputs and targets, as tensors.

    data = digits("vectors")
    history = fit(model, *data.train, epochs=5, validation=data.validation)
    print(evaluate(model, *data.test))

Which sample falls into which part, and what synthetic samples look like, follows from ``seed`` alone. Each part
holds the classes in the same shares. Numbers are standardized with the mean and the standard deviation of the
training part: a network without normalization has its best chance, and nobody has looked at the test part.
"""

import warnings
from os import PathLike
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import fetch_openml, get_data_home, load_diabetes, load_digits, make_moons
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a target that PyTorch's cross-entropy leaves out


class Part(NamedTuple):
    """Inputs and targets of N samples."""

    x: Tensor | tuple[Tensor, ...]  # what a model is called with, (N, ...): one tensor or several
    y: Tensor  # (N, ...): classes, int64, or values, float32


class Data(NamedTuple):
    """What to train on, what to choose settings with, and what to look at once, at the end."""

    train: Part
    validation: Part
    test: Part


# Offline


def digits(form: str = "images", *, validation: int = 360, test: int = 360, seed: int = 0) -> Data:
    """scikit-learn's 1797 handwritten digits of 8 × 8 pixels, in 10 classes.

    Args:
        form: "images" (N, 1, 8, 8), "vectors" (N, 64), or "sequences" (N, 8, 8) of rows.
        validation: the number of samples in the validation part.
        test: the number of samples in the test part; the rest, 1077 samples, is for training.
        seed: decides which sample falls into which part.

    Raises:
        ValueError: if ``form`` is none of these, or no sample is left for training.
    """
    bunch = load_digits()
    return _images(bunch.images[:, None], bunch.target, form, validation, test, seed)


def diabetes(*, validation: int = 88, test: int = 88, seed: int = 0) -> Data:
    """scikit-learn's 442 diabetes patients: 10 features (N, 10), and the progress of the disease in a year (N, 1).

    Every feature and the target are standardized. The rest, 266 patients, is for training.
    """
    x, y = load_diabetes(return_X_y=True)
    parts = _split(len(x), validation, test, seed)
    return _data(_standardized(x, parts[0]), _standardized(y[:, None], parts[0]), parts)


def moons(samples: int = 1000, *, noise: float = 0.2, seed: int = 0) -> Data:
    """Two half circles that reach into each other (N, 2), one class each; 60, 20 and 20 % of the samples.

    Args:
        samples: the number of samples in all parts together.
        noise: the standard deviation of the noise around circles of radius 1.
        seed: decides what is drawn.
    """
    x, y = make_moons(samples, noise=noise, random_state=seed)
    parts = _split(samples, samples // 5, samples // 5, seed, classes=y)
    return _data(_standardized(x, parts[0]), y, parts)


def temporal_order(samples: int = 2000, *, shortest: int = 8, longest: int = 16, seed: int = 0) -> Data:
    """Sequences of varying length, to be classified by the order in which two signals come.

    A step is one of 6 symbols, one-hot: one of 4 that mean nothing or, at two random steps, the signal X or Y. The
    classes are XX, XY, YX and YY. The input is a pair: x, (N, longest, 6), zero at the padding behind a sequence,
    and a mask, bool, (N, longest), False at the padding. 60, 20 and 20 % of the samples; not standardized.

    The task is the temporal order problem of Hochreiter and Schmidhuber (1997), here with shorter sequences.

    Raises:
        ValueError: if a sequence could not hold two signals.
    """
    if not 2 <= shortest <= longest:
        raise ValueError(
            f"expected 2 <= shortest <= longest, since each sequence holds two signals; got shortest={shortest} and "
            f"longest={longest}; choose other lengths"
        )
    rng = np.random.default_rng(seed)
    mask = np.arange(longest) < rng.integers(shortest, longest + 1, (samples, 1))
    symbols = rng.integers(0, 4, (samples, longest))
    y = rng.integers(0, 4, samples)
    shuffled_steps = np.argsort(np.where(mask, rng.random(mask.shape), np.inf), axis=1)  # padding comes last
    signals = np.column_stack([4 + y // 2, 4 + y % 2])
    np.put_along_axis(symbols, np.sort(shuffled_steps[:, :2], axis=1), signals, axis=1)
    x = np.eye(6, dtype=np.float32)[symbols] * mask[..., None]
    return _data((x, mask), y, _split(samples, samples // 5, samples // 5, seed, classes=y))


def copying(samples: int = 2000, *, length: int = 6, symbols: int = 8, seed: int = 0) -> Data:
    """Tokens to repeat: a network reads ``length`` random symbols and a separator, and then says the symbols again.

    x and y, int64, have the shape (N, 2 · length), and y is x one token later. Where that cannot be known
    beforehand it is -100. Symbols are tokens 0 to ``symbols`` - 1, and token ``symbols`` is the separator. 60, 20
    and 20 % of the samples.
    """
    said = np.random.default_rng(seed).integers(0, symbols, (samples, length))
    whole = np.hstack([said, np.full((samples, 1), symbols), said])
    y = whole[:, 1:].copy()
    y[:, :length] = IGNORED
    return _data(whole[:, :-1], y, _split(samples, samples // 5, samples // 5, seed))


def with_blanks(sequences: Data, shortest: int, longest: int, *, seed: int = 0) -> Data:
    """Sequences of varying length: each is followed by blank steps, which belong to it, and then by padding.

    A blank step holds the smallest value of each feature in the training part; of images by rows, that is a row of
    nothing. With ``digits("sequences")`` and lengths from 8 to 16, a network has to remember a digit for 0 to 8 steps.
    The input is a pair: x, (N, longest, F), zero at the padding, and a mask, bool, (N, longest), False at the padding.

    Args:
        sequences: parts with inputs (N, L, F), such as those of ``digits("sequences")``.
        shortest: the smallest length, blank steps included.
        longest: the largest length.
        seed: decides how long each is.

    Raises:
        ValueError: if a sequence would be cut off.
    """
    steps = sequences.train.x.shape[1]
    if not steps <= shortest <= longest:
        raise ValueError(
            f"expected {steps} <= shortest <= longest, since no sequence is cut off; got shortest={shortest} and "
            f"longest={longest}; choose other lengths"
        )
    rng = np.random.default_rng(seed)
    blank = sequences.train.x.amin(dim=(0, 1))

    def lengthened(part: Part) -> Part:
        lengths = torch.from_numpy(rng.integers(shortest, longest + 1, (len(part.y), 1)))
        mask = torch.arange(longest) < lengths
        x = torch.cat([part.x, blank.expand(len(part.y), longest - steps, -1)], dim=1)
        return Part((x * mask[..., None], mask), part.y)

    return Data(*map(lengthened, sequences))


def as_tokens(images: Data, *, side: int = 4, levels: int = 5) -> Data:
    """Images as tokens to predict: a network reads the class, and then says the pixels, row by row.

    An image is made grey and pooled to ``side`` × ``side`` pixels. A pixel is one of ``levels`` grey levels of equal
    width, from the darkest to the brightest pixel of the training part. x and y, int64, have the shape (N, side²): y
    holds the pixels, and x is y one token later, with the class in front. Pixels are tokens 0 to ``levels`` - 1, and
    class k is token ``levels`` + k.

    Args:
        images: of :func:`digits`, :func:`mnist` or :func:`cifar10`, in the form "images".
        side: of the pooled image; it should divide the side of the images.
        levels: the number of grey levels.
    """
    darkest, brightest = images.train.x.min(), images.train.x.max()

    def part(x: Tensor, classes: Tensor) -> Part:
        pooled = F.adaptive_avg_pool2d(x.mean(1, keepdim=True), side).flatten(1)
        shares = (pooled - darkest) / (brightest - darkest)
        y = (levels * shares).long().clamp(0, levels - 1)
        return Part(torch.cat([levels + classes[:, None], y[:, :-1]], dim=1), y)

    return Data(*(part(*p) for p in images))


# From OpenML


def mnist(
    form: str = "images",
    *,
    validation: int = 5000,
    test: int = 10000,
    seed: int = 0,
    data_home: str | PathLike[str] | None = None,
) -> Data:
    """MNIST: 70,000 handwritten digits of 28 × 28 pixels, in 10 classes.

    The first call needs a network, and keeps what it fetches; reading that takes a while. The parts are
    drawn at random, so test results do not compare with those on the usual test set.

    Args:
        form: "images" (N, 1, 28, 28), "vectors" (N, 784), or "sequences" (N, 28, 28) of rows.
        validation: the number of samples in the validation part.
        test: the number of samples in the test part; the rest is for training.
        seed: decides which sample falls into which part.
        data_home: the folder that scikit-learn keeps data in, as in :func:`sklearn.datasets.fetch_openml`.

    Raises:
        FileNotFoundError: if the data are not below ``data_home`` and cannot be fetched.
        ValueError: as in :func:`digits`.
    """
    pixels, y = _from_openml("mnist_784", data_home)
    return _images(pixels.reshape(-1, 1, 28, 28), y, form, validation, test, seed)


def cifar10(
    form: str = "images",
    *,
    validation: int = 5000,
    test: int = 10000,
    seed: int = 0,
    data_home: str | PathLike[str] | None = None,
) -> Data:
    """CIFAR-10: 60,000 colour photographs of 32 × 32 pixels, in 10 classes.

    As :func:`mnist`, with images (N, 3, 32, 32), vectors (N, 3072) or sequences (N, 32, 96) of rows, red before
    green before blue. Reading it takes longer, and several times the memory of the pixels.
    """
    pixels, y = _from_openml("CIFAR_10", data_home)
    return _images(pixels.reshape(-1, 3, 32, 32), y, form, validation, test, seed)


def _from_openml(name: str, data_home: str | PathLike[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, features) and classes (N,) of a data set, from scikit-learn's cache or else the network."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "A network error occurred")  # if the next try fails too, we say so
            x, y = fetch_openml(
                name, version=1, data_home=data_home, return_X_y=True, as_frame=False, parser="liac-arff", n_retries=1
            )
    except OSError as error:
        raise FileNotFoundError(
            f"expected the data set {name} below {get_data_home(data_home)}/openml, or a network to fetch it with; got "
            f"{error!r}; call this once with a network, or copy that folder from a computer that has it (data_home "
            "names another place), or use digits(), which needs neither"
        ) from error
    return x.astype(np.float32), y.astype(np.int64)


# Parts


def _images(pixels: np.ndarray, y: np.ndarray, form: str, validation: int, test: int, seed: int) -> Data:
    """Images (N, C, H, W), each channel standardized, in the form that was asked for."""
    parts = _split(len(y), validation, test, seed, classes=y)
    x = _standardized(pixels, parts[0])
    if form == "vectors":
        x = x.reshape(len(x), -1)
    elif form == "sequences":
        x = x.swapaxes(1, 2).reshape(len(x), x.shape[2], -1)
    elif form != "images":
        raise ValueError(f'expected form "images", "vectors" or "sequences"; got {form!r}; choose one of them')
    return _data(x, y, parts)


def _standardized(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """``x``, (N, C, *), less the mean of the training part, over its standard deviation; both per channel."""
    axes = (0, *range(2, x.ndim))
    mean, std = (f(x[train], axis=axes, keepdims=True, dtype=np.float64) for f in (np.mean, np.std))
    x = x.astype(np.float32)  # a copy, and CIFAR-10 is large: the rest happens in place
    x -= mean
    x /= std
    return x


def _split(
    samples: int, validation: int, test: int, seed: int, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The numbers of the samples for training, validation and test; each part with its share of each class."""
    if min(validation, test) < 1 or validation + test >= samples:
        raise ValueError(
            f"expected parts of at least one sample each from {samples} samples; got validation={validation} and "
            f"test={test}; choose other numbers"
        )
    rest, test_part = train_test_split(np.arange(samples), test_size=test, random_state=seed, stratify=classes)
    classes = None if classes is None else classes[rest]
    train, validation_part = train_test_split(rest, test_size=validation, random_state=seed, stratify=classes)
    return train, validation_part, test_part


def _data(x: np.ndarray | tuple[np.ndarray, ...], y: np.ndarray, parts: tuple[np.ndarray, ...]) -> Data:
    """The samples of each part, as tensors."""

    def take(array: np.ndarray, part: np.ndarray) -> Tensor:
        return torch.from_numpy(array[part])

    return Data(
        *(Part(tuple(take(a, p) for a in x) if isinstance(x, tuple) else take(x, p), take(y, p)) for p in parts)
    )
