"""Writes seeds for the importer's fuzzing: small models of every dialect that reaches other code than ONNX's own operator tests.

make_seeds.py FOLDER [DUNLIN]: with the program, every seed that can load must.
"""

import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from onnx_bytes import block, function, node, number, sequence_type, tensor_type, value, varint  # noqa: E402

FLOAT, UINT8, INT8, INT32, INT64, STRING, BOOL = 1, 2, 3, 6, 7, 8, 9
BFLOAT16, FLOAT8E4M3FN, UINT4, INT4 = 16, 17, 21, 22
FORMATS = {FLOAT: "f", UINT8: "B", INT8: "b", INT32: "i", INT64: "q", BOOL: "?", UINT4: "B", INT4: "B"}
MS, ML = "com.microsoft", "ai.onnx.ml"


def attribute(name, v):
    """An int, a float, text, a graph (bytes), or a list of ints, floats or texts."""
    if isinstance(v, bytes):
        return block(1, name) + block(6, v) + number(20, 5)
    if isinstance(v, str):
        return block(1, name) + block(4, v) + number(20, 3)
    if isinstance(v, int):
        return block(1, name) + number(3, v & (1 << 64) - 1) + number(20, 2)
    if isinstance(v, float):
        return block(1, name) + varint(2 << 3 | 5) + struct.pack("<f", v) + number(20, 1)
    if v and isinstance(v[0], str):
        return block(1, name) + b"".join(block(9, s) for s in v) + number(20, 8)
    if v and isinstance(v[0], float):
        return block(1, name) + b"".join(varint(7 << 3 | 5) + struct.pack("<f", f) for f in v) + number(20, 6)
    return block(1, name) + b"".join(number(8, i & (1 << 64) - 1) for i in v) + number(20, 7)


def op(name, inputs, outputs, domain="", **attributes):
    return node(name, inputs.split(), outputs.split(), outputs.split()[0], domain, [attribute(n, v) for n, v in attributes.items()])


def op_with_gaps(name, inputs, outputs, domain="", **attributes):
    """'-' is an input or output that is left out."""
    names = [[n if n != "-" else "" for n in list_.split()] for list_ in (inputs, outputs)]
    return node(name, *names, name, domain, [attribute(n, v) for n, v in attributes.items()])


def tensor(name, dtype, dims, values):
    raw = struct.pack(f"<{len(values)}{FORMATS[dtype]}", *values)
    return b"".join(number(1, d) for d in dims) + number(2, dtype) + block(8, name) + block(9, raw)


def ramp(name, dtype, *dims):
    count = 1
    for d in dims:
        count *= d
    count = (count + 1) // 2 if dtype in (INT4, UINT4) else count
    cast = float if dtype == FLOAT else int
    return tensor(name, dtype, dims, [cast((i * 5) % 7 - (3 if dtype in (FLOAT, INT8, INT32) else 0)) for i in range(count)])


def port(name, dtype, *dims):
    return value(name, tensor_type(dtype, dims))


def graph(nodes, inputs, outputs, initializers=(), sparse=()):
    body = b"".join(block(1, n) for n in nodes) + block(2, "seed") + b"".join(block(5, i) for i in initializers)
    body += b"".join(block(11, i) for i in inputs) + b"".join(block(12, o) for o in outputs)
    return body + b"".join(block(15, s) for s in sparse)


def model(graph_, opset=21, functions=()):
    opsets = [("", opset), (MS, 1), (ML, 3), ("f", 1)]
    imports = b"".join(block(8, block(1, d) + number(2, v)) for d, v in opsets)
    return number(1, 10) + block(7, graph_) + imports + b"".join(block(25, f) for f in functions)


def names(*all_):
    return [value(n, b"") for n in all_]


def microsoft_transformer():
    nodes = [
        op("SkipLayerNormalization", "x skip gamma beta bias", "a", MS, epsilon=1e-5),
        op("MultiHeadAttention", "a a a", "b", MS, num_heads=2),
        op("BiasGelu", "b bias", "c", MS), op("FastGelu", "c bias", "d", MS), op("QuickGelu", "d", "e", MS),
        op("SkipSimplifiedLayerNormalization", "e b gamma", "f", MS),
        op("FusedMatMul", "f f", "g", MS, transB=1, alpha=0.5), op("FusedGemm", "w w bias", "y2", MS, activation="Relu"),
    ]
    return model(graph(nodes, [port("x", FLOAT, 1, 3, 8), port("skip", FLOAT, 1, 3, 8)], [port("g", FLOAT, 1, 3, 3), port("y2", FLOAT, 8, 8)],
                       [ramp(n, FLOAT, 8) for n in ("gamma", "beta", "bias")] + [ramp("w", FLOAT, 8, 8)]))


