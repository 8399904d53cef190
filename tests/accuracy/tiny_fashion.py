#!/usr/bin/python3
"""The shipped model, run by Dunlin, is as accurate as assets/README.md says.

    tests/accuracy/tiny_fashion.py sample|full [DUNLIN]      full: the 10 000 test images of dataset-fashion-mnist
"""

import gzip
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
SKIPPED = 77
# Images that PyTorch's kernels get right, and by how many another order of summation may differ.
EXPECTED = {"sample": (58, 0), "full": (9234, 5)}
PART = 500  # images per run


def load(which):
    if which == "sample":
        return (np.load(ROOT / f"assets/tiny_fashion_sample_{part}.npy") for part in ("images", "labels"))
    read = lambda name, skip: np.frombuffer(gzip.open(DATA / name).read(), np.uint8, offset=skip)
    return (read("t10k-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28), read("t10k-labels-idx1-ubyte.gz", 8))


def predict(dunlin, pixels):
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/image.npy", pixels[:, None].astype(np.float32) / 255)
        subprocess.run([dunlin, "run", ROOT / "assets/tiny_fashion.onnx", "--input",
                        f"image={folder}/image.npy", "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
        return np.load(f"{folder}/probabilities.npy").argmax(1)


def main(which, dunlin=ROOT / "build/release/dunlin"):
    if which == "full" and not DATA.exists():
        print("skipped: dataset-fashion-mnist is not installed")
        return SKIPPED
    pixels, labels = load(which)
    right = sum(int((predict(dunlin, pixels[i:i + PART]) == labels[i:i + PART]).sum())
                for i in range(0, len(pixels), PART))
    expected, tolerance = EXPECTED[which]
    print(f"{right} of {len(pixels)} right ({100 * right / len(pixels):.2f} %), expected {expected} ± {tolerance}")
    return 0 if abs(right - expected) <= tolerance else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
