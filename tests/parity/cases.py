"""What each sample model is fed, and what its answer must mean.

A case is a list of steps, each a dictionary of inputs. An input may be `Carried(output)`: the engine's own output of the
step before, so that state runs through an engine as it does in use. `means(outputs of all steps)` raises
AssertionError when the answer makes no sense, and returns a few words on it.
"""

import dataclasses
from typing import Callable, Optional

import numpy as np

import inputs

CHUNK = 512  # samples a voice detector takes at a time …
CONTEXT = 64  # … in front of which some exports want the last ones of the chunk before


@dataclasses.dataclass
class Carried:
    output: str


@dataclasses.dataclass
class Case:
    model: str  # its name in models/manifest.json
    steps: Callable  # (peer) → list of {input: array or Carried}; peer(model, inputs) runs the other engine
    means: Optional[Callable] = None
    label: str = ""
    # (outputs of a step) → what a user takes from them. Of low-precision models, whose roundings amplify the last bits of
    # any float before them: the case passes when at least 99 % of it is the same.
    decides: Optional[Callable] = None
    same_as: str = ""  # an earlier case: another export of the same network, whose answers must be these

    @property
    def name(self):
        return self.model + ("/" + self.label if self.label else "")


def fixed(*steps):
    return lambda peer: list(steps)


def nchw(image, mean, std, bgr=True):
    """u8 [H, W, 3] → f32 [1, 3, H, W] of (value / 255 - mean) / std."""
    x = (image[:, :, ::-1] if bgr else image).astype(np.float32) / 255
    x = (x - np.float32(mean)) / np.float32(std)
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


# --- PP-OCR: find lines, turn them, read them -------------------------------------------------------------------------

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TEXTS = ["Dunlin 2026", "small, fast, in batches", "the quick brown fox jumps over 13 lazy dogs"]


def finds_lines(count):
    def means(steps):
        rows = (steps[0]["sigmoid_0.tmp_0"][0, 0] > 0.3).any(1)
        found = int((np.diff(rows.astype(int), prepend=0) == 1).sum())
        assert found == count, f"{found} lines of text found, {count} drawn"
        return f"{found} lines found"
    return means


def reads(text, characters):
    def means(steps):
        best = steps[0]["softmax_11.tmp_0"][0].argmax(-1)
        kept = [code for i, code in enumerate(best) if code != 0 and (i == 0 or code != best[i - 1])]
        alphabet = ["", *characters(), " "]
        got = "".join(alphabet[code] for code in kept)
        assert got.replace(" ", "") == text.replace(" ", ""), f"read '{got}', drawn '{text}'"
        return f"'{got}'"
    return means


def upright(expected):
    def means(steps):
        answer = int(steps[0]["softmax_0.tmp_0"].argmax())
        assert answer == expected, f"turned by {180 * answer}°, drawn at {180 * expected}°"
        return f"{180 * answer}°"
    return means


def turned_line(turns):
    line = inputs.text_line(TEXTS[1])[:, :192]
    line = np.pad(line, ((0, 0), (0, 192 - line.shape[1]), (0, 0)), constant_values=255)
    return nchw(np.rot90(line, 2 * turns), 0.5, 0.5)


def ocr_cases(characters):
    for width, height in ((640, 320), (480, 448)):
        page = nchw(inputs.page(TEXTS[:2], width, height), *IMAGENET)
        yield Case("ppocr_det", fixed({"x": page}), finds_lines(2), f"{height}x{width}")
    for text in TEXTS:
        line = nchw(inputs.text_line(text), 0.5, 0.5)
        yield Case("ppocr_rec", fixed({"x": line}), reads(text, characters), f"48x{line.shape[-1]}")
    for turns in (0, 1):
        yield Case("ppocr_cls", fixed({"x": turned_line(turns)}), upright(turns), f"{180 * turns}deg")


# --- voice activity ---------------------------------------------------------------------------------------------------


def voice_sound(context):
    """Noise, then something like speech, then a tone in a little noise, chunk by chunk. (In front of perfect silence
    the logarithm of the spectrum would make rounding errors as large as the signal.)"""
    tone = inputs.tone(2 * CHUNK) + inputs.noise(2 * CHUNK, 0.003, seed=2)
    parts = [inputs.noise(2 * CHUNK, 0.01), inputs.speech(4 * CHUNK), tone]
    sound = np.concatenate([np.zeros(context, np.float32), *parts])
    return [sound[None, i:i + CHUNK + context] for i in range(0, 8 * CHUNK, CHUNK)]


def probabilities(steps):
    values = [float(step["output"].ravel()[0]) for step in steps]
    assert max(values[2:]) > 0.5 > values[0], f"speech is not told from noise: {values}"
    return "p " + " ".join(f"{value:.2f}" for value in values)


