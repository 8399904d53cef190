#!/usr/bin/python3
"""Writes quantised ONNX files, as different tools write them, from float ones: what bench/quantised.py measures.

    bench/quantise_models.py [--out build/bench-quantised] [--dialects u8,s8] [--check] [model…]

A model is a name of bench/models.json (default: MODELS); a file is OUT/MODEL.DIALECT.onnx. Ranges of activations come
from running the float model on a few generated inputs, so codes use their range even where weights are random; such
models say nothing about accuracy. --check runs every file and prints the cosine of the first output with the float
model's, for Dunlin, ONNX Runtime, and ONNX Runtime without optimisation, which computes what the file says.
"""

import argparse
import collections
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import compare

DUNLIN = compare.ROOT / "build/release/dunlin"
MODELS = ["resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "ppocr_cls", "ppocr_rec", "ppocr_det", "minilm",
          "bert_base", "regnet_x_400mf", "shufflenet_v2_x1_0"]
CALIBRATION_INPUTS = 2
OPSET = 14  # DequantizeLinear with an axis needs 13

PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
ELEMENTWISE = {"Add", "Mul", "Sigmoid", "LeakyRelu"}  # of images; in transformers these stay in float, as is usual
POOLS = {"AveragePool", "GlobalAveragePool", "Concat", "Resize"}
MOVES = {"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}  # the result has the operand's codes
CLAMPS = {"Relu", "Clip"}


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a tool writes a quantised model."""
    about: str
    codes: type = np.uint8     # of activations
    symmetric: bool = False    # zero point 0
    per_channel: bool = True   # a scale per output channel of weights
    absorb: bool = True        # a clamp before QuantizeLinear is left to the range of the codes
    quantise_results: bool = True  # of every quantised operator, not only what another one reads
    past_clip: float = 1.0     # how far the range of the codes goes past the upper end of a Clip
    bias: str = "product"      # its scale: "product" of those of data and weights, its "own", or "float": no codes
    attention: bool = False    # products of two activations, too
    for_each_reader: str = ""  # of a value: "" none, a "decode" (DequantizeLinear), or "codes" of its own scale as well
    dynamic: bool = False      # activations are quantised at run time, by their own range


DIALECTS = {
    "u8": Dialect("asymmetric u8, clamps absorbed: what ONNX Runtime's own tool writes"),
    "u8_tensor": Dialect("the same with one scale for all weights of an operator", per_channel=False),
    "s8": Dialect("symmetric s8, clamps kept, operands only: what TensorRT's and PyTorch's tools write", np.int8,
                  symmetric=True, absorb=False, quantise_results=False),
    "s8_m128": Dialect("asymmetric s8: zero point -128 after a kept Relu", np.int8, absorb=False),
    "clip": Dialect("u8 with a kept Clip whose end is not that of the codes", absorb=False, past_clip=4 / 3),
    "bias": Dialect("u8, biases with scales of their own", bias="own"),
    "bias_float": Dialect("u8, biases in float", bias="float"),
    "attention": Dialect("u8, products of two activations too", attention=True),
    "decode_each": Dialect("u8, a DequantizeLinear for every reader of the same codes", for_each_reader="decode"),
    "codes_each": Dialect("u8, a value is quantised for every reader, with another scale", for_each_reader="codes"),
    "dynamic": Dialect("weights in s8, activations quantised at run time: DynamicQuantizeLinear, MatMulInteger",
                       np.int8, per_channel=False, dynamic=True),
    "dynamic_channel": Dialect("the same with a scale per output channel", np.int8, dynamic=True),
}


def initialisers(graph):
    return {t.name: t for t in graph.initializer}


def array_of(constants, name):
    return numpy_helper.to_array(constants[name]) if name in constants else None


class Rewriter:
    """The graph of a float model, being rewritten into one of a dialect."""

    def __init__(self, model, values, dialect):
        self.model, self.values, self.dialect = model, values, dialect
        self.graph = model.graph
        self.constants = initialisers(self.graph)
        self.outputs = {o.name for o in self.graph.output}
        self.readers = collections.defaultdict(list)
        self.producers = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers[name].append(node)
            for name in node.output:
                self.producers[name] = node
        self.has_images = any(node.op_type == "Conv" for node in self.graph.node)
        self.shared = {}   # value → the value whose codes it has
        self.known = {}    # value → scale and zero point, where they are not those of its range
        self.decoded = {}  # constants that have been replaced by codes: name → name

    # What is quantised.

    def image(self, name):
        value = self.values.get(name, array_of(self.constants, name))
        return self.has_images and value is not None and value.ndim >= 4

    def is_quantised(self, node):
        if node.op_type == "MatMul":
            return self.dialect.attention or node.input[1] in self.constants
        if node.op_type in ELEMENTWISE | POOLS:
            return self.image(node.output[0])
        if node.op_type in MOVES:  # only between others: no tool starts at a Reshape
            producer = self.producers.get(node.input[0])
            return producer is not None and self.image(node.input[0]) and (
                producer.op_type in CLAMPS or self.is_quantised(producer))
        return node.op_type in PRODUCTS

    def clamped(self, name):
        """The only reader of a quantised operator's result, where that is a clamp."""
        readers = self.readers[name]
        producer = self.producers.get(name)
        if len(readers) != 1 or readers[0].op_type not in CLAMPS or name in self.outputs or producer is None:
            return None
        return readers[0] if self.is_quantised(producer) and producer.op_type not in MOVES else None

    def operands(self, node):
        """Values of a quantised operator that are activations."""
        count = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "Resize": 1}.get(node.op_type, len(node.input))
        count = 1 if node.op_type in MOVES else count
        return [name for name in node.input[:count] if name not in self.constants]

    def quantised_values(self):
        """Names in the order in which they are computed."""
        chosen = set()
        for node in self.graph.node:
            if not self.is_quantised(node):
                continue
            chosen.update(self.operands(node))
            result = node.output[0]
            if self.dialect.quantise_results:
                clamp = self.clamped(result)
                chosen.add(clamp.output[0] if clamp is not None else result)
            if node.op_type in MOVES:
                self.shared[result] = node.input[0]
        order = [i.name for i in self.graph.input] + [name for node in self.graph.node for name in node.output]
        return [name for name in order if name in chosen and self.values[name].dtype == np.float32]

    # Scales and codes.

    def range_of(self, name):
        value = self.values[name]
        low, high = min(0.0, float(value.min())), max(0.0, float(value.max()))
        node = self.producers.get(name)
        if node is not None and node.op_type == "Clip" and self.dialect.past_clip > 1:
            high = float(array_of(self.constants, node.input[2])) * self.dialect.past_clip
        return low, high

    def parameters(self, name):
        """Scale and zero point of a value's codes."""
        if name in self.known:
            return self.known[name]
        if name in self.shared:
            return self.parameters(self.shared[name])
        low, high = self.range_of(name)
        info = np.iinfo(self.dialect.codes)
        if self.dialect.symmetric:
            return np.float32(max(-low, high, 1e-6) / info.max), self.dialect.codes(0)
        scale = np.float32(max(high - low, 1e-6) / 255)
        return scale, self.dialect.codes(np.clip(np.rint(info.min - low / scale), info.min, info.max))

    def add_constant(self, name, array):
        if name not in self.constants:
            tensor = numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
            self.graph.initializer.append(tensor)
            self.constants[name] = tensor
        return name

    def decode(self, name, codes, scale, zero, axis=None):
        """The value `name`, a constant, as codes behind a DequantizeLinear."""
        if name not in self.decoded:
            parts = [self.add_constant(name + "_quantized", codes), self.add_constant(name + "_scale", scale),
                     self.add_constant(name + "_zero_point", zero)]
            self.decoded[name] = name + "_DequantizeLinear_Output"
            attributes = {} if axis is None or np.ndim(scale) == 0 else {"axis": axis}
            self.nodes.append(helper.make_node("DequantizeLinear", parts, [self.decoded[name]],
                                               name=name + "_DequantizeLinear", **attributes))
        return self.decoded[name]

    def weight_codes(self, name, axis):
        """s8, symmetric: codes and scale, of one element or one for each index of `axis`."""
        weights = array_of(self.constants, name)
        others = tuple(i for i in range(weights.ndim) if i != axis)
        largest = np.abs(weights).max(axis=others if self.dialect.per_channel else None)
        scale = np.maximum(largest / 127, np.float32(1e-9)).astype(np.float32)
        spread = scale if scale.ndim == 0 else scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
        return np.clip(np.rint(weights / spread), -127, 127).astype(np.int8), scale

    def quantise_product(self, node):
        """Weights and bias of a product with constant weights. Axis: of the output channels."""
        attributes = {a.name: a.i for a in node.attribute}
        rank = len(self.constants[node.input[1]].dims)
        axis = {"Conv": 0, "ConvTranspose": 1, "MatMul": rank - 1}.get(node.op_type, 0 if attributes.get("transB") else 1)
        weights = node.input[1]
        codes, scale = self.weight_codes(weights, axis)
        if node.op_type == "ConvTranspose" and attributes.get("group", 1) > 1:
            raise ValueError(f"{node.name}: grouped transposed convolutions are not written")
        node.input[1] = self.decode(weights, codes, scale, np.zeros(scale.shape, np.int8), axis)
        if len(node.input) < 3 or self.dialect.bias == "float" or node.input[2] not in self.constants:
            return
        name = node.input[2] if len(self.readers[node.input[2]]) == 1 else f"{node.name}_bias"
        bias = array_of(self.constants, node.input[2])
        own = np.float32(max(np.abs(bias).max(), 1e-9) / 2**20)
        bias_scale = own if self.dialect.bias == "own" else (self.parameters(node.input[0])[0] * scale).astype(np.float32)
        limits = np.iinfo(np.int32)
        bias_codes = np.clip(np.rint(bias.astype(np.float64) / bias_scale), limits.min, limits.max).astype(np.int32)
        node.input[2] = self.decode(name, bias_codes, bias_scale, np.zeros(bias_scale.shape, np.int32), 0)

    def quantise_constant(self, node, i):
        """An operand of an elementwise operator that is constant: codes of the activations' type."""
        name = node.input[i]
        self.values[name] = array_of(self.constants, name)
        scale, zero = self.parameters(name)
        info = np.iinfo(self.dialect.codes)
        codes = np.clip(np.rint(self.values[name] / scale) + zero, info.min, info.max).astype(self.dialect.codes)
        node.input[i] = self.decode(name, codes, scale, zero)

    def add_pair(self, source, name, parameters, encode=True, result=None):
        """QuantizeLinear of `source`, DequantizeLinear, or that alone: names in the graph begin with `name`. The result."""
        scale, zero = parameters
        parts = [self.add_constant(name + "_scale", scale), self.add_constant(name + "_zero_point", zero)]
        codes = name + "_QuantizeLinear_Output" if encode else source
        result = result or name + "_DequantizeLinear_Output"
        if encode:
            self.nodes.append(helper.make_node("QuantizeLinear", [source, *parts], [codes], name=name + "_QuantizeLinear"))
        self.nodes.append(helper.make_node("DequantizeLinear", [codes, *parts], [result], name=name + "_DequantizeLinear"))
        self.known[result] = parameters
        return result

    def quantise_value(self, name):
        """QuantizeLinear and DequantizeLinear behind the value; all who read it read what comes out of them. The value's
        own name stays with the outputs of the model."""
        source, result, (scale, zero) = name, None, self.parameters(name)
        if name in self.outputs:
            source, result = name + "_QuantizeLinear_Input", name
            producer = self.producers[name]
            producer.output[list(producer.output).index(name)] = source
        decoded, readers = self.add_pair(source, name, (scale, zero), result=result), 0
        for node in self.readers[name]:
            for i, operand in enumerate(node.input):
                if operand != name:
                    continue
                node.input[i] = decoded
                if self.dialect.for_each_reader and readers > 0:
                    other = f"{name}_{readers}"
                    if self.dialect.for_each_reader == "decode":
                        node.input[i] = self.add_pair(name + "_QuantizeLinear_Output", other, (scale, zero), encode=False)
                    else:
                        wider = np.float32(scale * (1 + readers / 16))
                        node.input[i] = self.add_pair(source, other, (wider, zero))
                readers += 1

    # The whole graph.

    def absorb_clamps(self):
        """Leaves out the clamps between an operator and its QuantizeLinear."""
        for clamp in [node for node in self.graph.node if node.op_type in CLAMPS]:
            if self.clamped(clamp.input[0]) is clamp:
                producer = self.producers[clamp.input[0]]
                producer.output[0] = clamp.output[0]
                self.producers[clamp.output[0]] = producer
                self.graph.node.remove(clamp)

    def run_static(self):
        chosen = set(self.quantised_values())
        if self.dialect.absorb:
            self.absorb_clamps()
        old, self.nodes = list(self.graph.node), []
        for name in [i.name for i in self.graph.input if i.name in chosen]:
            self.quantise_value(name)
        for node in old:
            if self.is_quantised(node):
                if node.op_type in PRODUCTS and node.input[1] in self.constants:
                    self.quantise_product(node)
                elif node.op_type in ELEMENTWISE | {"Concat"}:
                    for i, name in enumerate(node.input):
                        if name in self.constants:
                            self.quantise_constant(node, i)
            self.nodes.append(node)
            for name in list(node.output):
                if name in chosen:
                    self.quantise_value(name)

    def dynamic_operand(self, name):
        """The outputs of the DynamicQuantizeLinear of `name`: codes, scale, zero point."""
        parts = [name + suffix for suffix in ("_quantized", "_scale", "_zero_point")]
        if name not in self.decoded:
            self.decoded[name] = parts[0]
            self.nodes.append(helper.make_node("DynamicQuantizeLinear", [name], parts, name=name + "_QuantizeLinear"))
        return parts

    def dynamic_product(self, node):
        """MatMul(x, w) as Mul(Cast(MatMulInteger(x codes, w codes)), Mul(x scale, w scale))."""
        x, w = node.input[0], node.input[1]
        codes, scale = self.weight_codes(w, len(self.constants[w].dims) - 1)
        data, data_scale, data_zero = self.dynamic_operand(x)
        parts = [self.add_constant(w + "_quantized", codes), self.add_constant(w + "_scale", scale),
                 self.add_constant(w + "_zero_point", np.zeros(scale.shape, np.int8))]
        result = node.output[0]
        make = lambda kind, inputs, output, **attributes: self.nodes.append(
            helper.make_node(kind, inputs, [output], name=f"{output}_{kind}", **attributes))
        make("MatMulInteger", [data, parts[0], data_zero, parts[2]], result + "_integer")
        make("Cast", [result + "_integer"], result + "_cast", to=TensorProto.FLOAT)
        make("Mul", [data_scale, parts[1]], result + "_scales")
        make("Mul", [result + "_cast", result + "_scales"], result)

    def gemm_as_matmul(self, node):
        """Gemm(x, w, b) as Add(MatMul(x, w'), b), as ONNX Runtime's tool does it."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if attributes.get("transA") or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
            return None
        weights = node.input[1]
        if attributes.get("transB"):
            weights = self.add_constant(weights + "_transposed", array_of(self.constants, weights).T)
        product = node.output[0] if len(node.input) < 3 else node.output[0] + "_product"
        return helper.make_node("MatMul", [node.input[0], weights], [product], name=node.name)

    def run_dynamic(self):
        old, self.nodes = list(self.graph.node), []
        for node in old:
            constant = len(node.input) > 1 and node.input[1] in self.constants
            matmul = self.gemm_as_matmul(node) if node.op_type == "Gemm" and constant else None
            if matmul is not None:
                self.dynamic_product(matmul)
                if len(node.input) > 2:
                    self.nodes.append(helper.make_node("Add", [matmul.output[0], node.input[2]], node.output,
                                                       name=node.name + "_bias"))
            elif node.op_type == "MatMul" and constant:
                self.dynamic_product(node)
            else:
                self.nodes.append(node)

    def run(self):
        """The rewritten model; its nodes in order, without constants that nobody reads."""
        self.run_dynamic() if self.dialect.dynamic else self.run_static()
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)
        read = {name for node in self.graph.node for name in node.input}
        kept = [t for t in self.graph.initializer if t.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        del self.graph.value_info[:]
        return self.model


# Running models.


def run_dunlin(model, inputs, folder):
    words = [DUNLIN, "run", model, "--output-dir", folder]
    for name, path in inputs.items():
        words += ["--input", f"{name}={path}"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{model} does not run: {done.stderr.strip()}")
    return {path.stem: np.load(path) for path in pathlib.Path(folder).glob("*.npy")}


def first_output(path, inputs):
    """Dunlin's."""
    name = onnx.load(str(path), load_external_data=False).graph.output[0].name
    with tempfile.TemporaryDirectory() as folder:
        return run_dunlin(path, inputs, folder)[name.replace("/", "_")]


