#!/usr/bin/python3
"""Exports the architectures that the benchmark needs and no package ships, with seeded random weights: for speed only.

    bench/export_models.py DIR [name…]      names: those of MODELS below

A file that is there already is left alone. Needs Debian's python3-torch and python3-torchvision.
"""

import pathlib
import sys
import warnings

import torch
import torchvision
from torch import nn

VOCABULARY = 30522


def randomise_batch_norms(model):
    """Statistics other than 0 and 1, so that folding them is real work and activations stay in range."""
    generator = torch.Generator().manual_seed(7)
    uniform = lambda like, low, high: torch.empty_like(like).uniform_(low, high, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(uniform(module.running_mean, -0.2, 0.2))
            module.running_var.copy_(uniform(module.running_var, 0.75, 1.25))
            module.weight.data.copy_(uniform(module.weight, 0.75, 1.25))
            module.bias.data.copy_(uniform(module.bias, -0.2, 0.2))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x, mask):
        scores = self.split(self.query(x)) @ self.split(self.key(x)).transpose(-1, -2) * self.scale
        if mask is not None:
            scores = scores + mask
        mixed = torch.softmax(scores, -1) @ self.split(self.value(x))
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """A transformer layer; norm_first as in ViT, afterwards as in BERT."""

    def __init__(self, width, heads, norm_first, epsilon):
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=epsilon), nn.LayerNorm(width, eps=epsilon)

    def forward(self, x, mask=None):
        if self.norm_first:
            x = x + self.attention(self.norm1(x), mask)
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.mlp(x))


class VisionTransformer(nn.Module):
    def __init__(self, width=192, layers=12, heads=3, patch=16, image=224, classes=1000):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, (image // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, True, 1e-6) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class TextEncoder(nn.Module):
    def __init__(self, width=384, layers=6, heads=12, positions=512):
        super().__init__()
        self.word = nn.Embedding(VOCABULARY, width)
        self.position = nn.Embedding(positions, width)
        self.kind = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.blocks = nn.ModuleList(Block(width, heads, False, 1e-12) for _ in range(layers))
        self.pool = nn.Linear(width, width)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, ids, attention_mask, kinds):
        places = torch.arange(ids.shape[1]).unsqueeze(0)
        x = self.norm(self.word(ids) + self.position(places) + self.kind(kinds))
        mask = (1 - attention_mask[:, None, None, :].float()) * -10000.0
        for block in self.blocks:
            x = block(x, mask)
        return x, torch.tanh(self.pool(x[:, 0]))


