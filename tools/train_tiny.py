#!/usr/bin/python3
"""Trains the tiny model that ships with Dunlin and writes it to assets/.

A plain convolutional network of 35 674 parameters on Fashion-MNIST (Debian packages
dataset-fashion-mnist, python3-torch). Everything is seeded and runs on one thread, so two runs on the
same CPU model give the same file; another CPU may round differently in the last bits.

    tools/train_tiny.py              train, export, measure, write assets/
    tools/train_tiny.py --evaluate   only measure assets/tiny_fashion.onnx (needs python3-onnx)
"""

import argparse
import gzip
import json
import pathlib
import time

import numpy as np
import torch
from PIL import Image
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
LABELS = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
SEED = 20
EPOCHS = 8
BATCH = 128
SAMPLE = 64  # labelled test images kept in the repository


def read_idx(name):
    """One file of the dataset: u8, big-endian extents after a 4-byte magic."""
    with gzip.open(DATA / name) as file:
        raw = file.read()
    rank = raw[3]
    dims = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(dims).copy()


def images(split):
    return read_idx(f"{split}-images-idx3-ubyte.gz")


def labels(split):
    return read_idx(f"{split}-labels-idx1-ubyte.gz").astype(np.int64)


def to_input(pixels):
    """What the model takes: [N, 1, 28, 28] f32 in 0…1."""
    return torch.from_numpy(pixels[:, None]).float() / 255


def block(inputs, outputs):
    return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def network():
    return nn.Sequential(
        *block(1, 16), *block(16, 16), nn.MaxPool2d(2),
        *block(16, 32), *block(32, 32), nn.MaxPool2d(2),
        *block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def predict(model, pixels):
    model.eval()
    with torch.no_grad():
        return np.concatenate([model(to_input(part)).argmax(1).numpy()
                               for part in np.array_split(pixels, 20)])


def train():
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    generator = np.random.default_rng(SEED)
    pixels, classes = images("train"), labels("train")
    model = network()
    steps = EPOCHS * (len(pixels) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        start, total = time.time(), 0.0
        model.train()
        order = generator.permutation(len(pixels))[:len(pixels) // BATCH * BATCH]
        for rows in order.reshape(-1, BATCH):
            batch = to_input(pixels[rows])
            if generator.random() < 0.5:  # clothes have no handedness
                batch = batch.flip(3)
            loss = loss_of(model(batch), torch.from_numpy(classes[rows]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}/{EPOCHS}: mean loss {total * BATCH / len(order):.4f}, "
              f"{time.time() - start:.0f} s", flush=True)
    return model


def export(model, path):
    torch.onnx.export(nn.Sequential(model, nn.Softmax(1)).eval(), torch.zeros(1, 1, 28, 28), str(path),
                      input_names=["image"], output_names=["probabilities"], opset_version=13,
                      dynamic_axes={"image": {0: "batch"}, "probabilities": {0: "batch"}})


def write_example(assets, pixels):
    """The first test image as a PNG and as the body of an inference request."""
    Image.fromarray(pixels).save(assets / "tiny_fashion_boot.png")
    values = [round(float(value) / 255, 4) for value in pixels.ravel()]
    request = {"inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "FP32", "data": values}]}
    (assets / "tiny_fashion_request.json").write_text(json.dumps(request, separators=(",", ":")) + "\n")


def evaluate(path):
    """Accuracy of the exported file itself, by the reference evaluator of small convolutional nets."""
    import onnx
    import onnx.numpy_helper as helper
    graph = onnx.load(str(path)).graph
    values = {w.name: torch.from_numpy(helper.to_array(w).copy()) for w in graph.initializer}
    pixels, classes = images("t10k"), labels("t10k")
    right = 0
    for rows in np.array_split(np.arange(len(pixels)), 20):
        run = dict(values, image=to_input(pixels[rows]))
        for node in graph.node:
            run[node.output[0]] = apply(node, [run[name] for name in node.input])
        right += (run["probabilities"].argmax(1).numpy() == classes[rows]).sum()
    return right, len(pixels)


def apply(node, args):
    table = {
        "Conv": lambda x, w, b: nn.functional.conv2d(x, w, b, padding=1),
        "Relu": torch.relu,
        "MaxPool": lambda x: nn.functional.max_pool2d(x, 2),
        "GlobalAveragePool": lambda x: x.mean((2, 3), keepdim=True),
        "Flatten": lambda x: x.flatten(1),
        "Gemm": lambda x, w, b: nn.functional.linear(x, w, b),
        "Softmax": lambda x: torch.softmax(x, 1),
    }
    return table[node.op_type](*args)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--evaluate", action="store_true", help="measure the committed model only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    assets = ROOT / "assets"
    path = assets / "tiny_fashion.onnx"
    if not args.evaluate:
        assets.mkdir(exist_ok=True)
        model = train()
        export(model, path)
        (assets / "tiny_fashion_labels.txt").write_text("\n".join(LABELS) + "\n")
        np.save(assets / "tiny_fashion_sample_images.npy", images("t10k")[:SAMPLE])
        np.save(assets / "tiny_fashion_sample_labels.npy", labels("t10k")[:SAMPLE])
        write_example(assets, images("t10k")[0])
        print(f"{sum(p.numel() for p in model.parameters())} trained parameters, "
              f"{path.stat().st_size} bytes")
        right = (predict(model, images("t10k")[:SAMPLE]) == labels("t10k")[:SAMPLE]).sum()
        print(f"sample: {right} of {SAMPLE} right")
    right, total = evaluate(path)
    print(f"test set: {right} of {total} right ({100 * right / total:.2f} %)")


main()
