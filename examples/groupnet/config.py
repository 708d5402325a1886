"""The parameters of Group-Net."""

from dataclasses import dataclass

#: Blocks in each of the four stages, by the depth of the ResNet.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
HEADS = ("classifier", "fcn", "deeplab")
MERGES = ("mean", "scalars")


@dataclass(frozen=True)
class GroupNetConfig:
    """What varies between networks of the family; ValueError for a name that is not accepted.

    blocks : residual blocks in each of the four stages; see DEPTHS.
    branches : K, binary branches of a block.
    width : channels of the first stage; the later ones have 2, 4 and 8 times as many.
    gate : put a soft gate in front of each block but the first.
    merge : the branches' maps become one behind the last block: by their "mean", or by learned "scalars".
    bpac : binary parallel atrous convolutions: the last two stages keep the resolution of 1/8, and each branch has its
        own dilation, from 2 in the third stage and from 6 in the fourth.
    head : "classifier", or for segmentation "fcn" (one float 1x1 convolution) or "deeplab" (a binary pyramid).
    classes : of the logits.
    argmax : segmentation gives a class map, int64 [N, H, W], instead of logits, float32 [N, classes, H, W].
    input_size : (H, W) that the network is meant for; it runs at any multiple of 32.
    """

    blocks: tuple[int, int, int, int] = DEPTHS[18]
    branches: int = 5
    width: int = 64
    gate: bool = True
    merge: str = "mean"
    bpac: bool = False
    head: str = "classifier"
    classes: int = 1000
    argmax: bool = True
    input_size: tuple[int, int] = (224, 224)

    def __post_init__(self) -> None:
        for field, names in {"head": HEADS, "merge": MERGES}.items():
            if getattr(self, field) not in names:
                raise ValueError(f"{field} is {getattr(self, field)!r}; accepted: {', '.join(names)}")
        if min(*self.blocks, self.branches, self.width, self.classes) < 1:
            raise ValueError("blocks, branches, width and classes must be at least 1")