class Decoder(nn.Module):
    """GPT-2's shape: keys and values of the tokens so far come in and go out, one pair per layer."""

    def __init__(self, vocabulary=8192, width=384, layers=6, heads=6, positions=1024):
        super().__init__()
        self.word, self.position = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.layers = nn.ModuleList(DecoderBlock(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def forward(self, ids, *past):
        start = past[0].shape[2]
        x = self.word(ids) + self.position(torch.arange(ids.shape[1]) + start)
        present = []
        for layer, key, value in zip(self.layers, past[::2], past[1::2]):
            x, *grown = layer(x, key, value)
            present += grown
        return (self.head(self.norm(x)), *present)


class DecoderBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.in_projection, self.out_projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, past_key, past_value):
        batch, tokens, width = x.shape
        split = lambda t: t.view(batch, tokens, self.heads, -1).transpose(1, 2)
        query, key, value = map(split, self.in_projection(self.norm1(x)).chunk(3, -1))
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
        scores = query @ key.transpose(-1, -2) / (width // self.heads) ** 0.5
        rows = torch.arange(tokens)[:, None] + past_key.shape[2]
        scores = scores.masked_fill(torch.arange(key.shape[2])[None] > rows, -1e9)
        mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(x.shape)
        x = x + self.out_projection(mixed)
        hidden = nn.functional.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(hidden), key, value


class Recurrent(nn.Module):
    def __init__(self, kind, directions):
        super().__init__()
        self.layers = kind(80, 256, 2, bidirectional=directions == 2)
        self.out = nn.Linear(256 * directions, 64)

    def forward(self, x):
        return self.out(self.layers(x)[0])


class UNet(nn.Module):
    def __init__(self, width=16, depth=3):
        super().__init__()
        sizes = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(self.pair(i, o) for i, o in zip([3, *sizes], sizes))
        self.grow = nn.ModuleList(nn.ConvTranspose2d(2 * s, s, 2, 2) for s in reversed(sizes[:-1]))
        self.up = nn.ModuleList(self.pair(2 * s, s) for s in reversed(sizes[:-1]))
        self.out = nn.Conv2d(width, 2, 1)

    @staticmethod
    def pair(inputs, outputs):
        convolutions = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)]
        return nn.Sequential(*(layer for c in convolutions for layer in (c, nn.BatchNorm2d(outputs), nn.ReLU())))

    def forward(self, x):
        kept = []
        for level, block in enumerate(self.down):
            x = block(nn.functional.max_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for grow, block in zip(self.grow, self.up):
            x = block(torch.cat([grow(x), kept.pop()], 1))
        return self.out(x)


def export_image_model(path, model, opset, size=224):
    torch.onnx.export(model.eval(), torch.zeros(1, 3, size, size), str(path), input_names=["input"],
                      output_names=["logits"], opset_version=opset,
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


def export_decoder(path, layers=6, heads=6):
    past = [f"past_{i}_{part}" for i in range(layers) for part in ("key", "value")]
    present = [name.replace("past", "present") for name in past]
    axes = {**{name: {0: "batch", 1: "tokens"} for name in ("input_ids", "logits")},
            **{name: {0: "batch", 2: name.split("_")[0]} for name in past + present}}
    cache = [torch.zeros(1, heads, 4, 64) for _ in past]
    torch.onnx.export(Decoder().eval(), (torch.ones(1, 3, dtype=torch.long), *cache), str(path),
                      input_names=["input_ids", *past], output_names=["logits", *present], opset_version=17,
                      dynamic_axes=axes)


def export_recurrent(path, kind, directions):
    axes = {name: {0: "time", 1: "batch"} for name in ("x", "y")}
    torch.onnx.export(Recurrent(kind, directions).eval(), torch.zeros(50, 1, 80), str(path), input_names=["x"],
                      output_names=["y"], opset_version=14, dynamic_axes=axes)


def export_text_model(path, **size):
    names = ["input_ids", "attention_mask", "token_type_ids"]
    outputs = ["last_hidden_state", "pooler_output"]
    axes = {name: {0: "batch", 1: "sequence"} for name in [*names, outputs[0]]}
    ids = torch.ones(1, 16, dtype=torch.long)
    torch.onnx.export(TextEncoder(**size).eval(), (ids, ids, ids * 0), str(path), input_names=names, output_names=outputs,
                      opset_version=14, dynamic_axes={**axes, outputs[1]: {0: "batch"}})


def export_unet(path):
    model = UNet().eval()
    randomise_batch_norms(model)
    export_image_model(path, model, 13, 256)


def export_vision(path, name, opset):
    model = getattr(torchvision.models, name)(weights=None, **KEYWORDS.get(name, {})).eval()
    randomise_batch_norms(model)
    export_image_model(path, model, opset)


KEYWORDS = {"googlenet": {"aux_logits": False, "init_weights": False}}
VISION = ["resnet18", "resnet50", "squeezenet1_1", "googlenet", "densenet121", "regnet_x_400mf", "mobilenet_v2",
          "mobilenet_v3_small", "shufflenet_v2_x1_0"]

MODELS = {
    **{name: lambda path, name=name: export_vision(path, name, 13) for name in VISION},
    "efficientnet_b0": lambda path: export_vision(path, "efficientnet_b0", 14),
    "vit_tiny": lambda path: export_image_model(path, VisionTransformer(), 17),
    "convnext_tiny": lambda path: export_vision(path, "convnext_tiny", 17),
    "unet_c16": export_unet,
    "minilm": export_text_model,
    "bert_tiny": lambda path: export_text_model(path, width=128, layers=2, heads=2),
    "bert_base": lambda path: export_text_model(path, width=768, layers=12, heads=12),
    "gpt_small_kv": export_decoder,
    "bilstm_2x256": lambda path: export_recurrent(path, nn.LSTM, 2),
    "gru_2x256": lambda path: export_recurrent(path, nn.GRU, 1),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # the tracer's remarks on shapes that are constant on purpose
    for name in sys.argv[2:] or MODELS:
        path = folder / f"{name}.onnx"
        if not path.exists():
            torch.manual_seed(1234)
            with torch.no_grad():
                MODELS[name](path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
            print(f"exported {path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)


main()
