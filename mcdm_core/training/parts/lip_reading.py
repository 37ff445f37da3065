"""What a lip reader makes of painted mouths: the frozen codec's lip tokens of them against those of the true ones (C).

Pixels weigh a parted lip no more than a shadow. The lip encoder was taught to tell what lips do, whoever's they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...face.parts import MOUTH, apply, inverse
from ...models.motion_codec import MotionCodec, mouth_crop


class LipReading(nn.Module):
    """Mean square difference of lip tokens, in the deviations that they have among frames.

    Args:
        codec: trained; its lip encoder is kept as it is.
    """

    deviation: Tensor

    def __init__(self, codec: MotionCodec) -> None:
        super().__init__()
        sizes = codec.config.motion_codec
        lips = slice(sizes.head_tokens, sizes.head_tokens + sizes.lip_tokens)
        self.encoder = codec.lip_encoder.eval().requires_grad_(False)
        self.register_buffer("deviation", codec.token_std[lips].clamp_min(1e-3))

    def tokens(self, mouths: Tensor, landmarks: Tensor) -> Tensor:
        """Lip tokens ``[n, m, d]``.

        Args:
            mouths: ``[n, 3, s, s]`` in [-1, 1]; landmarks: ``[n, 68, 2]`` in [0, 1] of these pictures.
        """
        return self.encoder(mouth_crop(mouths, landmarks)) / self.deviation

    def forward(self, painted: Tensor, true: Tensor, squares: Tensor, landmarks: Tensor) -> Tensor:
        """The distance of painted mouths.

        Args:
            painted, true: mouths' parts ``[n, 3, s, s]``.
            squares: of the parts ``[n, 2, 2, 3]``; landmarks: true ones in the face crop ``[n, 68, 2]``.
        """
        places = apply(inverse(squares[:, MOUTH]), landmarks)
        with torch.no_grad():
            wanted = self.tokens(true, places)
        return (self.tokens(painted, places) - wanted).square().mean()