def run_peer(jobs, optimisation="all"):
    """Outputs of ONNX Runtime, one list per (model, inputs), or the message why there are none."""
    with tempfile.TemporaryDirectory() as folder:
        lines = [{"model": str(model), "inputs": inputs, "outputDir": f"{folder}/{i}"}
                 for i, (model, inputs) in enumerate(jobs)]
        path = pathlib.Path(folder, "jobs")
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        done = subprocess.run(["node", compare.ROOT / "tools/ort_worker.mjs", "--jobs", path,
                               "--optimisation", optimisation], cwd=compare.ROOT,
                              capture_output=True, text=True, check=True)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        return [answer.get("error") or [np.load(f"{folder}/{i}/{k}.npy") for k in range(len(answer["outputs"]))]
                for i, answer in enumerate(answers)]


def simplified(entry, samples, folder):
    """The float model with BatchNormalization folded and constants computed, of an opset that can quantise per channel."""
    path = pathlib.Path(folder, "simplified.onnx")
    subprocess.run([DUNLIN, "optimize", compare.model_path(entry, samples), "-o", path, "--opset", str(OPSET)], check=True,
                   capture_output=True)
    model = onnx.load(str(path))
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    return model


def calibrate(model, entry, folder):
    """Values of all f32 results and inputs: those of CALIBRATION_INPUTS runs, one after another in the first axis."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {o.name for o in probe.graph.output}
    names = [name for node in probe.graph.node for name in node.output if name and name not in known]
    probe.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    path = f"{folder}/probe.onnx"
    onnx.save(probe, path)
    wanted = names + sorted(known)
    runs = []
    for seed in range(1, CALIBRATION_INPUTS + 1):
        inputs = compare.save_inputs(entry, 1, folder, seed)
        with tempfile.TemporaryDirectory() as out:
            found = run_dunlin(path, inputs, out)
        runs.append({name: found[name.replace("/", "_")] for name in wanted})
        runs[-1].update({name: np.load(file) for name, file in inputs.items()})
    return {name: np.concatenate([np.atleast_1d(run[name]) for run in runs]) for name in runs[0]}


def dialects_for(model):
    """Those that make a difference for the model's operators."""
    kinds = {node.op_type for node in model.graph.node}
    if "Erf" in kinds:  # a transformer: no images, no clamps
        return ["u8", "u8_tensor", "s8", "attention", "dynamic", "dynamic_channel"]
    names = ["u8", "u8_tensor", "s8", "s8_m128", "bias", "bias_float", "decode_each", "codes_each"]
    return names + ["clip"] if "Clip" in kinds else names