def voice(model, states, rate=True, context=0, same_as=""):
    """states: (input, output, extents) of what is carried from chunk to chunk."""
    def steps(peer):
        for i, chunk in enumerate(voice_sound(context)):
            step = {"input": chunk}
            if rate:
                step["sr"] = np.array(inputs.RATE, np.int64)
            for name, output, dims in states:
                step[name] = Carried(output) if i else np.zeros(dims, np.float32)
            yield step
    return Case(model, steps, probabilities, same_as=same_as)


def silero_cases():
    state = [("state", "stateN", (2, 1, 128))]
    cells = [("h", "hn", (2, 1, 64)), ("c", "cn", (2, 1, 64))]
    yield voice("silero_vad_v4", cells)
    yield voice("silero_vad_v5", state)
    yield voice("silero_vad_v6", state, context=CONTEXT)
    for model in ("silero_vad_jj", "silero_vad_16k_op15", "silero_vad_op18_ifless"):
        yield voice(model, state, context=CONTEXT, same_as="silero_vad_v6")
    yield voice("silero_vad_half", state, rate=False, same_as="silero_vad_v5")



# --- wake words: sound → mel spectrum → embedding → heads -----------------------------------------------------------------


def wake_sound(seconds=2.0):
    return (inputs.speech(int(seconds * inputs.RATE)) * 32767)[None]  # the models take 16-bit amplitudes


def mel_windows(peer, count):
    """`count` overlapping windows of 76 spectra, 8 apart, scaled as the embedding was trained."""
    spectrum = peer("oww_melspectrogram", {"input": wake_sound(0.8 + 0.08 * count)})["output"][0, 0] / 10 + 2
    return np.stack([spectrum[8 * i:8 * i + 76, :, None] for i in range(count)])


def embeddings(peer, count):
    return peer("oww_embedding", {"input_1": mel_windows(peer, count)})["conv2d_19"].reshape(1, count, 96)


def head(model, input_name, frames):
    """Embeddings of speech, to which the heads say no, and noise of the same and larger size, to which some say yes."""
    noise = [inputs.noise(frames * 96, level, seed).reshape(1, frames, 96)
             for seed, level in enumerate((2, 5, 10), 1)]
    return Case(model, lambda peer: [{input_name: x} for x in (embeddings(peer, frames), *noise)], head_says)


def head_says(steps):
    return "p " + " ".join(f"{next(iter(step.values())).ravel()[:2].max():.2g}" for step in steps)


def wakeword_cases():
    for label, sound in (("speech", wake_sound(1.0)), ("tone", inputs.tone(20480)[None] * 32767),
                         ("noise", inputs.noise(12800)[None] * 32767)):
        yield Case("oww_melspectrogram", fixed({"input": sound}), label=label)
    for count in (1, 5):
        yield Case("oww_embedding", lambda peer, n=count: [{"input_1": mel_windows(peer, n)}], label=f"batch{count}")
    yield head("oww_alexa", "onnx::Flatten_0", 16)
    yield head("oww_hey_jarvis", "x.1", 16)
    yield head("oww_hey_mycroft", "onnx::Flatten_0", 16)
    yield head("oww_hey_rhasspy", "onnx::Flatten_0", 16)
    yield head("oww_timer", "onnx::Flatten_0", 34)
    yield head("oww_weather", "onnx::Flatten_0", 22)


# --- detectors --------------------------------------------------------------------------------------------------------


def detector_cases():
    for model, size in (("blazeface_front", 128), ("blazeface_back", 256)):
        picture = inputs.face(size).astype(np.float32)[None] / 127.5 - 1
        yield Case(model, fixed({"input:0": picture}))
    for size in (320, 512):
        rgb = inputs.drawing(size).astype(np.float32)
        picture = np.concatenate([rgb, np.ones((size, size, 1), np.float32)], -1)[None]
        for kind in ("tiny", "large"):
            yield Case(f"mlsd_{size}_{kind}", fixed({"input_image_with_alpha:0": picture}))


# --- what is in front of the background --------------------------------------------------------------------------------


def segmentation_cases():
    picture = np.ascontiguousarray(inputs.face(1024).astype(np.float32).transpose(2, 0, 1)[None]) / 256 - np.float32(0.5)
    for model in ("isnet_fp16", "isnet_int8"):
        yield Case(model, fixed({"input": picture}), mask_covers, decides=lambda step: step["output"] > 0.5)


def mask_covers(steps):
    share = float((steps[0]["output"] > 0.5).mean())
    assert 0.05 < share < 0.6, f"{share:.0%} of the picture is in front, a face covers about a third"
    return f"{100 * share:.1f} % in front"


def groups(characters):
    return {
        "ocr": list(ocr_cases(characters)),
        "silero": list(silero_cases()),
        "wakeword": list(wakeword_cases()),
        "detectors": list(detector_cases()),
        "segmentation": list(segmentation_cases()),
    }
