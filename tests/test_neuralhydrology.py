"""Checkpoints of neuralhydrology: modules with the names and the equations of its own, written once more in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import B, H, I, T

from lstmjax import EntityParams, MassParams, as_entity_aware, entity_aware, mass_conserving, network, outflow, verify
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_neuralhydrology, load_weights

torch = pytest.importorskip("torch")
S, O, A, M = 7, 2, 3, 1


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(H, O))


class DynamicGates(torch.nn.Module):
    def __init__(self):
        super().__init__()
        shapes = {"weight_ih": (I, 3 * H), "weight_hh": (H, 3 * H), "bias": (3 * H,)}
        for name, shape in shapes.items():
            setattr(self, name, torch.nn.Parameter(torch.randn(shape)))


class EALSTM(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.input_gate, self.dynamic_gates, self.head = torch.nn.Linear(S, H), DynamicGates(), Head()

    def forward(self, x_d, x_s):
        h, c, out = torch.zeros(len(x_d), H), torch.zeros(len(x_d), H), []
        i, p = torch.sigmoid(self.input_gate(x_s)), self.dynamic_gates
        for t in range(x_d.shape[1]):
            f, o, g = (h @ p.weight_hh + x_d[:, t] @ p.weight_ih + p.bias).chunk(3, 1)
            c = torch.sigmoid(f) * c + i * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return self.head.net(torch.stack(out, 1))


class CudaLSTM(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = torch.nn.LSTM(I + S, H), Head()

    def forward(self, x_d, x_s):
        xs = torch.cat([x_d, x_s[:, None].expand(-1, x_d.shape[1], -1)], -1)
        return self.head.net(self.lstm(xs.transpose(0, 1))[0].transpose(0, 1))


class CustomCell(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name, size in (("w_hh", H), ("w_ih", I + S), ("b_hh", None), ("b_ih", None)):
            setattr(self, name, torch.nn.Parameter(torch.randn(4 * H, *([] if size is None else [size]))))


class CustomLSTM(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = CustomCell(), Head()

    def forward(self, x_d, x_s):
        h, c, out, p = torch.zeros(len(x_d), H), torch.zeros(len(x_d), H), [], self.cell
        for t in range(x_d.shape[1]):
            x = torch.cat([x_d[:, t], x_s], -1)
            i, f, g, o = (h @ p.w_hh.T + p.b_hh + x @ p.w_ih.T + p.b_ih).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return self.head.net(torch.stack(out, 1))


class Gate(torch.nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape, self.fc = shape, torch.nn.Linear(M + A + H, int(np.prod(shape)))

    def forward(self, features):
        return self.fc(features).view(-1, *self.shape)


class Cell(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.output_gate, self.input_gate, self.redistribution = Gate(H), Gate(M, H), Gate(H, H)
        torch.nn.init.constant_(self.redistribution.fc.bias, 1.0)  # some relu is above 0 in every row


class MCLSTM(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mclstm = Cell()

    def forward(self, x_m, x_a):
        c, out, cell = torch.zeros(1, H), [], self.mclstm
        for t in range(x_m.shape[1]):
            features = torch.cat([x_m[:, t], x_a[:, t], c / (c.norm(1) + 1e-5)], -1)
            i = torch.nn.functional.normalize(torch.sigmoid(cell.input_gate(features)), p=1, dim=-1)
            r = torch.nn.functional.normalize(torch.relu(cell.redistribution(features)), p=1, dim=-1)
            o = torch.sigmoid(cell.output_gate(features))
            m = torch.matmul(x_m[:, t, None], i)[:, 0] + torch.matmul(c[:, None], r)[:, 0]
            c = (1 - o) * m
            out.append(o * m)
        return torch.stack(out, 1)[:, :, 1:].sum(-1)


@pytest.fixture
def basins():
    """Dynamic inputs `[B, T, I]` and static attributes `[B, S]`."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(B, T, I)).astype("f"), rng.normal(size=(B, S)).astype("f")


def saved(module, tmp_path):
    path = tmp_path / "model_epoch030.pt"
    torch.save(module.state_dict(), path)
    return path


def beside(xs, statics):
    return jnp.concatenate([xs, np.broadcast_to(statics[:, None], (B, T, S))], -1)


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("model", [EALSTM, CudaLSTM, CustomLSTM])
def test_load_weights_reads_a_network_that_computes_the_same(model, basins, tmp_path):
    torch.manual_seed(0)
    module = model()
    expected = module(*map(torch.tensor, basins)).detach().numpy()
    params = load_weights(saved(module, tmp_path))
    _, ys = network(params, beside(*basins), return_sequences=True)
    np.testing.assert_allclose(ys, expected, atol=1e-6)


