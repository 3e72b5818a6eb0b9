"""The benchmark models: PyTorch modules with random weights, from configurations alone; nothing is downloaded.

    module, inputs, names = build("bert", batch=1)        # eval mode, float32; inputs in the order of names

The order in which a module makes its layers decides its random weights: changing it makes exported files stale.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F
from torch import Tensor, library, nn

try:
    import torchvision
except RuntimeError:  # its C++ part was built for another torch: declare the two operators its import looks for, and import it again
    _operators = library.Library("torchvision", "DEF")
    _operators.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _operators.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for _name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[_name]
    import torchvision
import torchvision.models.video

Made = tuple[nn.Module, tuple[Tensor, ...], list[str]]


class Pick(nn.Module):
    """A transformers model that returns one named output."""

    def __init__(self, model: nn.Module, key: str, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__()
        self.model, self.key, self.names, self.kwargs = model, key, names, kwargs

    def forward(self, *args: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, args, strict=True)), **self.kwargs)[self.key]


class DCGAN(nn.Module):
    """A generator: five transposed convolutions."""

    def __init__(self, nz: int = 100, g: int = 64) -> None:
        super().__init__()
        chans, layers = [nz, g * 8, g * 4, g * 2, g], []
        for i in range(4):
            stride, pad = (1, 0) if i == 0 else (2, 1)
            layers += [nn.ConvTranspose2d(chans[i], chans[i + 1], 4, stride, pad, bias=False), nn.BatchNorm2d(chans[i + 1]), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(g, 3, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class ChannelNorm(nn.Module):
    """Layer norm over channels, spelled out."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        var = (x - mean).pow(2).mean(1, keepdim=True)
        return (x - mean) / (var + 1e-6).sqrt() * self.w.view(1, -1, 1, 1) + self.b.view(1, -1, 1, 1)


class NAFBlock(nn.Module):
    """NAFNet's block: gates instead of activations."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.n1, self.n2 = ChannelNorm(c), ChannelNorm(c)
        self.c1, self.c2, self.c3 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, 1, 1, groups=2 * c), nn.Conv2d(c, c, 1)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.c4, self.c5 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)

    @staticmethod
    def gate(x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return a * b

    def forward(self, x: Tensor) -> Tensor:
        y = self.gate(self.c2(self.c1(self.n1(x))))
        y = x + self.c3(y * self.sca(y))
        return y + self.c5(self.gate(self.c4(self.n2(y))))


class NAFNet(nn.Module):
    """Image restoration: a U-net of NAFBlocks."""

    def __init__(self, width: int = 16, enc: Sequence[int] = (1, 1, 1), mid: int = 1, dec: Sequence[int] = (1, 1, 1)) -> None:
        super().__init__()
        c = width
        self.intro, self.end = nn.Conv2d(3, c, 3, 1, 1), nn.Conv2d(c, 3, 3, 1, 1)
        self.encoders, self.downs, self.ups, self.decoders = (nn.ModuleList() for _ in range(4))
        for n in enc:
            self.encoders.append(nn.Sequential(*[NAFBlock(c) for _ in range(n)]))
            self.downs.append(nn.Conv2d(c, 2 * c, 2, 2))
            c *= 2
        self.middle = nn.Sequential(*[NAFBlock(c) for _ in range(mid)])
        for n in dec:
            self.ups.append(nn.Sequential(nn.Conv2d(c, 2 * c, 1, bias=False), nn.PixelShuffle(2)))
            c //= 2
            self.decoders.append(nn.Sequential(*[NAFBlock(c) for _ in range(n)]))

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.intro(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        return self.end(x) + image


class ChannelAttention(nn.Module):
    """Restormer's transposed attention over channels."""

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.dw = nn.Conv2d(c, 3 * c, 1, bias=False), nn.Conv2d(3 * c, 3 * c, 3, 1, 1, groups=3 * c, bias=False)
        self.out = nn.Conv2d(c, c, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, self.heads, c // self.heads, h * w) for t in self.dw(self.qkv(x)).chunk(3, 1))
        a = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.scale).softmax(-1)
        return self.out((a @ v).reshape(b, c, h, w))


