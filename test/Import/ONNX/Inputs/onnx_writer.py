"""Writes ONNX files without the onnx package: just enough of protobuf and onnx.proto.

    save(path, nodes=[node("Add", ["x", "y"], ["z"])],
         inputs=[value("x", FLOAT, ["batch", 4])], outputs=[value("z", FLOAT)], initializers=[...])
"""
import struct

FLOAT, UINT8, INT8, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE, BFLOAT16 = 1, 2, 3, 6, 7, 8, 9, 10, 11, 16
_FORMAT = {FLOAT: "f", UINT8: "B", INT8: "b", INT32: "i", INT64: "q", BOOL: "?", FLOAT16: "e", DOUBLE: "d"}


def _varint(value):
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def integer(field, value):
    return _varint(field << 3) + _varint(value)


def data(field, value):
    if isinstance(value, str):
        value = value.encode()
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def real(field, value):
    return _varint(field << 3 | 5) + struct.pack("<f", value)


def tensor(name, kind, dims, values=None, external=None):
    """`values`: numbers, row major, as raw_data. `external`: {"location": …, "offset": …, "length": …}."""
    out = b"".join(integer(1, d) for d in dims) + integer(2, kind) + data(8, name)
    if external is None:
        return out + data(9, struct.pack(f"<{len(values)}{_FORMAT[kind]}", *values))
    for key, value in external.items():
        out += data(13, data(1, key) + data(2, str(value)))
    return out + integer(14, 1)


def attribute(name, value):
    out = data(1, name)
    if isinstance(value, bool) or isinstance(value, int):
        return out + integer(3, int(value)) + integer(20, 2)
    if isinstance(value, float):
        return out + real(2, value) + integer(20, 1)
    if isinstance(value, str):
        return out + data(4, value) + integer(20, 3)
    if isinstance(value, bytes):  # a tensor
        return out + data(5, value) + integer(20, 4)
    if isinstance(value, Graph):
        return out + data(6, value.bytes) + integer(20, 5)
    return out + b"".join(integer(8, v) for v in value) + integer(20, 7)


def node(op, inputs, outputs, name="", domain="", metadata=(), **attributes):
    out = b"".join(data(1, i) for i in inputs) + b"".join(data(2, o) for o in outputs)
    out += data(3, name) + data(4, op)
    out += b"".join(data(5, attribute(k, v)) for k, v in attributes.items())
    out += data(7, domain) if domain else b""
    return out + b"".join(data(9, data(1, k) + data(2, v)) for k, v in metadata)


def value(name, kind, dims=None):
    """A dimension is a number, a name, or None."""
    kind_bytes = integer(1, kind)
    if dims is not None:
        shape = b""
        for d in dims:
            shape += data(1, b"" if d is None else data(2, d) if isinstance(d, str) else integer(1, d))
        kind_bytes += data(2, shape)
    return data(1, name) + data(2, data(1, kind_bytes))


class Graph:
    def __init__(self, nodes, inputs=(), outputs=(), initializers=(), name="graph"):
        self.bytes = b"".join(data(1, n) for n in nodes) + data(2, name)
        self.bytes += b"".join(data(5, t) for t in initializers)
        self.bytes += b"".join(data(11, i) for i in inputs) + b"".join(data(12, o) for o in outputs)


def save(path, nodes, inputs=(), outputs=(), initializers=(), opset=17, opsets=()):
    out = integer(1, 8) + data(2, "test") + data(7, Graph(nodes, inputs, outputs, initializers).bytes)
    for domain, version in [("", opset), *opsets]:
        out += data(8, data(1, domain) + integer(2, version))
    with open(path, "wb") as file:
        file.write(out)
