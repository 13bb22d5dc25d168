"""POSTER V2 (POSTER++): Mao, Xu, Yin, Chang, Nie, Huang (2023), *A simpler and stronger facial expression recognition
network*, arXiv 2301.12149. Parameter names as in the official checkpoints (Talented-Q/POSTER_V2).

Input (B, 3, 224, 224), ImageNet mean and std; output (B, labels) logits. The image backbone (IR-50) and the landmark
backbone (MobileFaceNet) both see 112² (nearest). Each window is a whole feature map, so no map is ever cut.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .mobilefacenet import MobileFaceNet

EMBED = 768


class Bottleneck(nn.Module):
    """ArcFace's improved residual unit: norm first, PReLU, stride in the second convolution."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = (
            nn.MaxPool2d(1, stride)
            if channels_in == channels_out
            else nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
            )
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.Conv2d(channels_in, channels_out, 3, 1, 1, bias=False),
            nn.PReLU(channels_out),
            nn.Conv2d(channels_out, channels_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


def _body(channels_in: int, channels_out: int, units: int) -> nn.Sequential:
    rest = (Bottleneck(channels_out, channels_out, 1) for _ in range(units - 1))
    return nn.Sequential(Bottleneck(channels_in, channels_out, 2), *rest)


class IR50(nn.Module):
    """The first three stages of ArcFace's IR-50: features at 56², 28², 14² (64, 128, 256 channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.output_layer = nn.Sequential(  # in the checkpoints, unused upstream
            nn.BatchNorm2d(512), nn.Dropout(0.0), nn.Flatten(), nn.Linear(512 * 49, 512), nn.BatchNorm1d(512)
        )
        self.body1 = _body(64, 64, 3)
        self.body2 = _body(64, 128, 4)
        self.body3 = _body(128, 256, 14)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.body1(self.input_layer(F.interpolate(x, size=112)))
        middle = self.body2(fine)
        return fine, middle, self.body3(middle)


class _Norm(nn.Module):
    """Channels last and layer norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1))


class WindowCrossAttention(nn.Module):
    """Keys and values from the image, queries from the landmarks; learnt relative position bias (Swin's indexing)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_position_index(window))
        self.qkv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, query: Tensor) -> Tensor:
        """``x``, ``query`` (B, n, n, C) → (B, n, n, C)."""
        b, n, _, c = x.shape
        split = (b, n * n, self.heads, c // self.heads)
        key, value = self.qkv(x.reshape(b, n * n, c)).reshape(b, n * n, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        q = query.reshape(split).transpose(1, 2) * (c // self.heads) ** -0.5
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        scores = q @ key.transpose(-2, -1) + bias.view(n * n, n * n, -1).permute(2, 0, 1)
        out = (scores.softmax(-1) @ value).transpose(1, 2).reshape(b, n, n, c)
        return self.proj(out)


def relative_position_index(window: int) -> Tensor:
    """(window², window²) int64: the row of the bias table for each pair of positions (Liu et al. 2021, Swin)."""
    axis = torch.arange(window)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
    offset = grid[:, :, None] - grid[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class FeedForward(nn.Module):
    """The second half of a transformer block, with layer scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma1 = nn.Parameter(1e-5 * torch.ones(dim))
        self.gamma2 = nn.Parameter(1e-5 * torch.ones(dim))
        self.mlp = Mlp(dim, 4 * dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, attended: Tensor, shortcut: Tensor) -> Tensor:
        x = shortcut + self.gamma1 * attended
        return (x + self.gamma2 * self.mlp(self.norm(x))).permute(0, 3, 1, 2)


class _PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(256, EMBED, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _tokens(self.proj(x))


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(EMBED, 3 * EMBED)
        self.proj = nn.Linear(EMBED, EMBED)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class _Block(nn.Module):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(EMBED, eps=1e-6)
        self.conv = nn.Conv1d(tokens, tokens, 1)  # in the checkpoints, unused upstream
        self.attn = _Attention()
        self.norm2 = nn.LayerNorm(EMBED, eps=1e-6)
        self.mlp = Mlp(EMBED, 4 * EMBED)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(EMBED, EMBED)
        self.linear2 = nn.Linear(EMBED, EMBED)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.linear2(F.relu(self.linear1(x))).sigmoid()


class _Linear(nn.Module):
    def __init__(self, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(EMBED, labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class _Eca(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 5, padding=2, bias=False)


class TokenTransformer(nn.Module):
    """Two transformer blocks over 147 tokens and a class token; a gate and a linear layer on the class token."""

    def __init__(self, labels: int, tokens: int = 147, depth: int = 2) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, EMBED))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, EMBED))
        self.se_block = _Gate()
        self.head = _Linear(labels)
        self.blocks = nn.Sequential(*(_Block(tokens + 1) for _ in range(depth)))
        self.norm = nn.LayerNorm(EMBED, eps=1e-6)
        # in the checkpoints, unused upstream
        self.patch_embed = _PatchEmbed()
        self.eca_block = _Eca()
        self.CON1 = nn.Conv2d(256, EMBED, 1, bias=False)
        self.IRLinear1 = nn.Linear(1024, EMBED)
        self.IRLinear2 = nn.Linear(EMBED, 512)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.se_block(self.norm(self.blocks(x))[:, 0]))


class PosterV2(nn.Module):
    """Three scales of image and landmark features, crossed in windows of 28, 14 and 7, joined by a transformer."""

    def __init__(self, labels: int = 7) -> None:
        super().__init__()
        self.face_landback = MobileFaceNet()
        self.VIT = TokenTransformer(labels)
        self.ir_back = IR50()
        for i, (dim, heads, window) in enumerate(zip((64, 128, 256), (2, 4, 8), (28, 14, 7), strict=True), 1):
            self.add_module(f"attn{i}", WindowCrossAttention(dim, heads, window))
            self.add_module(f"window{i}", _Norm(dim))
            self.add_module(f"conv{i}", nn.Conv2d(dim, dim, 3, 2, 1))
            self.add_module(f"ffn{i}", FeedForward(dim))
        self.last_face_conv = nn.Conv2d(512, 256, 3, padding=1)
        self.embed_q = nn.Sequential(nn.Conv2d(64, EMBED, 3, 2, 1), nn.Conv2d(EMBED, EMBED, 3, 2, 1))
        self.embed_k = nn.Sequential(nn.Conv2d(128, EMBED, 3, 2, 1))
        self.embed_v = _PatchEmbed()

    def forward(self, x: Tensor) -> Tensor:
        face = list(self.face_landback(F.interpolate(x, size=112)))
        face[2] = self.last_face_conv(face[2])
        crossed = []
        for i, (query, image) in enumerate(zip(face, self.ir_back(x), strict=True), 1):
            normed = self.get_submodule(f"window{i}")(self.get_submodule(f"conv{i}")(image))
            attended = self.get_submodule(f"attn{i}")(normed, query.permute(0, 2, 3, 1))
            crossed.append(self.get_submodule(f"ffn{i}")(attended, normed))
        tokens = [_tokens(self.embed_q(crossed[0])), _tokens(self.embed_k(crossed[1])), self.embed_v(crossed[2])]
        return self.VIT(torch.cat(tokens, 1))


def poster_v2(labels: int = 7) -> nn.Module:
    """The network, with untrained parameters."""
    return PosterV2(labels)
