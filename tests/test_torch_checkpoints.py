"""Checkpoints of PyTorch as people have them: read without options, and what is passed over is said."""

import argparse
import io
import json
import pathlib
import pickle
import sys
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against import H, I
from exchange import layer, same

from lstmjax import NetworkParams, claims
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_torch, load_weights, save_weights
from lstmjax.frameworks.torch import pickled

torch = pytest.importorskip("torch")
PREFIXES = ("", "model.", "module.", "_orig_mod.", "net.", "module._orig_mod.model.")


@pytest.fixture(scope="module")
def net():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(I, H)
            self.fc = torch.nn.Linear(H, 5)

    return Net()


@pytest.fixture(scope="module")
def params(net):
    (w, b) = (jnp.asarray(a.detach().numpy()) for a in (net.fc.weight.T, net.fc.bias))
    return from_torch(net), (w, b)


def weights(net, prefix=""):
    return {f"{prefix}{name}": a for name, a in net.state_dict().items()}


def optimizer(net, kind="Adam"):
    made = getattr(torch.optim, kind)(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    for parameter in net.parameters():  # moments, without a change of the weights
        made.state[parameter] = {"step": torch.tensor(3.0), "exp_avg": torch.ones_like(parameter)}
    return made.state_dict()


class Settings:
    """A class of the user's own, among the hyperparameters."""

    def __init__(self):
        self.width = 3


class Attributes(dict):
    """As Lightning keeps hyperparameters."""


def lightning(net, prefix):
    progress = {"total": {"ready": 3}, "current": {"ready": 1}}
    return {
        "epoch": 2,
        "global_step": 40,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": weights(net, prefix),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": progress, "best": torch.tensor([0.5, 1.0])}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.3), "dirpath": "/a"}},
        "optimizer_states": [optimizer(net)],
        "lr_schedulers": [{"_last_lr": [0.1], "last_epoch": 2}],
        "hparams_name": "kwargs",
        "hyper_parameters": Attributes(hidden=H, path=pathlib.PurePosixPath("/data"), args=Settings()),
    }


def tutorial(net, prefix):
    return {
        "epoch": 5,
        "model_state_dict": weights(net, prefix),
        "optimizer_state_dict": optimizer(net),
        "scheduler_state_dict": {"base_lrs": [0.1], "last_epoch": 5},
        "loss": torch.tensor(0.4),
        "best_acc": np.float64(0.9),
        "history": [{"loss": 0.5, "acc": 0.7}, {"loss": 0.4, "acc": 0.8}],
        "rng_state": torch.get_rng_state(),
        "args": argparse.Namespace(lr=0.1, root=pathlib.PurePosixPath("/data")),
    }


def bare(net, prefix):
    return weights(net, prefix)


SCALER = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 3}


def nested(net, prefix):
    return {"state": {"net": weights(net, prefix), "amp": SCALER}, "steps": [1, 2]}


CHECKPOINTS = {
    "lightning": (lightning, ("loops", "callbacks", "optimizer_states", "hyper_parameters", "epoch")),
    "tutorial": (tutorial, ("optimizer_state_dict", "loss", "best_acc", "rng_state", "args", "epoch")),
    "bare": (bare, ()),
    "nested": (nested, ("steps", "state.amp")),
}


def averaged(net, prefix):
    """The state_dict of `torch.optim.swa_utils.AveragedModel`."""
    return {"n_averaged": torch.tensor(3), **weights(net, f"module.{prefix}")}


CHECKPOINTS["averaged"] = (averaged, ("n_averaged",))