class GatedFFN(nn.Module):
    """Restormer's gated feed-forward part."""

    def __init__(self, c: int) -> None:
        super().__init__()
        h = int(c * 2.66)
        self.i, self.dw = nn.Conv2d(c, 2 * h, 1, bias=False), nn.Conv2d(2 * h, 2 * h, 3, 1, 1, groups=2 * h, bias=False)
        self.o = nn.Conv2d(h, c, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dw(self.i(x)).chunk(2, 1)
        return self.o(F.gelu(a) * b)


class PixelLayerNorm(nn.Module):
    """Layer norm of each pixel's channels."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(c)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(b, c, h, w)


class RestormerBlock(nn.Module):
    """Attention over channels, then the gated part."""

    def __init__(self, c: int, heads: int) -> None:
        super().__init__()
        self.n1, self.attn, self.n2, self.ffn = PixelLayerNorm(c), ChannelAttention(c, heads), PixelLayerNorm(c), GatedFFN(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.n1(x))
        return x + self.ffn(self.n2(x))


def _stack(c: int, heads: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*[RestormerBlock(c, heads) for _ in range(blocks)])


def _conv3(i: int, o: int) -> nn.Conv2d:
    return nn.Conv2d(i, o, 3, 1, 1, bias=False)


class Restormer(nn.Module):
    """Image restoration: a three-level U-net of transformer blocks."""

    def __init__(self, d: int = 48, n: int = 2) -> None:
        super().__init__()
        self.embed, self.e1, self.e2, self.latent = _conv3(3, d), _stack(d, 1, n), _stack(2 * d, 2, n), _stack(4 * d, 4, n)
        self.d1 = nn.Sequential(_conv3(d, d // 2), nn.PixelUnshuffle(2))
        self.d2 = nn.Sequential(_conv3(2 * d, d), nn.PixelUnshuffle(2))
        self.u2, self.r2 = nn.Sequential(_conv3(4 * d, 8 * d), nn.PixelShuffle(2)), nn.Conv2d(4 * d, 2 * d, 1, bias=False)
        self.g2 = _stack(2 * d, 2, n)
        self.u1, self.g1, self.out = nn.Sequential(_conv3(2 * d, 4 * d), nn.PixelShuffle(2)), _stack(2 * d, 1, n), _conv3(2 * d, 3)

    def forward(self, image: Tensor) -> Tensor:
        a = self.e1(self.embed(image))
        b = self.e2(self.d1(a))
        z = self.latent(self.d2(b))
        z = self.g2(self.r2(torch.cat([self.u2(z), b], 1)))
        return self.out(self.g1(torch.cat([self.u1(z), a], 1))) + image


class NeRF(nn.Module):
    """Welder's NeRF MLP: 64 inputs, 7 hidden layers of 64, 3 outputs, one row per ray."""

    def __init__(self, width: int = 64, depth: int = 7) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(width if layers else 64, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 3))

    def forward(self, rays: Tensor) -> Tensor:
        return self.layers(rays)


def _linear(i: int, o: int) -> nn.Linear:
    return nn.Linear(i, o, bias=False)


class LlamaLayer(nn.Module):
    """One LLaMA-2-70B decoder layer on hidden states (no KV cache): sequence 1 is decode, longer is prefill."""

    def __init__(self, d: int = 8192, heads: int = 64, kv_heads: int = 8, ffn: int = 28672) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, d // heads
        kv = kv_heads * self.head_dim
        self.q, self.k, self.v, self.o = _linear(d, d), _linear(d, kv), _linear(d, kv), _linear(d, d)
        self.gate, self.up, self.down = _linear(d, ffn), _linear(d, ffn), _linear(ffn, d)
        self.norm1, self.norm2 = nn.RMSNorm(d, eps=1e-5), nn.RMSNorm(d, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        b, s, d = x.shape
        h = self.norm1(x)
        q, k, v = (t.view(b, s, -1, self.head_dim).transpose(1, 2) for t in (self.q(h), self.k(h), self.v(h)))
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, s, d))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Recurrent(nn.Module):
    """A recurrent network's outputs without its last states."""

    def __init__(self, rnn: nn.Module) -> None:
        super().__init__()
        self.rnn = rnn

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Seq2Seq(nn.Module):
    """LSTM encoder, attention LSTM decoder, teacher forced over a fixed number of steps."""

    def __init__(self, vocab: int = 3797, h: int = 256) -> None:
        super().__init__()
        self.embed_src, self.embed_tgt = nn.Embedding(vocab, h), nn.Embedding(vocab, h)
        self.encoder, self.decoder, self.out = nn.LSTM(h, h, batch_first=True), nn.LSTMCell(2 * h, h), nn.Linear(2 * h, vocab)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        enc, (h, c) = self.encoder(self.embed_src(src))
        h, c, ctx, emb, outs = h[0], c[0], enc.mean(1), self.embed_tgt(tgt), []
        for t in range(tgt.shape[1]):
            h, c = self.decoder(torch.cat([emb[:, t], ctx], -1), (h, c))
            a = torch.softmax(torch.bmm(enc, h.unsqueeze(2)).squeeze(2), -1)
            ctx = torch.bmm(a.unsqueeze(1), enc).squeeze(1)
            outs.append(self.out(torch.cat([h, ctx], -1)))
        return torch.stack(outs, 1)


class Branch(nn.Module):
    """A branch that depends on data: becomes an ONNX If."""

    def __init__(self, d: int = 64) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.relu(self.a(x)), lambda x: torch.tanh(self.b(x)), (x,))


def _ids(batch: int, seq: int, vocab: int = 900) -> Tensor:
    return torch.randint(0, vocab, (batch, seq))


def _settled(make: Callable[[int], Made]) -> Callable[[int], Made]:
    """Gives batch norms the statistics of the inputs, as training would: else the signal of some random networks dies or explodes."""

    def make_settled(batch: int) -> Made:
        module, inputs, names = make(batch)
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.reset_running_stats()
                m.momentum = None
        with torch.no_grad():
            module.train()(*inputs)
        return module, inputs, names

    return make_settled