@pytest.mark.usefixtures("frameworks")
def test_the_entity_aware_layer_is_read_as_one(basins, tmp_path):
    torch.manual_seed(1)
    module = EALSTM()
    expected = module(*map(torch.tensor, basins)).detach().numpy()
    path = saved(module, tmp_path)
    for source in (path, str(path), module, module.state_dict()):
        params, head = from_neuralhydrology(source)
        assert isinstance(params, EntityParams)
        _, hs = entity_aware(params, *basins)
        np.testing.assert_allclose(hs @ head.w + head.b, expected, atol=1e-6)
    again = as_entity_aware(load_weights(path).layers[0], S)
    for a, b in zip(
        jax.tree.leaves(again._replace(dynamic=again.dynamic._replace(b_h=None))), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("model", [EALSTM, CudaLSTM, CustomLSTM])
def test_verify_runs_the_module_beside_what_was_read_of_its_checkpoint(model, basins, tmp_path):
    torch.manual_seed(3)
    module = model()
    params, xs = load_weights(saved(module, tmp_path)), np.asarray(beside(*basins))

    def theirs(xs):
        return module(torch.tensor(xs[..., :I]), torch.tensor(xs[:, 0, I:])).detach().numpy()

    verdict = verify(theirs, xs, params=params)
    assert verdict, str(verdict)
    with torch.no_grad():
        module.head.net[0].bias += 0.01
    assert not verify(theirs, xs, params=params)


@pytest.mark.usefixtures("frameworks")
def test_the_layers_of_a_custom_lstm_are_those_of_a_cuda_lstm():
    custom, cuda = CustomLSTM(), CudaLSTM()
    for ours, theirs in (("ih", "weight_ih_l0"), ("hh", "weight_hh_l0")):
        getattr(cuda.lstm, theirs).data = getattr(custom.cell, f"w_{ours}").data
        getattr(cuda.lstm, theirs.replace("weight", "bias")).data = getattr(custom.cell, f"b_{ours}").data
    cuda.head = custom.head
    jax.tree.map(np.testing.assert_array_equal, from_neuralhydrology(custom), from_neuralhydrology(cuda))


@pytest.mark.usefixtures("frameworks")
def test_the_layers_of_a_cuda_lstm_and_its_head_are_read():
    module = CudaLSTM()
    (layer,), head = from_neuralhydrology(module)
    np.testing.assert_array_equal(layer.w_x.reshape(I + S, -1).T, module.lstm.weight_ih_l0.detach())
    np.testing.assert_array_equal(head.w.T, module.head.net[0].weight.detach())


@pytest.mark.usefixtures("frameworks")
def test_the_mass_conserving_layer_is_read_as_one(tmp_path):
    torch.manual_seed(2)
    module, rng = MCLSTM(), np.random.default_rng(3)
    mass, aux = rng.exponential(size=(1, T, M)).astype("f"), rng.normal(size=(1, T, A)).astype("f")
    expected = module(torch.tensor(mass), torch.tensor(aux)).detach().numpy()
    path = saved(module, tmp_path)
    params, head = from_neuralhydrology(path)
    assert isinstance(params, MassParams)
    assert head is None
    np.testing.assert_allclose(outflow(mass_conserving(params, mass, aux)[1]), expected, atol=1e-6)
    with pytest.raises(ConvertError, match=r"MCLSTM of neuralhydrology.*from_neuralhydrology\(path\)"):
        load_weights(path)


def test_convert_says_what_was_assumed_and_writes_the_vanilla_lstm(tmp_path, capsys):
    path = saved(EALSTM(), tmp_path)
    assert main(["convert", str(path), str(tmp_path / "of-lstm.safetensors")]) == 0
    said = capsys.readouterr().out
    assert "lstm.weight_ih_l0 of the blocks of an entity-aware LSTM" in said
    assert said.count("the dynamic ones followed by the static attributes") == 1
    converted = load_weights(tmp_path / "of-lstm.safetensors")
    assert converted.layers[0].w_x.shape == (I + S, 4, H)


def test_what_would_be_lost_is_refused_by_name(tmp_path):
    arrays = EALSTM().state_dict()
    more = {**arrays, "embedding_net.statics_embedding.net.0.weight": torch.ones(S, 9)}
    with pytest.raises(ConvertError, match=r"more than a layer and a head.*embedding_net\.statics_embedding.*extra"):
        from_neuralhydrology(more)
    assert from_neuralhydrology(more, extra="drop").head is not None
    torch.save(more, tmp_path / "more.pt")
    with pytest.raises(ConvertError, match=r"more than LSTM layers and a head: embedding_net"):
        load_weights(tmp_path / "more.pt")
    wrong = {**arrays, "dynamic_gates.weight_hh": torch.ones(H, 2 * H)}
    with pytest.raises(ConvertError, match=r"do not fit each other as those of an EALSTM.*weight_hh \(4, 8\)"):
        from_neuralhydrology(wrong)
    mass = {**MCLSTM().state_dict(), "mclstm.output_gate.fc.weight": torch.ones(H, H)}
    with pytest.raises(ConvertError, match=r"do not fit each other as those of an MCLSTM"):
        from_neuralhydrology(mass)
    with pytest.raises(
        ConvertError, match="no EALSTM, MCLSTM, CudaLSTM or CustomLSTM of neuralhydrology in it; it holds gru"
    ):
        from_neuralhydrology({"gru": torch.ones(3)})
    with pytest.raises(ConvertError, match="source is a list, expected a model"):
        from_neuralhydrology([1])


@pytest.mark.usefixtures("frameworks")
@pytest.mark.parametrize("model", [EALSTM, CustomLSTM])
def test_the_command_compares_a_checkpoint_with_what_its_module_predicted(model, basins, tmp_path, capsys):
    torch.manual_seed(4)
    module = model()
    path = saved(module, tmp_path)
    np.save(tmp_path / "xs.npy", beside(*basins))
    words = ["verify", str(path), "--input", str(tmp_path / "xs.npy"), "--outputs", str(tmp_path / "ys.npy")]
    for bias, code, word in ((0.0, 0, "agree: lstmjax and the recorded outputs"), (0.1, 1, "differ: ")):
        with torch.no_grad():
            module.head.net[0].bias += bias
        np.save(tmp_path / "ys.npy", module(*map(torch.tensor, basins)).detach().numpy())
        assert main(words) == code
        assert capsys.readouterr().out.startswith(word)
