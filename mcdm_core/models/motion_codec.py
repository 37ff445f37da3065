"""Motion codec: video to head, lip and expression tokens and back to facial motion (paper 3.3, appendix B.2).

A four-layer transformer lip encoder reads a stabilised crop of the mouth. A four-layer transformer expression encoder
reads an aligned crop of the face, and the landmark guider the rigid landmarks. A four-layer motion decoder takes a
frame's tokens, those of the reference and the reference's landmarks. It gives landmarks (as a displacement of the
reference's) and local deformations, the sixteen facial values. What the decoder gets from the reference is the person.
What it gets from the tokens is the motion. So tokens of one person can drive another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import MCDMConfig
from ..errors import MCDMError
from ..face.landmarks import FACE, LIDS, LIP_VALUES, LIPS, NECK, eye_centres, meeting_landmarks
from .landmark_guider import LandmarkGuider
from .layers.token_transformer import TransformerLayer
from .motion_tokens import EXPRESSIONS, MotionTokens

MOUTH_SIZE = 48
FACE_SIZE = 64
STABLE = (20, 24, 28, 32, 46, 47, 61, 62, 63)
"""Eye corners, bridge of the nose, temples, forehead: what neither speech nor the neck moves."""
MOUTH_SIDE = 1.5
"""Side of the mouth crop in units of the stable landmarks' spread (root mean square distance to their mean)."""
FACE_SIDE = 3.2
FACE_SHIFT = 0.7
"""Side of the face crop and its centre below the stable landmarks' mean, in the same unit."""
DISPLACEMENT_SCALE = 0.1
"""The decoder's landmark output of 1 means a tenth of the crop's side."""


@dataclass(frozen=True)
class FacialMotion:
    """What the decoder rebuilds: ``landmarks [b, f, 68, 2]`` in crop units, ``values [b, f, 16]``."""

    landmarks: Tensor
    values: Tensor


