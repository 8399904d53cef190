#!/usr/bin/python3
"""Exports the architectures that the benchmark needs and no package ships, with seeded random weights: for speed only.

    bench/export_models.py DIR [name…]      names: resnet50 mobilenet_v2 efficientnet_b0 vit_tiny minilm

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


def export_image_model(path, model, opset):
    torch.onnx.export(model.eval(), torch.zeros(1, 3, 224, 224), str(path), input_names=["input"],
                      output_names=["logits"], opset_version=opset,
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})


def export_text_model(path):
    names = ["input_ids", "attention_mask", "token_type_ids"]
    outputs = ["last_hidden_state", "pooler_output"]
    axes = {name: {0: "batch", 1: "sequence"} for name in [*names, outputs[0]]}
    ids = torch.ones(1, 16, dtype=torch.long)
    torch.onnx.export(TextEncoder().eval(), (ids, ids, ids * 0), str(path), input_names=names, output_names=outputs,
                      opset_version=14, dynamic_axes={**axes, outputs[1]: {0: "batch"}})


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
    "minilm": export_text_model,
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