@pytest.mark.parametrize("end", [".ckpt", ".pth.tar", ".tar", ".pt", ".bin"])
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_it_is_read_without_options_and_says_what_it_passed_over(name, end, net, params, tmp_path, capsys):
    make, beside = CHECKPOINTS[name]
    path = tmp_path / f"epoch=2-step=40{end}"
    prefix = PREFIXES[len(end) % len(PREFIXES)]
    torch.save(make(net, prefix), path)
    read = load_weights(path)
    assert isinstance(read, NetworkParams)
    same(read.layers, params[0])
    same(tuple(read.head), params[1])
    assert main(["convert", str(path), str(tmp_path / "out.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("left behind: ")] == []
    said = [line for line in lines if line.startswith("left behind, as no weights: ")]
    assert len(said) == bool(beside)
    assert all(word in said[0] for word in beside)


@pytest.mark.parametrize("own", [False, True])
def test_the_negative_bit_of_a_tensor_is_read(own, net, params, tmp_path):
    """Such a tensor shares the numbers of another one with the other sign."""
    negative = {}
    for name, a in weights(net).items():
        b = torch.complex(torch.zeros_like(a), -a).conj().imag
        assert b.is_neg()
        negative[name] = torch.nn.Parameter(b) if own else b
    torch.save(negative, tmp_path / "a.pt")
    read = load_weights(tmp_path / "a.pt")
    same(read.layers, params[0])
    same(tuple(read.head), params[1])


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_prefixes_of_wrappers_need_no_option(name, prefix, net, params, tmp_path):
    torch.save(CHECKPOINTS[name][0](net, prefix), tmp_path / "a.ckpt")
    same(load_weights(tmp_path / "a.ckpt").layers, params[0])
    same(load_weights(tmp_path / "a.ckpt", prefix=f"{prefix}lstm.").layers, params[0])


def test_weights_beside_the_model_are_not_passed_over(net, tmp_path):
    """A second model, or numbers that scale the inputs, are no bookkeeping."""
    for more, words in (
        ({"ema": weights(net)}, r"there are several LSTMs: prefix can be 'ema\.lstm\.', 'model\.lstm\.'"),
        ({"decoder": {"conv.weight": torch.ones(2, 3, 4)}}, r"holds more than LSTM layers and a head: decoder\.conv"),
        ({"mean": torch.ones(I)}, "holds more than LSTM layers and a head: mean"),
        ({"x_std": [0.5, 2.0]}, "holds more than LSTM layers and a head: x_std"),
        ({"scale": 0.5}, "holds more than LSTM layers and a head: scale"),
        ({"means": np.ones(I)}, "holds more than LSTM layers and a head: means"),
        ({"scaler": Settings()}, "holds more than LSTM layers and a head: scaler"),
        ({"table": np.ones(I)}, "holds more than LSTM layers and a head: table"),
        ({"extra": {"scale": torch.tensor(2.0)}}, r"holds more than LSTM layers and a head: extra\.scale"),
    ):
        torch.save({"model": weights(net)} | more, tmp_path / "a.pt")
        with pytest.raises(ConvertError, match=words):
            load_weights(tmp_path / "a.pt")
    torch.save(weights(net) | {"temperature": torch.tensor(2.0)}, tmp_path / "a.pt")
    with pytest.raises(ConvertError, match="holds more than LSTM layers and a head: temperature"):
        load_weights(tmp_path / "a.pt")


def test_several_lstms_are_named_by_the_ends_of_their_names(tmp_path):
    up, down = torch.nn.LSTM(H, 3), torch.nn.LSTM(I, H)
    arrays = {f"model.rnns.{n}.{name}": a for n, lstm in enumerate((down, up)) for name, a in lstm.state_dict().items()}
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": arrays, "pytorch-lightning_version": "2.0"}, path)
    for names in (["0", "1"], ["rnns.0", "model.rnns.1"], ["state_dict.model.rnns.0", "rnns.1"]):
        same(load_weights(path, names=names), (*from_torch(down), *from_torch(up)))
    same(load_weights(path, prefix="rnns.1.", extra="drop"), from_torch(up))
    with pytest.raises(
        ConvertError, match=r"there are the LSTMs state_dict\.model\.rnns\.0, .*1, and none ends in 'x'"
    ):
        load_weights(path, names=["x"])


def test_a_whole_module_is_refused_with_what_to_do(net, tmp_path):
    for value, words in (
        (
            torch.nn.LSTM(I, H),
            r"holds torch\.nn\.modules\.rnn\.LSTM, and to read that is to run code; only tensors are",
        ),
        ({"model": torch.nn.LSTM(I, H), "epoch": 1}, r"holds torch\.nn\.modules\.rnn\.LSTM, and to read that"),
        (
            {"model": torch.nn.LSTM(I, H), "optimizer": {"x": torch.ones(3)}},
            r"there is no LSTM in it .*; model is an object \(torch\.nn\.modules\.rnn\.LSTM\), which is not unpickled",
        ),
        (torch.ones(3), "holds a tensor, expected a state_dict"),
    ):
        torch.save(value, tmp_path / "a.pt")
        with pytest.raises(ConvertError, match=words) as error:
            load_weights(tmp_path / "a.pt")
        assert "torch.save(module.state_dict(), path)" in str(error.value)
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as file:  # as torch.jit.save writes it
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            file.writestr(f"a/{name}", b"")
    with pytest.raises(ConvertError, match=r"is a program of TorchScript, .*torch\.jit\.load\(path\)\.state_dict"):
        load_weights(tmp_path / "a.pt")


def test_every_dtype_and_view_is_read_without_pytorch(tmp_path, monkeypatch):
    w = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "a.pt"
    names = ("weight_ih_l0", "weight_hh_l0")
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        views = (w.to(dtype).T, torch.nn.Parameter(torch.stack([w.to(dtype)] * 3, 1)[:, 1, ::4].T[:, :3].T[:, :4]))
        hidden = torch.arange(64, dtype=torch.float32).reshape(4, 16).to(dtype).T[:, ::1]
        torch.save(dict(zip(names, (views[0], hidden), strict=True)) | {"view": views[1]}, path)
        with jax.enable_x64(True), monkeypatch.context() as without:
            without.setitem(sys.modules, "torch", None)
            (read,) = load_weights(path, extra="drop")
        expected = [a.to(torch.float64).numpy() for a in (views[0], hidden)]
        assert str(read.w_x.dtype) == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(np.asarray(read.w_x, np.float64), expected[0].reshape(4, 4, 3).transpose(2, 0, 1))
        np.testing.assert_array_equal(np.asarray(read.w_h, np.float64), expected[1].reshape(4, 4, 4).transpose(2, 0, 1))


def archive(path, data):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", data)


@pytest.mark.thorough
def test_a_pickle_reserves_no_memory_and_grows_to_no_tree(tmp_path):
    path = tmp_path / "a.pt"
    archive(path, b"\x80\x02}r\xff\xff\xff\x7f.")  # an object at place 2^31 of the unpickler's memory
    with pytest.raises(ConvertError, match="claims to hold 2,147,483,647 objects in 9 bytes"):
        load_weights(path)
    tree = {"a": 1.0}
    for _ in range(40):
        tree = {"a": tree, "b": tree}
    archive(path, pickle.dumps(tree, 2))
    with pytest.raises(ConvertError, match="holds more than 1,048,576 names"):
        load_weights(path)


def test_many_views_of_one_storage_are_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "FREE", 2**16)
    w = torch.zeros(64, 64)
    torch.save({f"weight{n}": w.T for n in range(4000)}, tmp_path / "a.pt")
    with pytest.raises(ConvertError, match="claims to hold 65,536,000 bytes of arrays in"):
        load_weights(tmp_path / "a.pt")


def test_bytes_in_the_other_order_are_turned(tmp_path):
    arrays = {name: torch.randn(16, n) for name, n in (("weight_ih_l0", 3), ("weight_hh_l0", 4))}
    torch.save(arrays, tmp_path / "little.pt")
    with zipfile.ZipFile(tmp_path / "little.pt") as little, zipfile.ZipFile(tmp_path / "big.pt", "w") as big:
        for name in little.namelist():
            data = little.read(name)
            if "/data/" in name:
                data = np.frombuffer(data, "<f4").byteswap().tobytes()
            big.writestr(name, b"big" if name.endswith("byteorder") else data)
    same(load_weights(tmp_path / "big.pt"), from_torch(arrays))


def test_nothing_of_a_pickle_is_called(tmp_path):
    """Every instruction that names or makes an object makes a stand-in, and changes nothing outside."""
    path, before = tmp_path / "a.pt", dict(vars(pickled.Builder))
    for data in (
        b"\x80\x02}(X\x01\x00\x00\x00aco\nsystem\nX\x02\x00\x00\x00ls\x85Ru.",  # GLOBAL, REDUCE
        b"\x80\x04}(X\x01\x00\x00\x00a\x8c\x02os\x8c\x06system\x93X\x02\x00\x00\x00ls\x85Ru.",  # STACK_GLOBAL
        b"}(S'a'\n(S'ls'\nios\nsystem\nu.",  # INST
        b"\x80\x02}(X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00buildK\x01sbu.",  # BUILD
    ):
        archive(path, data)
        with pytest.raises(ConvertError, match=r"code|there is no LSTM in it|is no whole PyTorch file"):
            load_weights(path)
    assert dict(vars(pickled.Builder)) == before


def test_parts_of_large_models_are_read_by_their_index_and_never_alone(tmp_path):
    torch_form = {"low": {}, "high": {}}
    save_weights((layer(biases=2), layer(H, 2, biases=2)), tmp_path / "both.npz", form="torch")
    with np.load(tmp_path / "both.npz") as file:
        for name in file.files:
            torch_form["low" if name.endswith("l0") else "high"][name] = file[name]
    from safetensors.numpy import save_file

    parts = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for part, arrays in zip(parts, torch_form.values(), strict=True):
        save_file(arrays, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    places = {name: part for part, arrays in zip(parts, torch_form.values(), strict=True) for name in arrays}
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    same(load_weights(index), load_weights(tmp_path / "both.npz"))
    with pytest.raises(
        ConvertError, match=r"is part 1 of 2, .* read model\.safetensors\.index\.json, which names them"
    ):
        load_weights(tmp_path / parts[0])
    for weight_map, words in (
        ({"a": "../both.npz"}, r"names the file '\.\./both\.npz', which does not stand beside it"),
        ({"a": "none.safetensors"}, r"names the file 'none\.safetensors', which does not stand beside it"),
        (
            places | {"a": parts[0]},
            r"says that 'a' stands in model-00001-of-00002\.safetensors, which does not hold it",
        ),
        ([], "is no index of weights, which has a weight_map"),
    ):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ConvertError, match=words):
            load_weights(index)
    torch.save({name: torch.from_numpy(a) for name, a in torch_form["low"].items()}, tmp_path / "pytorch_model.bin")
    same(load_weights(tmp_path / "pytorch_model.bin"), load_weights(tmp_path / "both.npz")[:1])
    places = dict.fromkeys(torch_form["low"], "pytorch_model.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    same(load_weights(tmp_path / "pytorch_model.bin.index.json"), load_weights(tmp_path / "both.npz")[:1])


def test_metadata_of_safetensors_is_passed_over(net, params, tmp_path):
    from safetensors.torch import save_file

    save_file(net.state_dict(), tmp_path / "model.safetensors", {"format": "pt", "epoch": "3"})
    same(load_weights(tmp_path / "model.safetensors").layers, params[0])


def test_files_of_before_pytorch_1_6_say_what_to_do(net, tmp_path):
    file = io.BytesIO()
    torch.save(net.state_dict(), file, _use_new_zipfile_serialization=False)
    (tmp_path / "old.pth.tar").write_bytes(file.getvalue())
    with pytest.raises(
        ConvertError, match=r"since PyTorch 1\.6; load an older file in PyTorch, and torch.save its state"
    ):
        load_weights(tmp_path / "old.pth.tar")