def microsoft_decoder():
    nodes = [
        op("MatMulNBits", "x packed scales", "q", MS, K=16, N=16, bits=4, block_size=16),
        op_with_gaps("GroupQueryAttention", "q x x past_k past_v lens total cos sin", "y k v", MS, num_heads=2, kv_num_heads=2, do_rotary=1),
    ]
    return model(graph(nodes, [port("x", FLOAT, 1, 1, 16), port("past_k", FLOAT, 1, 2, 2, 8), port("past_v", FLOAT, 1, 2, 2, 8)],
                       [port("y", FLOAT, 1, 1, 16), *names("k", "v")],
                       [ramp("packed", UINT8, 16, 1, 8), ramp("scales", FLOAT, 16), tensor("lens", INT32, [1], [2]),
                        tensor("total", INT32, [], [3]), ramp("cos", FLOAT, 4, 4), ramp("sin", FLOAT, 4, 4)]))


def microsoft_quantised():
    nodes = [
        op("QLinearAdd", "x s z x s z s z", "a", MS), op("QLinearMul", "a s z x s z s z", "b", MS),
        op("QLinearSigmoid", "b s z s z", "c", MS), op("QLinearLeakyRelu", "c s z s z", "d", MS, alpha=0.1),
        op("QLinearConcat", "s z d s z x s z", "e", MS, axis=1), op("QGemm", "x s z w s wz", "g", MS),
        op("DynamicQuantizeMatMul", "f w s wz", "h", MS), op("MatMulIntegerToFloat", "x w s s z wz", "i", MS),
        op("QLinearSoftmax", "e s z s z", "j", MS, axis=-1, opset=13),
    ]
    return model(graph(nodes, [port("x", UINT8, 2, 4), port("f", FLOAT, 2, 4)], names("j", "g", "h", "i"),
                       [tensor("s", FLOAT, [], [0.5]), tensor("z", UINT8, [], [3]), ramp("w", INT8, 4, 4), tensor("wz", INT8, [], [0])]))


def ml_trees():
    nodes = [
        op("TreeEnsembleClassifier", "x", "label p", ML, nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[1, 0, 0],
           nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[0.5, 0.0, 0.0], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
           class_treeids=[0, 0], class_nodeids=[1, 2], class_ids=[0, 1], class_weights=[1.0, 1.0], classlabels_strings=["a", "b"]),
        op("ZipMap", "p", "maps", ML, classlabels_strings=["a", "b"]),
        op("LabelEncoder", "label", "code", ML, keys_strings=["a", "b"], values_int64s=[3, 4]),
        op("TreeEnsembleRegressor", "x", "r", ML, nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
           nodes_modes=["BRANCH_LT", "LEAF", "LEAF"], nodes_values=[0.5, 0.0, 0.0], nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0],
           target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0], n_targets=1),
    ]
    return model(graph(nodes, [port("x", FLOAT, "n", 2)], names("maps", "code", "r")))


def ml_linear():
    nodes = [
        op("Imputer", "x", "a", ML, imputed_value_floats=[0.0], replaced_value_float=7.0), op("Scaler", "a", "b", ML, offset=[1.0], scale=[2.0]),
        op("Normalizer", "b", "c", ML, norm="L2"), op("Binarizer", "c", "d", ML, threshold=0.25),
        op("FeatureVectorizer", "c d", "e", ML, inputdimensions=[2, 2]), op("ArrayFeatureExtractor", "e pick", "f", ML),
        op("LinearClassifier", "c", "label p", ML, coefficients=[1.0, 2.0, -1.0, 0.5], intercepts=[0.0, 1.0], classlabels_ints=[5, 6],
           post_transform="SOFTMAX"),
        op("LinearRegressor", "c", "r", ML, coefficients=[1.0, 2.0], intercepts=[0.5], targets=1),
        op("SVMRegressor", "c", "s", ML, coefficients=[1.0, -1.0], support_vectors=[1.0, 2.0, 3.0, 4.0], kernel_type="RBF",
           kernel_params=[0.5, 0.0, 3.0], n_supports=2, rho=[0.1]),
        op("OneHotEncoder", "label", "hot", ML, cats_int64s=[5, 6]),
    ]
    return model(graph(nodes, [port("x", FLOAT, "n", 2)], names("f", "p", "r", "s", "hot"), [tensor("pick", INT64, [2], [0, 3])]))