def face_frame(landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Position, size and tilt of a face, from landmarks.

    Args:
        landmarks: ``[n, 68, 2]`` in [0, 1] of the crop.

    Returns:
        ``(centre [n, 2], spread [n], axis [n, 2])``: mean of the :data:`STABLE` landmarks and their root mean square
        distance to it. The axis is the unit vector from the eye at the picture's left to the other.
    """
    stable = landmarks[:, torch.tensor(STABLE, device=landmarks.device)]
    centre = stable.mean(1)
    spread = (stable - centre[:, None]).square().sum(-1).mean(1).sqrt().clamp_min(1e-3)
    eyes = eye_centres(landmarks)
    return centre, spread, F.normalize(eyes[:, 1] - eyes[:, 0], dim=-1)


def similarity_crop(images: Tensor, centre: Tensor, side: Tensor, axis: Tensor, size: int) -> Tensor:
    """Cut upright squares out of images by a similarity transform.

    Args:
        images: ``[n, 3, h, w]``; outside is the border's colour.
        centre: ``[n, 2]`` in [0, 1]; side: ``[n]`` in units of the image's width; axis: ``[n, 2]``, unit vector
            that becomes the crop's x direction.
        size: side of the result in pixels.

    Returns:
        ``[n, 3, size, size]``.
    """
    half = side[:, None] * axis
    theta = torch.stack(
        [
            torch.stack([half[:, 0], -half[:, 1], 2 * centre[:, 0] - 1], dim=-1),
            torch.stack([half[:, 1], half[:, 0], 2 * centre[:, 1] - 1], dim=-1),
        ],
        dim=1,
    ).to(images.dtype)
    grid = F.affine_grid(theta, [len(images), 3, size, size], align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def mouth_crop(images: Tensor, landmarks: Tensor) -> Tensor:
    """What the lip encoder reads ``[n, 3, 48, 48]``: centred on the lips, upright and scaled with the head.

    Args:
        images: ``[n, 3, h, w]`` in [-1, 1]; landmarks: ``[n, 68, 2]`` in [0, 1].
    """
    _, spread, axis = face_frame(landmarks)
    return similarity_crop(images, landmarks[:, LIPS].mean(1), spread * MOUTH_SIDE, axis, MOUTH_SIZE)


def mouth_and_face_crops(images: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """The two pictures the encoders read.

    Args:
        images: ``[n, 3, h, w]`` in [-1, 1]; landmarks: ``[n, 68, 2]`` in [0, 1].

    Returns:
        Mouth ``[n, 3, 48, 48]``, centred on the lips, and face ``[n, 3, 64, 64]``, both upright and scaled
        with the head.
    """
    centre, spread, axis = face_frame(landmarks)
    down = torch.stack([-axis[:, 1], axis[:, 0]], dim=-1)
    face = similarity_crop(images, centre + down * spread[:, None] * FACE_SHIFT, spread * FACE_SIDE, axis, FACE_SIZE)
    return mouth_crop(images, landmarks), face


class PatchTransformer(nn.Module):
    """Image patches and learned query tokens through a transformer; the queries leave as motion tokens.

    Patches are 8x8 pixels; three strided convolutions embed them, which learns much faster from little data than one
    linear map would.
    """

    def __init__(self, config: MCDMConfig, size: int, num_tokens: int) -> None:
        super().__init__()
        codec = config.motion_codec
        width = codec.width
        self.embed = nn.Sequential(
            nn.Conv2d(3, width // 4, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        )
        self.positions = nn.Parameter(torch.empty((size // 8) ** 2, width).normal_(std=0.02))
        self.queries = nn.Parameter(torch.empty(num_tokens, width).normal_(std=0.1))
        # What a query starts from: a plain linear reading of all patches. Queries that start blind to the image stay
        # blind for hundreds of steps, because the decoder then learns to do without them.
        self.reduce = nn.Linear(width, 8)
        self.glance = nn.Linear(8 * (size // 8) ** 2, num_tokens * width)
        self.layers = nn.ModuleList(TransformerLayer(width, codec.num_heads) for _ in range(codec.num_layers))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, codec.motion_dim)
        # Unit variance over the batch: tokens cannot collapse, and noise on them always means the same.
        self.spread = nn.BatchNorm1d(num_tokens * codec.motion_dim, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """``[n, 3, size, size]`` in [-1, 1] to raw tokens ``[n, num_tokens, motion_dim]``."""
        patches = rearrange(self.embed(images.to(self.project.weight.dtype)), "n c h w -> n (h w) c")
        glance = self.glance(F.silu(self.reduce(patches)).flatten(1)).view(len(images), *self.queries.shape)
        x = torch.cat([self.queries + glance, patches + self.positions], dim=1)
        for layer in self.layers:
            x = layer(x)
        tokens = self.project(self.norm(x[:, : len(self.queries)]))
        return self.spread(tokens.flatten(1)).view_as(tokens)


class MotionDecoder(nn.Module):
    """Tokens of a frame and of the reference, and the reference's landmarks, to facial motion."""

    REGIONS = (LIPS, LIDS, FACE, NECK)
    REFERENCE_PARTS = 4

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        codec = config.motion_codec
        width = codec.width
        tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
        self.width, self.num_landmarks = width, codec.num_landmarks
        self.embed = nn.Linear(codec.motion_dim, width)
        self.landmark_embed = nn.Linear(2 * codec.num_landmarks, self.REFERENCE_PARTS * width)
        self.types = nn.Parameter(torch.empty(2 * tokens + self.REFERENCE_PARTS, width).normal_(std=0.1))
        self.queries = nn.Parameter(torch.empty(len(self.REGIONS) + 1, width).normal_(std=0.5))
        self.layers = nn.ModuleList(TransformerLayer(width, codec.num_heads) for _ in range(codec.num_layers))
        self.norm = nn.LayerNorm(width)
        self.regions = nn.ModuleList(nn.Linear(width, 2 * (r.stop - r.start)) for r in self.REGIONS)
        self.values = nn.Linear(width, codec.num_values)
        # Most of a face's displacement (the head's) is nearly linear in the change of the tokens.
        self.direct = nn.Linear(tokens * codec.motion_dim, 2 * codec.num_landmarks, bias=False)
        nn.init.zeros_(self.direct.weight)

    def forward(self, tokens: Tensor, reference_tokens: Tensor, reference_landmarks: Tensor) -> tuple[Tensor, Tensor]:
        """Decode raw tokens.

        Args:
            tokens, reference_tokens: ``[n, nq, dm]`` raw; reference_landmarks: ``[n, 68, 2]``.

        Returns:
            Landmarks ``[n, 68, 2]`` and values ``[n, 16]``.
        """
        number = len(tokens)
        # The mean face position is about the crop's centre; 4 brings the points to unit spread.
        shape = ((reference_landmarks - 0.5) * 4).flatten(1).to(tokens.dtype)
        shape = self.landmark_embed(shape).view(number, self.REFERENCE_PARTS, self.width)
        memory = torch.cat([self.embed(tokens), self.embed(reference_tokens), shape], dim=1) + self.types
        x = torch.cat([self.queries.expand(number, -1, -1), memory], dim=1)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x[:, : len(self.queries)])
        moved = torch.cat([head(x[:, k]) for k, head in enumerate(self.regions)], dim=-1)
        moved = moved + self.direct((tokens - reference_tokens).flatten(1))
        displacement = moved.view(number, self.num_landmarks, 2) * DISPLACEMENT_SCALE
        return reference_landmarks + displacement, self.values(x[:, -1])