def write_model(entry, samples, out, wanted):
    """Paths of the files written for the model."""
    paths = []
    with tempfile.TemporaryDirectory() as folder:
        model = simplified(entry, samples, folder)
        values = calibrate(model, entry, folder)
        for name in [name for name in dialects_for(model) if not wanted or name in wanted]:
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            paths.append(out / f"{entry['name']}.{name}.onnx")
            onnx.save(Rewriter(copy, dict(values), DIALECTS[name]).run(), str(paths[-1]))
    return paths


def cosine(a, b):
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / max(np.sqrt(a @ a) * np.sqrt(b @ b), 1e-30))


def check(entry, samples, paths):
    """A line per file with the cosines. Returns whether all load in both engines and Dunlin's answers are as near to the
    float model's as those of the file as written. (ONNX Runtime's optimised ones need not be: without VNNI its sums of
    u8 times s8 saturate, and its integer Gemm takes any bias for one with the scale of the products.)"""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        inputs = compare.save_inputs(entry, 1, folder)
        jobs = [(path.resolve(), inputs) for path in [compare.model_path(entry, samples), *paths]]
        peer, written = run_peer(jobs), run_peer(jobs, "disabled")
        for path, *answers in zip(paths, peer[1:], written[1:]):
            refused = [answer for answer in answers if isinstance(answer, str)]
            if refused:
                print(f"{path.name}: ONNX Runtime: {refused[0]}")
                good = False
                continue
            ours = first_output(path, inputs)
            near = [cosine(answer, written[0][0]) for answer in (ours, answers[0][0], answers[1][0])]
            good = good and near[0] > near[2] - 0.05
            print("{}: {:.1f} MiB, cosine with float {:.4f} (Dunlin), {:.4f} (ONNX Runtime), {:.4f} (as written)".format(
                path.name, path.stat().st_size / 2**20, *near), flush=True)
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="dialects:\n" + "".join(f"  {name:16} {dialect.about}\n"
                                                                    for name, dialect in DIALECTS.items()))
    parser.add_argument("models", nargs="*", metavar="model")
    parser.add_argument("--out", type=pathlib.Path, default=compare.ROOT / "build/bench-quantised")
    parser.add_argument("--dialects", type=lambda text: text.split(","), default=[])
    parser.add_argument("--samples", type=pathlib.Path, default=compare.ROOT / "build/models")
    parser.add_argument("--check", action="store_true", help="run the files and compare with the float model")
    args = parser.parse_args()
    entries = compare.load_entries()
    unknown = [name for name in args.models if name not in entries] + [n for n in args.dialects if n not in DIALECTS]
    if unknown:
        parser.error(f"neither a model of bench/models.json nor a dialect: {unknown[0]}")
    args.out.mkdir(parents=True, exist_ok=True)
    good = True
    for name in args.models or MODELS:
        paths = write_model(entries[name], args.samples.resolve(), args.out, args.dialects)
        print(f"{name}: {' '.join(path.name for path in paths)}", flush=True)
        good = not args.check or check(entries[name], args.samples.resolve(), paths) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
