"""What a two-level tensor may pass through between its sign and the convolution."""

from functools import partial

import torch
import torch.nn.functional as F

from tests.idioms.idiom import Conv, Idiom, PerChannel, Sequence, Whole, batch_norm, odd_eighths, signs, up

W61 = signs(5, 6, 1, 1)
W6, W12, W24 = signs(5, 6, 3, 3), signs(5, 12, 3, 3), signs(5, 24, 3, 3)
SHIFTED = odd_eighths((6, 1, 1))


def bits(x):
    """{0, 1}."""
    return (x > 0).float()


def shuffled(x, groups):
    """The channels of a grouped convolution, dealt out to the groups of the next one."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def joined(*rules):
    """Channel segments, each with levels of its own."""
    return lambda x: torch.cat([rule(x) for rule in rules], 1)


def written(x):
    """A slice of a two-level tensor, overwritten."""
    s = up(x)
    return torch.cat([s[:, :2].neg(), s[:, 2:]], 1)


PASSED = {
    "reshape": lambda x: up(x).reshape(2, 6, 9, 7),
    "reshape before the sign": lambda x: up(x.reshape(2, 6, 9, 7)),
    "permute": lambda x: up(x).permute(0, 1, 3, 2),
    "flatten and unflatten": lambda x: up(x).flatten(1).unflatten(1, (6, 7, 9)),
    "slice of rows": lambda x: up(x)[:, :, 1:, ::2],
    "narrow": lambda x: up(x).narrow(2, 1, 5),
    "channels picked": lambda x: up(x)[:, [5, 3, 1, 0, 2, 4]],
    "flip": lambda x: torch.flip(up(x), (3,)),
    "roll": lambda x: torch.roll(up(x), 2, 3),
    "expand": lambda x: up(x[:, :1]).expand(-1, 6, -1, -1),
    "repeat": lambda x: up(x[:, :2]).repeat(1, 3, 1, 1),
    "split and cat": lambda x: torch.cat(torch.split(up(x), [2, 4], 1)[::-1], 1),
    "chunk": lambda x: torch.cat(torch.chunk(up(x), 3, 1)[::-1], 1),
    "stack and reshape": lambda x: torch.stack([up(x[:, :3]), up(-x[:, 3:])], 2).reshape(2, 6, 7, 9),
    "unsqueeze and squeeze": lambda x: up(x).unsqueeze(2).squeeze(2),
    "contiguous, clone, detach": lambda x: up(x).contiguous().clone().detach(),
    "channel shuffle": lambda x: shuffled(up(x), 3),
    "pixel unshuffle and shuffle": lambda x: F.pixel_shuffle(F.pixel_unshuffle(up(x[:, :, :6, :8]), 2), 2),
    "nearest x2": lambda x: F.interpolate(up(x), scale_factor=2, mode="nearest"),
    "nearest x2 before the sign": lambda x: up(F.interpolate(x, scale_factor=2, mode="nearest")),
    "nearest x3": lambda x: F.interpolate(up(x), scale_factor=3, mode="nearest"),
    "nearest to 13x17": lambda x: F.interpolate(up(x), size=(13, 17), mode="nearest"),
    "repeat_interleave": lambda x: up(x).repeat_interleave(2, 2).repeat_interleave(2, 3),
    "max-pool": lambda x: F.max_pool2d(up(x), 2),
    "max-pool 3x3, padded": lambda x: F.max_pool2d(up(x), 3, 2, 1),
    "max-pool before the sign": lambda x: up(F.max_pool2d(x, 2)),
    "max-pool of -sign": lambda x: F.max_pool2d(-up(x), 2),
    "max-pool of {0, 1}, padded": lambda x: F.max_pool2d(bits(x), 3, 1, 1),
    "clip": lambda x: torch.clamp(up(x) * 3, -0.5, 2),
    "relu": lambda x: F.relu(up(x)),
    "hardtanh": lambda x: F.hardtanh(up(x) * 3),
    "PReLU of a sign": lambda x: F.leaky_relu(up(x), 0.25),
    "multiply and add": lambda x: up(x) * 0.75 + 0.125,
    "minus a constant": lambda x: 1.5 - bits(x),
    "divide": lambda x: up(x) / 4,
    "square of two levels": lambda x: torch.where(x > 0, 1.5, -0.5).square(),
    "abs of two levels": lambda x: torch.where(x > 0, 1.5, -0.5).abs(),
    "cast to int and back": lambda x: bits(x).int().float(),
    "cast to half and back": lambda x: up(x).half().float(),
    "cast to bool and back": lambda x: bits(x).bool().float(),
    "rounded": lambda x: torch.round(up(x)),
    "where on a two-level tensor": lambda x: torch.where(bits(x) > 0.5, 2.0, -1.0),
    "comparison with a sign": lambda x: (up(x) == 1).float(),
    "maximum with a constant": lambda x: torch.maximum(up(x), torch.zeros(())),
    "dropout in eval mode": lambda x: F.dropout(up(x), 0.5, training=False),
    "identity chain": lambda x: (up(x) + 0) * 1,
    "cat of equal levels": joined(lambda x: up(x[:, :2]), lambda x: up(x[:, 2:] - 1)),
    "cat of a tensor with itself": lambda x: torch.cat([up(x[:, :3])] * 2, 1),
    "cat of opposite levels": written,
}

# a few segments with different steps: a sum of convolutions
SEGMENTS = {
    "cat of {-1, 1} and {0, 1}": joined(up, bits),
    "cat of {-1, 1} and {-0.5, 0.5}": joined(up, lambda x: 0.5 * up(-x)),
    "cat of two levels and ternary": joined(
        lambda x: torch.where(x > 0, 1.5, -0.5), lambda x: torch.round(torch.clamp(x, -1, 1))
    ),
    "cat with a map upsampled": lambda x: torch.cat(
        [bits(x[:, :, :6, :8]), F.interpolate(0.25 * up(x[:, :, :3, :4]), scale_factor=2, mode="nearest")], 1
    ),
}

IDIOMS: dict[str, Idiom] = {
    **{name: Idiom(partial(Conv, f, padding=1), data="zeros") for name, f in PASSED.items()},
    **{name: Idiom(partial(Conv, f, kernel=(5, 12, 3, 3), padding=1), data="zeros") for name, f in SEGMENTS.items()},
    "BN of a sign, one scale": Idiom(lambda: Conv(Sequence(sign=up, bn=uniform(6)), padding=1), data="zeros"),
    "scale by a parameter": Idiom(lambda: Conv(Sequence(sign=up, scale=PerChannel([0.375]))), data="zeros"),
    "pixel shuffle": Idiom(
        lambda: Whole(lambda x: F.conv2d(F.pixel_shuffle(up(x), 2), W6, padding=1)),
        shapes=((1, 24, 3, 4),),
        data="zeros",
    ),
    "pixel unshuffle": Idiom(
        lambda: Whole(lambda x: F.conv2d(F.pixel_unshuffle(up(x), 2), W24, padding=1)),
        shapes=((1, 6, 6, 8),),
        data="zeros",
    ),
    "sum of two signs, {-2, 0, 2}": Idiom(
        lambda: Whole(lambda x, y: F.conv2d(up(x) + up(y), W6, padding=1)), shapes=((1, 6, 5, 5),) * 2, data="zeros"
    ),
    "product of two signs": Idiom(
        lambda: Whole(lambda x, y: F.conv2d(up(x) * up(y), W6, padding=1)), shapes=((1, 6, 5, 5),) * 2, data="zeros"
    ),
    "sign times {0, 1} mask": Idiom(
        lambda: Whole(lambda x, y: F.conv2d(up(x) * bits(y), W6, padding=1)), shapes=((1, 6, 5, 5),) * 2, data="zeros"
    ),
    "sign of a row's mean": Idiom(
        lambda: Whole(lambda x: F.conv2d(up(x.mean(3, keepdim=True) - 0.25), W61)), shapes=((2, 6, 7, 8),)
    ),
    "two inputs, cat": Idiom(
        lambda: Whole(lambda x, y: F.conv2d(torch.cat([up(x), up(y)], 1), W12, padding=1)),
        shapes=((1, 6, 5, 5), (1, 6, 5, 5)),
        data="zeros",
    ),
    "bits between two layers, nearest": Idiom(
        lambda: Sequence(
            first=Conv(padding=1),
            bn=batch_norm(5),
            sign=up,
            resize=lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
            second=Conv(lambda x: x, kernel=(4, 5, 3, 3), padding=1),
        )
    ),
    "bits between two layers, pixel shuffle": Idiom(
        lambda: Sequence(
            first=Conv(kernel=(20, 6, 3, 3), padding=1),
            bn=batch_norm(20),
            sign=up,
            shuffle=lambda x: F.pixel_shuffle(x, 2),
            second=Conv(lambda x: x, kernel=(4, 5, 3, 3), padding=1),
        )
    ),
}


def uniform(channels):
    """A normalisation with one scale and a shift a channel."""
    layer = batch_norm(channels, [0.5])
    layer.running_var.fill_(3.75)
    return layer
