"""The parameters of the network and its two named configurations."""

from dataclasses import dataclass

from tvm_bnn.nn import ATTENTIONS, UPSAMPLINGS

STEMS = {"3x3": 3, "7x7": 7}


@dataclass(frozen=True)
class Ding2024Config:
    """What varies between networks of the family; ValueError for a name that is not accepted.

    width : channels of the stem; the encoder's stages have 1, 2, 4 and 8 times as many.
    decoder_channels : channels of every decoder stage.
    branches : K, parallel branches of the decoder.
    upsampling : "nearest", "bilinear", "transposed" or "pixel_shuffle".
    attention : "none", "channel", "spatial" or "token".
    gate : put a soft gate behind the attention.
    stem : "3x3" or "7x7", the float convolution of stride 2.
    classes : channels of the logits.
    argmax : give a class map, int64 [N, H, W], instead of logits, float32 [N, classes, H, W].
    input_size : (H, W) that the network is meant for; it runs at any multiple of 32.
    """

    width: int = 64
    decoder_channels: int = 128
    branches: int = 1
    upsampling: str = "nearest"
    attention: str = "channel"
    gate: bool = False
    stem: str = "3x3"
    classes: int = 19
    argmax: bool = True
    input_size: tuple[int, int] = (512, 1024)

    def __post_init__(self) -> None:
        accepted = {"upsampling": list(UPSAMPLINGS), "attention": ["none", *ATTENTIONS], "stem": list(STEMS)}
        for field, names in accepted.items():
            if getattr(self, field) not in names:
                raise ValueError(f"{field} is {getattr(self, field)!r}; accepted: {', '.join(names)}")
        if min(self.width, self.decoder_channels, self.branches, self.classes) < 1:
            raise ValueError("width, decoder_channels, branches and classes must be at least 1")

    @property
    def tokens(self) -> int:
        """Tokens of an attention over tokens: cells of 1/32 of the input size."""
        return (self.input_size[0] // 32) * (self.input_size[1] // 32)


BENCH = Ding2024Config()
DEMO = Ding2024Config(width=32, decoder_channels=64, classes=4, input_size=(256, 512))