def maps():
    nodes = [op("DictVectorizer", "m", "v", ML, string_vocabulary=["a", "b"]), op("ZipMap", "v", "z", ML, classlabels_int64s=[1, 2])]
    map_type = block(5, number(1, STRING) + block(2, tensor_type(FLOAT, [])))
    return model(graph(nodes, [value("m", map_type)], names("z")))


def qdq():
    nodes = [
        op("QuantizeLinear", "x s z", "q", axis=1), op("DequantizeLinear", "q s z", "dq"), op("DequantizeLinear", "w ws wz", "dw", axis=0),
        op("Conv", "dq dw", "c", pads=[1, 1, 1, 1]), op("Relu", "c", "r"), op("QuantizeLinear", "r s z", "q2"), op("DequantizeLinear", "q2 s z", "y"),
    ]
    return model(graph(nodes, [port("x", FLOAT, 1, 2, 4, 4)], [port("y", FLOAT, 1, 3, 4, 4)],
                       [tensor("s", FLOAT, [], [0.1]), tensor("z", UINT8, [], [128]), ramp("w", INT8, 3, 2, 3, 3),
                        tensor("ws", FLOAT, [3], [0.1, 0.2, 0.3]), tensor("wz", INT8, [3], [0, 0, 0])]))


def q_operators():
    nodes = [
        op("DynamicQuantizeLinear", "x", "q qs qz"), op("QLinearConv", "q qs qz w s wz s z bias", "c"), op("ConvInteger", "q w qz", "ci"),
        op("QLinearMatMul", "q qs qz m s z s z", "mm"), op("MatMulInteger", "q m qz z", "mi"),
    ]
    return model(graph(nodes, [port("x", FLOAT, 1, 1, 4, 4)], names("c", "ci", "mm", "mi"),
                       [ramp("w", INT8, 2, 1, 3, 3), tensor("wz", INT8, [], [0]), tensor("s", FLOAT, [], [0.5]), tensor("z", UINT8, [], [3]),
                        ramp("bias", INT32, 2), ramp("m", UINT8, 4, 4)]))


def few_bits():
    nodes = [
        op("DequantizeLinear", "w4 s4 z4", "a", axis=0, block_size=4), op("MatMul", "x a", "b"), op("QuantizeLinear", "b one zu4", "c"),
        op("Cast", "c", "d", to=FLOAT), op("Cast", "d", "e", to=FLOAT8E4M3FN), op("Cast", "e", "f", to=BFLOAT16), op("Cast", "f", "y", to=INT4),
    ]
    return model(graph(nodes, [port("x", FLOAT, 2, 8)], [port("y", INT4, 2, 3)],
                       [ramp("w4", INT4, 8, 3), ramp("s4", FLOAT, 2, 3), ramp("z4", INT4, 2, 3), tensor("one", FLOAT, [], [1.0]),
                        tensor("zu4", UINT4, [], [8])]))


def functions():
    given = lambda name: block(1, name) + number(20, 2) + block(21, "dim")  # the caller's "dim"
    soft = node("Softmax", ["a"], ["b"], "soft", attributes=[given("axis")])
    inner = function("inner", ["a"], ["b"], [soft], "f") + block(6, "dim")
    outer = function("outer", ["a", "k"], ["c"], [node("inner", ["a"], ["t"], "call", "f", [given("dim")]), node("Mul", ["t", "k"], ["c"])], "f")
    outer += block(6, "dim")
    nodes = [op("outer", "x w", "t", "f", dim=1), op("outer", "t x", "y", "f", dim=0)]
    return model(graph(nodes, [port("x", FLOAT, 2, 2)], [port("y", FLOAT, 2, 2)], [ramp("w", FLOAT, 2, 2)]), functions=[inner, outer])


def sequences():
    nodes = [
        op("SplitToSequence", "x", "s", axis=0, keepdims=1), op("SequenceLength", "s", "n"), op("SequenceAt", "s zero", "first"),
        op("SequenceInsert", "s first", "s2"), op("SequenceErase", "s2 zero", "s3"), op("ConcatFromSequence", "s3", "y", axis=1),
        op("Optional", "s", "o"), op("OptionalHasElement", "o", "has"), op("OptionalGetElement", "o", "back"), op("SequenceAt", "t zero", "u"),
    ]
    return model(graph(nodes, [port("x", FLOAT, "n", 2), value("t", sequence_type(FLOAT, [2]))], names("y", "n", "has", "back", "u"),
                       [tensor("zero", INT64, [], [0])]))


