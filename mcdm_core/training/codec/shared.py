"""What the motion codec's batch has as a whole, where several processes share it."""

from __future__ import annotations

from torch import Tensor, nn

from ...models.motion_codec import MotionCodec
from ..workers import Workers


class SharedNorm(nn.BatchNorm1d):
    """A norm of tokens over the batch of all processes; its buffers have the names of the usual one."""

    def __init__(self, usual: nn.BatchNorm1d, workers: Workers) -> None:
        super().__init__(usual.num_features, eps=usual.eps, momentum=usual.momentum, affine=usual.affine)
        self.load_state_dict(usual.state_dict())
        self.workers = workers

    def forward(self, input: Tensor) -> Tensor:
        """``[n, d]`` of this process, of the variance that all have together."""
        if not self.training:
            return super().forward(input)
        return self.workers.own(super().forward(self.workers.gather(input)))


def share_norms(codec: MotionCodec, workers: Workers) -> None:
    """Let the tokens have unit variance over the batch of all processes, not each over its share."""
    if workers.count == 1:
        return
    for module in list(codec.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm1d):
                setattr(module, name, SharedNorm(child, workers).to(codec.token_mean.device))
