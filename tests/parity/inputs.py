"""Inputs that mean something to the models: rendered text, a drawn face, line drawings, speech-like sound. All seeded."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
RATE = 16000


def text_line(text, height=48, margin=8):
    """Black on white, as wide as the text needs: RGB u8 [height, W, 3]."""
    font = ImageFont.truetype(FONT, round(height * 0.7))
    width = int(font.getlength(text)) + 2 * margin
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).text((margin, height // 2), text, "black", font, anchor="lm")
    return np.asarray(image)


def page(lines, width, height, size=26):
    """A page with one line of text below the other: RGB u8 [height, width, 3]."""
    image = Image.new("RGB", (width, height), (250, 248, 240))
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(FONT, size)
    for i, line in enumerate(lines):
        draw.text((24, 24 + i * 2 * size), line, (20, 20, 30), font)
    return np.asarray(image)


def face(size):
    """A drawn face in front of a gradient: RGB u8 [size, size, 3]."""
    ramp = np.linspace(40, 200, size)
    background = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, ::-1], np.full((size, size), 120)), -1)
    image = Image.fromarray(background.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    box = lambda x0, y0, x1, y1: [v * size for v in (x0, y0, x1, y1)]
    draw.ellipse(box(0.28, 0.15, 0.72, 0.85), (224, 172, 140))
    draw.pieslice(box(0.26, 0.10, 0.74, 0.60), 180, 360, (60, 40, 30))
    draw.ellipse(box(0.30, 0.28, 0.70, 0.80), (224, 172, 140))
    for x in (0.40, 0.60):
        draw.ellipse(box(x - 0.05, 0.42, x + 0.05, 0.47), "white")
        draw.ellipse(box(x - 0.02, 0.42, x + 0.02, 0.47), (40, 30, 20))
        draw.line(box(x - 0.06, 0.39, x + 0.06, 0.38), (60, 40, 30), max(1, size // 64))
    draw.polygon(box(0.50, 0.48, 0.46, 0.58) + box(0.54, 0.58, 0.50, 0.60), (200, 145, 115))
    draw.arc(box(0.41, 0.58, 0.59, 0.70), 20, 160, (170, 60, 60), max(1, size // 48))
    return np.asarray(image)


def drawing(size):
    """Straight lines at many angles, as line detectors expect: RGB u8 [size, size, 3]."""
    image = Image.new("RGB", (size, size), (200, 205, 210))
    draw = ImageDraw.Draw(image)
    draw.rectangle([size * 0.15, size * 0.2, size * 0.6, size * 0.75], (160, 120, 90), "black", 2)
    draw.polygon([size * v for v in (0.15, 0.2, 0.375, 0.05, 0.6, 0.2)], (120, 60, 50), "black")
    for i in range(9):
        draw.line([size * 0.65, size * (0.1 + 0.1 * i), size * 0.95, size * (0.9 - 0.09 * i)], "black", 2)
    return np.asarray(image)


def noise(samples, level=0.1, seed=1):
    return (np.random.default_rng(seed).standard_normal(samples) * level).astype(np.float32)


def tone(samples, hertz=440, level=0.4):
    return (level * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).astype(np.float32)


def speech(samples):
    """Speech-like: a gliding pulse train through three formants, four syllables a second, a little noise."""
    time = np.arange(samples) / RATE
    pitch = 130 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = np.cumsum(pitch / RATE)
    sound = np.diff(np.floor(phase), prepend=0)
    for formant, width in ((650, 90), (1150, 110), (2500, 170)):
        radius, angle = np.exp(-np.pi * width / RATE), 2 * np.pi * formant / RATE
        a1, a2 = 2 * radius * np.cos(angle), -radius * radius
        out = np.zeros(samples + 2)
        for i in range(samples):
            out[i + 2] = sound[i] + a1 * out[i + 1] + a2 * out[i]
        sound = out[2:]
    sound *= np.clip(np.sin(2 * np.pi * 4 * time), 0.02, None)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32) + noise(samples, 0.003)
