"""Writes tiny ONNX models as bytes, wrong ones too, with nothing but the standard library."""

FLOAT, INT64, STRING = 1, 7, 8


def varint(n):
    out = b""
    while True:
        n, low = n >> 7, n & 0x7F
        out += bytes([low | (0x80 if n else 0)])
        if not n:
            return out


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, content):
    content = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(content)) + content


def tensor_type(dtype, dims):
    shape = b"".join(block(1, number(1, d) if isinstance(d, int) else block(2, d)) for d in dims)
    return block(1, number(1, dtype) + block(2, shape))


def value(name, type_bytes):
    return block(1, name) + block(2, type_bytes)


def sequence_type(dtype, dims):
    return block(4, block(1, tensor_type(dtype, dims)))


def map_type(key, value):
    return block(5, number(1, key) + block(2, block(1, number(1, value))))


def strings(name, values):
    """An attribute."""
    return block(1, name) + b"".join(block(9, v) for v in values) + number(20, 8)


def node(op, inputs, outputs, name="", domain="", attributes=()):
    body = b"".join(block(1, i) for i in inputs) + b"".join(block(2, o) for o in outputs)
    body += block(3, name or op) + block(4, op) + b"".join(block(5, a) for a in attributes)
    return body + (block(7, domain) if domain else b"")


def tensor(name, dtype, dims, raw):
    """An initializer."""
    return b"".join(number(1, d) for d in dims) + number(2, dtype) + block(8, name) + block(9, raw)


def function(name, inputs, outputs, nodes, domain):
    body = block(1, name) + b"".join(block(4, i) for i in inputs) + b"".join(block(5, o) for o in outputs)
    body += b"".join(block(7, n) for n in nodes) + block(9, block(1, "") + number(2, 13)) + block(9, block(1, domain) + number(2, 1))
    return body + block(10, domain)


def model(nodes, inputs, outputs, opset=13, initializers=(), functions=()):
    graph = b"".join(block(1, n) for n in nodes) + block(2, "graph") + b"".join(block(5, t) for t in initializers)
    graph += b"".join(block(11, i) for i in inputs) + b"".join(block(12, o) for o in outputs)
    return number(1, 7) + block(7, graph) + block(8, block(1, "") + number(2, opset)) + b"".join(block(25, f) for f in functions)