def _vision(name: str, size: int = 224, **kwargs: Any) -> Callable[[int], Made]:
    def make(batch: int) -> Made:
        module = getattr(torchvision.models, name)(weights=None, **kwargs)
        for m in module.modules():  # batch norm with statistics, as a trained model has
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.1)
                m.running_var.uniform_(0.5, 1.5)
        for head in module.heads.children() if name.startswith("vit") else ():  # zeros before training: any answer would be right
            nn.init.normal_(head.weight, std=0.02)
        return module, (torch.randn(batch, 3, size, size),), ["x"]

    return make


def _hf(model: str, config: str, key: str, inputs: Callable[[int], dict[str, Tensor]], call: dict[str, Any] | None = None,
        **settings: Any) -> Callable[[int], Made]:
    """A transformers model of a configuration. key: the output to return; call: further arguments of forward."""

    def make(batch: int) -> Made:
        import transformers

        module = getattr(transformers, model)(getattr(transformers, config)(**settings))
        arrays = inputs(batch)
        return Pick(module, key, list(arrays), **(call or {})), tuple(arrays.values()), list(arrays)

    return make


def _plain(module: Callable[[], nn.Module], name: str, *shape: int, scale: float = 1.0, batched: int = 0) -> Callable[[int], Made]:
    """A module of one float input. shape: for batch 1; batched: the dimension that grows with the batch."""

    def make(batch: int) -> Made:
        made = module()
        dims = [n * batch if i == batched else n for i, n in enumerate(shape)]
        return made, (torch.randn(*dims) * scale,), [name]

    return make


def _seq2seq(batch: int) -> Made:
    return Seq2Seq(), (_ids(batch, 12), _ids(batch, 8)), ["src", "tgt"]


ZOO: dict[str, Callable[[int], Made]] = {
    "resnet50": _vision("resnet50"),
    "mobilenet_v2": _vision("mobilenet_v2"),
    "inception_v3": _settled(_vision("inception_v3", 299, init_weights=True, aux_logits=False)),
    "shufflenet_v2": _vision("shufflenet_v2_x1_0"),
    "vit_b16": _vision("vit_b_16"),
    "swin_t": _vision("swin_t"),
    "resnet3d_18": _plain(lambda: torchvision.models.video.r3d_18(weights=None), "x", 1, 3, 16, 112, 112),
    "dcgan": _plain(DCGAN, "z", 1, 100, 1, 1),
    "nafnet": _plain(NAFNet, "x", 1, 3, 256, 256),
    "restormer": _plain(Restormer, "x", 1, 3, 64, 64),
    "nerf": _plain(NeRF, "rays", 65536, 64),
    "bert": _hf("BertModel", "BertConfig", "last_hidden_state",
                lambda b: {"input_ids": _ids(b, 128), "attention_mask": torch.ones(b, 128, dtype=torch.long)}),
    "gpt2": _hf("GPT2LMHeadModel", "GPT2Config", "logits", lambda b: {"input_ids": _ids(b, 128)}, {"use_cache": False}, use_cache=False),
    "mobilevit": _settled(_hf("MobileViTModel", "MobileViTConfig", "last_hidden_state",
                              lambda b: {"pixel_values": torch.randn(b, 3, 256, 256)})),
    "conformer": _hf("Wav2Vec2ConformerModel", "Wav2Vec2ConformerConfig", "last_hidden_state",
                     lambda b: {"input_values": torch.randn(b, 16000)}, hidden_size=512, num_hidden_layers=12, num_attention_heads=8,
                     intermediate_size=512, position_embeddings_type="relative", conv_dim=(128,) * 7, num_conv_pos_embeddings=32,
                     mask_time_prob=0.0, apply_spec_augment=False),
    "llama_lm": _hf("LlamaForCausalLM", "LlamaConfig", "logits", lambda b: {"input_ids": _ids(b, 32)}, {"use_cache": False},
                    hidden_size=512, intermediate_size=1376, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=4,
                    vocab_size=4000, use_cache=False),
    "llama70b_decode": _plain(LlamaLayer, "x", 1, 1, 8192, scale=0.02),
    "llama70b_prefill": _plain(LlamaLayer, "x", 1, 4096, 8192, scale=0.02),
    "lstm": _plain(lambda: Recurrent(nn.LSTM(256, 256, 10)), "x", 64, 1, 256, batched=1),
    "gru": _plain(lambda: Recurrent(nn.GRU(64, 128, 2, batch_first=True)), "x", 1, 12, 64),
    "seq2seq": _seq2seq,
    "branch": _plain(Branch, "x", 1, 64),
}


def build(name: str, batch: int = 1, seed: int = 0) -> Made:
    """The module in eval mode, its inputs and their names; equal for equal arguments on every machine with the same torch."""
    torch.manual_seed(seed)
    module, inputs, names = ZOO[name](batch)
    return module.eval(), inputs, names