def sub_graphs():
    step = graph([op("Add", "state k", "next"), op("Identity", "go", "on"), op("Mul", "next x", "slice")],
                 [port("i", INT64), port("go", BOOL), *names("state")], names("on", "next", "slice"))
    scan = graph([op("Add", "acc item", "sum"), op("Identity", "sum", "out")], names("acc", "item"), names("sum", "out"))
    deep = graph([op("Loop", "three true x", "l ls", body=step), op("ReduceSum", "ls", "then", keepdims=0)], [], names("then"))
    flat = graph([op("ReduceMax", "x", "else", keepdims=0)], [], names("else"))
    nodes = [op("Scan", "x rows", "end all", body=scan, num_scan_inputs=1), op("If", "c", "y", then_branch=deep, else_branch=flat)]
    return model(graph(nodes, [port("x", FLOAT, 2), port("rows", FLOAT, "t", 2), port("c", BOOL)], names("end", "all", "y"),
                       [tensor("three", INT64, [], [3]), tensor("true", BOOL, [], [True]), ramp("k", FLOAT, 2)]))


def external_data():
    entries = b"".join(block(13, block(1, k) + block(2, v)) for k, v in (("location", "seed.bin"), ("offset", "4"), ("length", "8")))
    outside = number(1, 2) + number(2, FLOAT) + block(8, "w") + entries + number(14, 1)
    return model(graph([op("Add", "x w", "y")], [port("x", FLOAT, 2)], [port("y", FLOAT, 2)], [outside]))


def sparse():
    w = block(1, tensor("w", FLOAT, [2], [1.0, 2.0])) + block(2, tensor("", INT64, [2], [1, 5])) + number(3, 2) + number(3, 3)
    k = block(1, tensor("", FLOAT, [1], [3.0])) + block(2, tensor("", INT64, [1, 2], [1, 0])) + number(3, 2) + number(3, 3)
    constant = node("Constant", [], ["k"], "k", attributes=[block(1, "sparse_value") + block(22, k) + number(20, 11)])
    return model(graph([constant, op("Add", "x w", "t"), op("Mul", "t k", "y")], [port("x", FLOAT, 2, 3)], [port("y", FLOAT, 2, 3)], sparse=[w]))


def text():
    nodes = [
        op("StringConcat", "s s", "a"), op("StringSplit", "a", "b n", delimiter="x", maxsplit=2), op("RegexFullMatch", "s", "m", pattern="a.*"),
        op("StringNormalizer", "s", "c", case_change_action="UPPER"), op("Equal", "s a", "e"),
    ]
    return model(graph(nodes, [port("s", STRING, "n")], names("b", "n", "m", "c", "e")))


def newest():
    nodes = [
        op("RMSNormalization", "x scale", "a"), op("RotaryEmbedding", "a cos sin", "q", num_heads=2),
        op_with_gaps("Attention", "q x x mask", "y - - scores", q_num_heads=2, kv_num_heads=2, softcap=2.0, qk_matmul_output_mode=2),
        op("Swish", "y", "z", alpha=0.5), op("TensorScatter", "cache z at", "w", axis=1),
    ]
    return model(graph(nodes, [port("x", FLOAT, 1, 3, 8), port("cache", FLOAT, 1, 5, 8)], names("w", "scores"),
                       [ramp("scale", FLOAT, 8), ramp("cos", FLOAT, 1, 3, 2), ramp("sin", FLOAT, 1, 3, 2), ramp("mask", FLOAT, 3, 3),
                        tensor("at", INT64, [1], [1])]), opset=24)


SEEDS = [microsoft_transformer, microsoft_decoder, microsoft_quantised, ml_trees, ml_linear, maps, qdq, q_operators, few_bits, functions,
         sequences, sub_graphs, external_data, sparse, text, newest]


def main(folder, program=None):
    os.makedirs(folder, exist_ok=True)
    wrong = 0
    for seed in SEEDS:
        path = os.path.join(folder, seed.__name__ + ".onnx")
        with open(path, "wb") as file:
            file.write(seed())
        if program is None or seed is external_data:  # whose file no fuzzer may read
            continue
        result = subprocess.run([program, "check", path], capture_output=True, text=True, check=False)
        if result.returncode != 0:
            wrong += 1
            print(f"{path}: {result.stderr}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