class MotionCodec(nn.Module):
    """Lip encoder, expression encoder, landmark guider and motion decoder with token statistics.

    Buffers ``token_mean`` and ``token_std`` ``[nq, dm]`` (filled after training by :meth:`set_statistics`) make the
    tokens mean 0 and deviation 1 wherever they leave the codec. ``expression_bank [8, ne, dm]`` holds the mean
    normalised expression tokens of :data:`EXPRESSIONS`.
    """

    token_mean: Tensor
    token_std: Tensor
    expression_bank: Tensor

    def __init__(self, config: MCDMConfig) -> None:
        super().__init__()
        codec = config.motion_codec
        self.config = config
        self.lip_encoder = PatchTransformer(config, MOUTH_SIZE, codec.lip_tokens)
        self.expression_encoder = PatchTransformer(config, FACE_SIZE, codec.expression_tokens)
        self.guider = LandmarkGuider(config)
        self.decoder = MotionDecoder(config)
        # Linear readings of the values, used as a training loss alone: a short path for the gradient.
        self.lip_reading = nn.Linear(codec.lip_tokens * codec.motion_dim, len(LIP_VALUES))
        rest = codec.num_values - len(LIP_VALUES)
        self.expression_reading = nn.Linear(codec.expression_tokens * codec.motion_dim, rest)
        tokens = codec.head_tokens + codec.lip_tokens + codec.expression_tokens
        self.register_buffer("token_mean", torch.zeros(tokens, codec.motion_dim))
        self.register_buffer("token_std", torch.ones(tokens, codec.motion_dim))
        bank = torch.zeros(len(EXPRESSIONS), codec.expression_tokens, codec.motion_dim)
        self.register_buffer("expression_bank", bank)

    def encode_crops(self, mouth: Tensor, face: Tensor, landmarks: Tensor) -> Tensor:
        """Raw tokens ``[n, nq, dm]`` of ready crops (see :func:`mouth_and_face_crops`) and landmarks ``[n, 68, 2]``."""
        head = self.guider(landmarks[:, None])[:, 0]
        return torch.cat([head, self.lip_encoder(mouth), self.expression_encoder(face)], dim=1)

    def read_values(self, raw: Tensor) -> Tensor:
        """Values ``[n, 16]`` read linearly off raw tokens ``[n, nq, dm]``: the lips' four from the lip tokens, the
        others from the expression tokens."""
        codec = self.config.motion_codec
        _, lip, expression = raw.split([codec.head_tokens, codec.lip_tokens, codec.expression_tokens], dim=1)
        return torch.cat([self.lip_reading(lip.flatten(1)), self.expression_reading(expression.flatten(1))], dim=1)

    def reading_gain(self) -> Tensor:
        """Variance of the values read off tokens of unit noise: squared lengths of the weights, ``[16]``."""
        return torch.cat([self.lip_reading.weight, self.expression_reading.weight]).square().sum(1)

    def normalize(self, raw: Tensor) -> Tensor:
        """Raw tokens ``[..., nq, dm]`` to mean 0, deviation 1."""
        return (raw - self.token_mean) / self.token_std

    def denormalize(self, tokens: Tensor) -> Tensor:
        """Undo :meth:`normalize`."""
        return tokens * self.token_std + self.token_mean

    def encode(self, frames: Tensor, landmarks: Tensor) -> MotionTokens:
        """Motion tokens of a video.

        Args:
            frames: ``[b, f, 3, 128, 128]`` in [-1, 1], face crops.
            landmarks: ``[b, f, 68, 2]`` in [0, 1] of the same crops.

        Returns:
            Normalised tokens, each stream ``[b, f, n, dm]``.
        """
        if frames.shape[:2] != landmarks.shape[:2]:
            raise MCDMError(f"Frames {tuple(frames.shape)} and landmarks {tuple(landmarks.shape)} do not agree.")
        points = rearrange(landmarks, "b f k xy -> (b f) k xy").to(frames.dtype)
        pictures = rearrange(frames, "b f c h w -> (b f) c h w")
        raw = self.encode_crops(*mouth_and_face_crops(pictures, points), points)
        tokens = rearrange(self.normalize(raw), "(b f) n c -> b f n c", b=len(frames))
        return MotionTokens.split(tokens, self.config)

    def encode_head(self, landmarks: Tensor) -> Tensor:
        """Normalised head tokens ``[b, f, nh, dm]`` of a driver's landmarks ``[b, f, 68, 2]``."""
        number = self.config.motion_codec.head_tokens
        return (self.guider(landmarks) - self.token_mean[:number]) / self.token_std[:number]

    def decode(self, tokens: MotionTokens, reference_tokens: MotionTokens, reference_landmarks: Tensor) -> FacialMotion:
        """Rebuild facial motion.

        Args:
            tokens: normalised, streams ``[b, f, n, dm]``.
            reference_tokens: normalised, of the reference frame, streams ``[b, n, dm]`` or ``[b, 1, n, dm]``.
            reference_landmarks: ``[b, 68, 2]``.

        Returns:
            Landmarks ``[b, f, 68, 2]``, lips and lids of which meet and do not cross, and values ``[b, f, 16]``.
        """
        moving = self.denormalize(tokens.cat())
        batch, number = moving.shape[:2]
        still = self.denormalize(reference_tokens.cat())
        still = still if still.dim() == 4 else still[:, None]
        still = still.expand(-1, number, -1, -1).flatten(0, 1)
        points = reference_landmarks[:, None].expand(-1, number, -1, -1).flatten(0, 1)
        landmarks, values = self.decoder(moving.flatten(0, 1), still, points)
        landmarks = meeting_landmarks(landmarks.unflatten(0, (batch, number)))
        return FacialMotion(landmarks, values.unflatten(0, (batch, number)))

    @torch.no_grad()
    def set_statistics(self, raw: Tensor) -> None:
        """Fill the normalisation buffers from raw tokens ``[n, nq, dm]`` of the training set."""
        self.token_mean.copy_(raw.mean(0))
        # Features that hardly vary must not be blown up into noise a prior would then have to predict.
        self.token_std.copy_(raw.std(0).clamp_min(0.05))

    def named_expression(self, name: str) -> Tensor:
        """Mean expression tokens ``[ne, dm]`` of a name in :data:`EXPRESSIONS`.

        Raises:
            MCDMError: if the name is unknown.
        """
        if name not in EXPRESSIONS:
            raise MCDMError(f"Expression {name!r} is unknown; choose one of {', '.join(EXPRESSIONS)}.")
        return self.expression_bank[EXPRESSIONS.index(name)]
