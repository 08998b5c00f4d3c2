"""Convolutional networks."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from bncourse import layers
from bncourse.models.parts import Init, Norm, choice, initialized, made


class ResidualCNN(nn.Module):
    """A small residual network for images: (N, in_channels, H, W) → (N, classes).

    A 3 × 3 convolution, stages of residual blocks, the mean over all positions, a linear layer. Each stage but the
    first halves the height and the width. With a norm, no convolution has a bias.

    Args:
        in_channels: 1 for digits, 3 for colour images.
        classes: the number of outputs.
        norm: over (N, C, H, W).
        place: "post", after each convolution, as He et al. 2015 (arXiv:1512.03385) have it; or "pre", with its ReLU
            before each convolution, as in He et al. 2016 (arXiv:1603.05027).
        channels: of each stage.
        blocks: the number of residual blocks in each stage.
        init: initializes the weights of the convolutions.
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 10,
        norm: Norm = layers.BatchNorm2d,
        *,
        place: str = "post",
        channels: Sequence[int] = (16, 32),
        blocks: int = 1,
        init: Init = nn.init.kaiming_normal_,
    ) -> None:
        super().__init__()
        block = {"post": PostNormBlock, "pre": PreNormBlock}[choice(place, ("post", "pre"))]
        first, last = channels[0], channels[-1]
        self.stem = nn.Sequential(OrderedDict(conv=_convolution(in_channels, first, 3, norm, init)))
        self.tail = nn.Sequential()
        end, features = (self.stem, first) if place == "post" else (self.tail, last)
        end.add_module("norm", made(norm, features))
        end.add_module("relu", nn.ReLU())
        inputs = [first, *(c for c in channels for _ in range(blocks))]
        strides = [2 if i and i % blocks == 0 else 1 for i in range(len(inputs) - 1)]
        pairs = zip(inputs[:-1], inputs[1:], strides, strict=True)
        self.blocks = nn.Sequential(*(block(i, o, norm, stride=s, init=init) for i, o, s in pairs))
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tail(self.blocks(self.stem(x)))
        return self.head(x.mean(dim=(2, 3)))


class PostNormBlock(nn.Module):
    """x → relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))).

    (N, inputs, H, W) becomes (N, outputs, H / stride, W / stride), rounded up. The shortcut is the identity, or
    a 1 × 1 convolution with a norm where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, *, stride: int = 1, init: Init = None) -> None:
        super().__init__()
        self.conv1 = _convolution(inputs, outputs, 3, norm, init, stride)
        self.norm1 = made(norm, outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs, 3, norm, init)
        self.norm2 = made(norm, outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_convolution(inputs, outputs, 1, norm, init, stride), made(norm, outputs))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        change = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(self.shortcut(x) + change)


class PreNormBlock(nn.Module):
    """x → shortcut(x) + conv(relu(norm(conv(relu(norm(x)))))).

    (N, inputs, H, W) becomes (N, outputs, H / stride, W / stride), rounded up. The shortcut is the identity, or
    a 1 × 1 convolution where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, norm: Norm, *, stride: int = 1, init: Init = None) -> None:
        super().__init__()
        self.norm1 = made(norm, inputs)
        self.relu1 = nn.ReLU()
        self.conv1 = _convolution(inputs, outputs, 3, norm, init, stride)
        self.norm2 = made(norm, outputs)
        self.relu2 = nn.ReLU()
        self.conv2 = _convolution(outputs, outputs, 3, norm, init)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = _convolution(inputs, outputs, 1, norm, init, stride)

    def forward(self, x: Tensor) -> Tensor:
        change = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return self.shortcut(x) + change


def _convolution(inputs: int, outputs: int, kernel_size: int, norm: Norm, init: Init, stride: int = 1) -> nn.Conv2d:
    """A convolution that keeps height and width, or divides them by the stride; with a bias only if without norm."""
    padding = kernel_size // 2
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=padding, bias=norm is None)
    return initialized(conv, init)
