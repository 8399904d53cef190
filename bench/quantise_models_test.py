#!/usr/bin/python3
"""What the dialects of quantise_models.py promise, on a small network."""

import unittest

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import quantise_models as q


def network():
    """conv → Relu → conv → + (a skip) → Clip(0, 6) → mean → Gemm, and values of all its results."""
    generator = np.random.default_rng(1)
    draw = lambda name, *shape: numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
    constants = [draw("w1", 4, 3, 3, 3), draw("b1", 4), draw("w2", 4, 4, 1, 1), draw("b2", 4), draw("w3", 5, 4), draw("b3", 5),
                 numpy_helper.from_array(np.float32(0), "low"), numpy_helper.from_array(np.float32(6), "high")]
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4),
             helper.make_node("Relu", ["c1"], ["r1"], name="relu"),
             helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2"),
             helper.make_node("Add", ["c2", "r1"], ["sum"], name="add"),
             helper.make_node("Clip", ["sum", "low", "high"], ["clipped"], name="clip"),
             helper.make_node("GlobalAveragePool", ["clipped"], ["mean"], name="mean"),
             helper.make_node("Flatten", ["mean"], ["flat"], name="flatten"),
             helper.make_node("Gemm", ["flat", "w3", "b3"], ["y"], name="gemm", transB=1)]
    port = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "net", [port("x", [1, 3, 4, 4])], [port("y", [1, 5])], constants)
    image = lambda channels, low, high: generator.uniform(low, high, (1, channels, 4, 4)).astype(np.float32)
    values = {"x": image(3, -1, 1), "c1": image(4, -3, 4), "r1": image(4, 0, 4), "c2": image(4, -5, 5), "sum": image(4, -5, 8),
              "clipped": image(4, 0, 6), "mean": image(4, 0, 3), "flat": np.ones((1, 4), np.float32),
              "y": np.linspace(-2, 2, 5, dtype=np.float32)[None]}
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", q.OPSET)]), values


class Written:
    """A network in a dialect, with the questions that tests ask."""

    def __init__(self, dialect):
        model, values = network()
        self.model = q.Rewriter(model, values, q.DIALECTS[dialect]).run()
        onnx.checker.check_model(self.model)
        self.nodes = list(self.model.graph.node)
        self.constants = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.made_by = {name: node for node in self.nodes for name in node.output}

    def kinds(self):
        return [node.op_type for node in self.nodes]

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def origin(self, name):
        """The operator kinds from a value back to what is no quantisation any more."""
        found = []
        while name in self.made_by and self.made_by[name].op_type in ("DequantizeLinear", "QuantizeLinear"):
            found.append(self.made_by[name].op_type)
            name = self.made_by[name].input[0]
        return found + ([self.made_by[name].op_type] if name in self.made_by else [name])

    def codes(self, name):
        """Scale and zero point of the QuantizeLinear of a value."""
        node = self.node(name + "_QuantizeLinear")
        return float(self.constants[node.input[1]]), self.constants[node.input[2]]

    def bias(self, name):
        """Scale of the bias of an operator; None: it has no codes."""
        node = self.made_by.get(self.node(name).input[2])
        return None if node is None else self.constants[node.input[1]]


class Dialects(unittest.TestCase):
    def test_u8_leaves_clamps_to_the_codes(self):
        net = Written("u8")
        self.assertFalse({"Relu", "Clip"} & set(net.kinds()))
        self.assertEqual(net.origin(net.node("conv2").input[0]), ["DequantizeLinear", "QuantizeLinear", "Conv"])
        scale, zero = net.codes("r1")
        self.assertEqual((zero.dtype, int(zero)), (np.uint8, 0))
        self.assertAlmostEqual(scale, 4 / 255, delta=1e-3)

    def test_a_moved_value_keeps_its_codes_and_the_output_its_name(self):
        net = Written("u8")
        self.assertEqual(net.codes("flat"), net.codes("mean"))
        self.assertEqual(net.origin("y"), ["DequantizeLinear", "QuantizeLinear", "Gemm"])

    def test_weights_have_a_scale_per_channel_or_one(self):
        scale = lambda net, name: net.constants[net.made_by[net.node(name).input[1]].input[1]]
        self.assertEqual(scale(Written("u8"), "conv1").shape, (4,))
        self.assertEqual(scale(Written("u8"), "gemm").shape, (5,))
        self.assertEqual(scale(Written("u8_tensor"), "conv1").shape, ())
        net = Written("u8")
        weights = net.made_by[net.node("conv1").input[1]]
        codes, scales = net.constants[weights.input[0]], net.constants[weights.input[1]]
        original = {t.name: numpy_helper.to_array(t) for t in network()[0].graph.initializer}["w1"]
        np.testing.assert_allclose(codes * scales[:, None, None, None], original, atol=scales.max() / 2)

    def test_s8_keeps_clamps_and_has_no_zero_points(self):
        net = Written("s8")
        self.assertIn("Relu", net.kinds())
        self.assertEqual(net.origin(net.node("conv2").input[0]), ["DequantizeLinear", "QuantizeLinear", "Relu"])
        self.assertEqual(net.origin("y"), ["Gemm"])
        for node in net.nodes:
            if node.op_type == "QuantizeLinear":
                self.assertEqual((net.constants[node.input[2]].dtype, int(net.constants[node.input[2]])), (np.int8, 0))

    def test_s8_m128_has_the_lowest_code_for_zero_after_a_relu(self):
        net = Written("s8_m128")
        self.assertIn("Relu", net.kinds())
        self.assertEqual(int(net.codes("r1")[1]), -128)

    def test_clip_ends_inside_the_codes(self):
        net = Written("clip")
        self.assertIn("Clip", net.kinds())
        scale, zero = net.codes("clipped")
        self.assertLess(6 / scale + zero, 200)

    def test_a_bias_has_the_scale_of_the_products_its_own_or_none(self):
        net = Written("u8")
        weights = net.constants[net.made_by[net.node("conv2").input[1]].input[1]]
        np.testing.assert_allclose(net.bias("conv2"), net.codes("r1")[0] * weights, rtol=1e-6)
        self.assertEqual(Written("bias").bias("conv2").shape, ())
        self.assertIsNone(Written("bias_float").bias("conv2"))

    def test_readers_may_have_a_decode_or_codes_of_their_own(self):
        for dialect, encodes in (("decode_each", 1), ("codes_each", 2)):
            net = Written(dialect)
            conv, add = net.node("conv2").input[0], net.node("add").input[1]
            self.assertNotEqual(conv, add)
            self.assertEqual(net.origin(conv), net.origin(add))
            self.assertEqual(len({net.made_by[name].input[0] for name in (conv, add)}), encodes)
        self.assertNotEqual(*(float(net.constants[net.made_by[name].input[1]]) for name in (conv, add)))

    def test_dynamic_products_are_scaled_by_both_operands(self):
        net = Written("dynamic")
        self.assertEqual([kind for kind in net.kinds() if kind not in ("Conv", "Relu", "Clip", "GlobalAveragePool", "Flatten")],
                         ["Add", "DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add"])
        self.assertEqual(net.constants["w3_transposed_quantized"].shape, (4, 5))


if __name__ == "__main__":
    unittest.main()
