"""ONNX graphs around nodes LSTM: random ones, as exporters write stacks, and some that compute something else."""

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
H = 2  # of chain_of, whose inputs are as wide
SIZES = ((3, 3, 2), (4, 3, 2), (3, 2, 2), (2, 2, 2))  # T, B, I, which are also sizes of what is computed
CHANGING = ("Sigmoid", "Relu", "Tanh", "Neg", "Softmax", "Abs")


class Graph:
    """Nodes and constants; a tensor is a pair of its name and its shape for the sizes that it was drawn for."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.stored, self.states = [], [], []
        self.noise = self.rng.choice([0, 0, 0.05, 0.15])
        self.fixed = self.chance(0.5)
        self.opset = int(self.rng.choice([11, 18]))

    def chance(self, p):
        return self.rng.random() < p

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.stored)}"
        self.stored.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, op, *inputs, count=1, **said):
        n = len(self.nodes)
        outputs = [f"{op.lower()}{n}_{k}" for k in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=f"n{n}", **said))
        return outputs[0] if count == 1 else outputs

    def listed(self, op, name, values, word="axes", **said):
        """A node with a list of whole numbers: an attribute in old operator sets, an input in new ones."""
        if self.opset < 13:
            return self.add(op, name, **{word: values}, **said)
        return self.add(op, name, self.constant(values, np.int64), **said)

    def transpose(self, t, order):
        return self.add("Transpose", t[0], perm=order), tuple(t[1][n] for n in order)

    def reshape(self, t, shape):
        """To a shape whose lengths are written as such, as 0 where they stay, or as −1."""
        written = list(shape)
        stays = [n for n in range(min(len(shape), len(t[1]))) if shape[n] == t[1][n]]
        if not self.fixed or self.chance(0.5):
            for n in stays:
                written[n] = 0
        free = [n for n in range(len(shape)) if written[n] != 0]
        if free and (not self.fixed or self.chance(0.5)):
            written[free[self.rng.integers(len(free))]] = -1
        return self.add("Reshape", t[0], self.constant(written, np.int64)), tuple(shape)

    def gather(self, t, axis, index):
        return self.add("Gather", t[0], self.constant(index, np.int64), axis=axis), t[1][:axis] + t[1][axis + 1 :]

    def slice(self, t, axis, start, end, stride=1):
        count = len(range(t[1][axis])[start:end:stride])
        ends = [self.constant([n], np.int64) for n in (start, end, axis, stride)]
        return self.add("Slice", t[0], *ends), (*t[1][:axis], count, *t[1][axis + 1 :])

    def squeeze(self, t, axis):
        return self.listed("Squeeze", t[0], [axis]), t[1][:axis] + t[1][axis + 1 :]

    def unsqueeze(self, t, axis):
        return self.listed("Unsqueeze", t[0], [axis]), (*t[1][:axis], 1, *t[1][axis:])

    def maybe(self, t):
        """A tensor of the same shape after a random node or none: the same numbers, in another order, or changed."""
        if not self.chance(self.noise):
            return t
        name, shape = t
        axis = int(self.rng.integers(len(shape)))
        kind = self.rng.integers(14)
        if kind == 0:
            return self.add(str(self.rng.choice(CHANGING)), name), shape
        if kind == 1:
            return self.slice(t, axis, -1, -(2**31), -1)
        if kind == 2:
            return self.add(
                "Gather", name, self.constant(self.rng.permutation(shape[axis]), np.int64), axis=axis
            ), shape
        if kind == 3:
            order = [int(n) for n in self.rng.permutation(len(shape))]
            turned = self.transpose(t, order)
            if turned[1] == shape:
                return turned
            back = [int(n) for n in np.argsort(order)]
            return self.reshape(turned, shape) if self.chance(0.5) else self.transpose(turned, back)
        if kind == 4:
            op = str(self.rng.choice(["Mul", "Add", "Sub"]))
            return self.add(op, name, self.constant(self.rng.normal(size=shape[-1:]))), shape
        if kind == 5:
            return self.add("Identity", name), shape
        if kind == 6:
            return self.add("Dropout", name), shape
        if kind == 7:
            return self.add("Cast", name, to=FLOAT), shape
        if kind == 8:
            return self.squeeze(self.unsqueeze(t, axis), axis)
        if kind == 9 and len(shape) > 1:
            at = int(self.rng.integers(len(shape) - 1))
            return self.reshape(self.reshape(t, (*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :])), shape)
        if kind == 10:
            return self.slice(t, axis, 0, int(self.rng.choice([shape[axis], 2**31 - 1])))
        if kind == 11 and shape[axis] % 2 == 0:
            halves = self.halves(name, axis, shape[axis] // 2)
            return self.add("Concat", *halves[:: self.rng.choice([1, 1, -1])], axis=axis), shape
        if kind == 12:
            return self.add("Add", name, name), shape
        if kind == 13:
            return self.add("Reshape", name, self.add("Shape", name)), shape
        return t

    def halves(self, name, axis, size):
        return self.listed("Split", name, [size, size], "split", count=2, axis=axis)

    def lstm(self, t, direction):
        """Y `[T, D, B, H]`, Y_h and Y_c `[D, B, H]` of a node with random weights."""
        hidden, count = int(self.rng.choice([2, 2, 3])), 2 if direction == "bidirectional" else 1
        shapes = [(count, 4 * hidden, t[1][2]), (count, 4 * hidden, hidden), (count, 8 * hidden)]
        inputs = [t[0], *(self.constant(self.rng.normal(size=shape) * 0.6) for shape in shapes)]
        inputs[3] = inputs[3] if self.chance(0.7) else ""
        state = (count, t[1][1], hidden)
        if self.fixed and self.chance(0.2):
            begin = self.constant(np.zeros(state) if self.chance(0.9) else self.rng.normal(size=state))
            inputs += ["", begin, begin]
        elif self.states and self.states[-1][1] == state and self.chance(0.1):
            inputs += ["", self.states[-1][0], self.states[-1][0]]
        ys, h, c = self.add("LSTM", *inputs, count=3, hidden_size=hidden, direction=direction)
        self.states.append((h, state))
        return (ys, (t[1][0], *state)), (h, state), (c, state)

    def joined(self, t):
        """Y or Y_h without the axis of directions: `[T, B, F]` or `[B, F]`."""
        at = len(t[1]) - 3
        shape = t[1]
        t = self.maybe(t)
        if shape[at] == 1:
            kind = self.rng.integers(4)
            if kind == 0:
                return self.squeeze(t, at)
            if kind == 1:
                return self.gather(t, at, int(self.rng.choice([0, -1])))
            return (
                self.reshape(t, shape[:at] + shape[at + 1 :])
                if kind == 2
                else self.squeeze(self.slice(t, at, 0, 1), at)
            )
        kind = self.rng.integers(6)
        if kind < 2:
            t = self.maybe(self.transpose(t, [*range(at), at + 1, at, at + 2]))
            return self.reshape(t, (*t[1][: at + 1], t[1][at + 1] * t[1][at + 2]))
        parts = [self.maybe(self.gather(t, at, k)) for k in ((1, 0) if self.chance(0.1) else (0, 1))]
        parts = [parts[0], parts[0]] if self.chance(0.05) else parts
        names, shape = [name for name, _ in parts], parts[0][1]
        if kind < 4:
            return self.add("Concat", *names, axis=int(self.rng.choice([at + 1, -1]))), (*shape[:-1], 2 * shape[-1])
        if kind == 4:
            return self.add(str(self.rng.choice(["Add", "Add", "Add", "Sub", "Mul"])), *names), shape
        if self.chance(0.2):
            return self.listed("ReduceMean", t[0], [at], keepdims=0), shape
        return self.listed("ReduceSum", t[0], [at], keepdims=0), shape

    def pair(self, t):
        """Two nodes on one input, side by side or added up."""
        ways = ("forward", str(self.rng.choice(["reverse", "reverse", "forward"])))
        one, two = (self.joined(self.lstm(t, way)[0]) for way in ways)
        if one[1] == two[1] and self.chance(0.3):
            return self.add("Add", one[0], two[0]), one[1]
        return self.add("Concat", one[0], two[0], axis=2), (*one[1][:2], one[1][2] + two[1][2])

    def head(self, t, outputs=2):
        """A product with a stored matrix, and mostly a bias."""
        w, b = self.rng.normal(size=(t[1][-1], outputs)), self.constant(self.rng.normal(size=outputs))
        if len(t[1]) == 2 and self.chance(0.5):
            turned = int(self.chance(0.5))
            bias = [b] if self.chance(0.8) else []
            return self.add("Gemm", t[0], self.constant(w.T if turned else w), *bias, transB=turned), (t[1][0], outputs)
        if len(t[1]) == 3 and self.chance(0.3):
            flat = self.add("Reshape", t[0], self.constant([-1, t[1][2]], np.int64))
            flat = self.add("Gemm", flat, self.constant(w), b)
            shape = (*t[1][:2], outputs)
            if self.fixed:
                return self.add("Reshape", flat, self.constant(shape, np.int64)), shape
            sizes = self.add("Slice", self.add("Shape", t[0]), *(self.constant([n], np.int64) for n in (0, 2)))
            return self.add("Reshape", flat, self.add("Concat", sizes, self.constant([-1], np.int64), axis=0)), shape
        t = self.maybe((self.add("MatMul", t[0], self.constant(w)), (*t[1][:-1], outputs)))
        if self.chance(0.1):
            return t
        return self.add("Add", *((t[0], b) if self.chance(0.5) else (b, t[0]))), t[1]


def read_nodes(nodes, names):
    """The nodes that the tensors of these names come from; ONNX Runtime would run, and may refuse, others too."""
    used = []
    for node in reversed(nodes):
        if names & set(node.output):
            names |= set(node.input)
            used.insert(0, node)
    return used


def random_model(seed):
    """A model with the input "x", and the shape of an array for it."""
    graph = Graph(seed)
    time, batch, width = SIZES[graph.rng.integers(len(SIZES))]
    batch_first = graph.chance(0.5)
    shape = (batch, time, width) if batch_first else (time, batch, width)
    symbols = ["b", "t", width] if batch_first else ["t", "b", width]
    t = graph.maybe(("x", shape))
    if batch_first and not graph.chance(0.05):
        t = graph.transpose(t, [1, 0, 2])
    h = c = None
    residual = graph.chance(0.2)
    for n in range(graph.rng.integers(1, 4)):
        below = t
        if graph.chance(0.1):
            t, h = graph.pair(t), None
        else:
            ways = ["bidirectional"] * 8 + ["forward"] * 11 + ["reverse"]
            ys, h, c = graph.lstm(t, str(graph.rng.choice(ways)))
            t = graph.joined(ys)
        if residual and n and t[1] == below[1] and not graph.chance(0.1):
            t = graph.add("Add", *((t[0], below[0]) if graph.chance(0.5) else (below[0], t[0]))), t[1]
        t = graph.maybe(t)
    sequences = graph.chance(0.5)
    if not sequences and h is not None and graph.chance(0.6):
        t = graph.joined(c if graph.chance(0.05) else graph.states[0] if graph.chance(0.05) else h)
    elif not sequences:
        t = graph.gather(t, 0, int(graph.rng.choice([-1, -1, -1, 0, 1])))
    elif graph.chance(0.5):
        t = graph.transpose(t, [1, 0, 2])
        t = graph.gather(t, 1, -1) if graph.chance(0.15) else t
    t = graph.maybe(t)
    heads = int(graph.rng.choice([0, 1, 2], p=[0.36, 0.6, 0.04]))
    for _ in range(heads):
        t = graph.maybe(graph.head(t))
    if heads and graph.chance(0.2):
        t = graph.add("Softmax", t[0], axis=len(t[1]) - 1), t[1]
    outputs = [t, *(graph.states[-1:] if graph.chance(0.2) else [])]
    nodes = read_nodes(graph.nodes, {name for name, _ in outputs})
    inputs = [helper.make_tensor_value_info("x", FLOAT, shape if graph.fixed else symbols)]
    outputs = [helper.make_tensor_value_info(name, FLOAT, None) for name, _ in outputs]
    body = helper.make_graph(nodes, "random", inputs, outputs, graph.stored)
    if not graph.fixed:  # of any length: nothing may hang on those for which it was drawn
        shape = tuple(
            n if symbol == width else n + 1 + (symbol == "b") for n, symbol in zip(shape, symbols, strict=True)
        )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", graph.opset)], ir_version=8), shape


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def runtime(model, **feeds):
    """What ONNX Runtime gives, in the order of the outputs."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def chain_of(*between, after=(), inputs=("t", "b", H), output=("t", "b", H)):
    """X → LSTM → Squeeze → between → LSTM → Squeeze → after, of one width."""
    rng = np.random.default_rng(1)
    stored = {f"{name}{n}": rng.normal(size=(1, 4 * H, H)).astype(np.float32) for n in (0, 1) for name in "WR"}
    stored |= {"one": np.array([1]), "half": np.float32(0.5)}
    nodes, at = [], "x"
    for n, behind in enumerate((between, after)):
        nodes.append(helper.make_node("LSTM", [at, f"W{n}", f"R{n}"], [f"y{n}"], f"lstm{n}", hidden_size=H))
        nodes.append(helper.make_node("Squeeze", [f"y{n}", "one"], [f"s{n}"], f"squeeze{n}"))
        at = f"s{n}"
        for k, (op, *more) in enumerate(behind):
            said = more.pop() if more and isinstance(more[-1], dict) else {}
            nodes.append(helper.make_node(op, [at, *more], [f"z{n}{k}"], f"{op.lower()}{n}{k}", **said))
            at = f"z{n}{k}"
    graph = helper.make_graph(
        nodes, "two", [helper.make_tensor_value_info("x", FLOAT, inputs)],
        [helper.make_tensor_value_info(at, FLOAT, output)], [numpy_helper.from_array(a, k) for k, a in stored.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
