"""A stranger's files, and damaged ones: nothing in them is run, and no memory is taken for what is not there."""

import json
import os
import pickle
import random
import struct
from contextlib import suppress

import numpy as np
import pytest
from against import H, I
from exchange import KEPT, LSTM, layer, needed, ones, pair, same, zipped

from lstmjax import claims
from lstmjax.convert import ConvertError, from_torch, load_weights, save_weights


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def npy(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(11 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def packed(code, data):
    import msgpack

    return msgpack.packb({"params": msgpack.ExtType(code, msgpack.packb(data))})


ZEROS = bytes(2**22)
HOSTILE = {
    "a shape in npz": (".npz", lambda: zipped(**{"a.npy": npy((10**12,))}), "'a' claims to have 4,000,000,000,000 byt"),
    "a bomb in npz": (".npz", lambda: zipped(**{"a.npy": npy((2**20,)) + ZEROS}), "claims to hold 4,194,432 b"),
    "a bomb in keras": (
        ".keras",
        lambda: zipped(**{"config.json": b"{}", "model.weights.h5": ZEROS}),
        "claims to hold",
    ),
    "deep json": (
        ".keras",
        lambda: zipped(**{"config.json": b"[" * 9**4, "model.weights.h5": b""}),
        "no whole Keras f",
    ),
    "no weights": (".keras", lambda: zipped(a=b"1"), "holds a, expected config.json and model.weights.h5"),
    "a header": (".safetensors", lambda: struct.pack("<Q", 2**60) + b"{}", "is no whole safetensors file"),
    "a shape in msgpack": (".msgpack", lambda: packed(1, ((10**12,), "float32", b"")), "is no whole msgpack file"),
    "objects in msgpack": (".msgpack", lambda: packed(1, ((1,), "O", b"12345678")), "is no whole msgpack file"),
    "many in msgpack": (".msgpack", lambda: b"\xdd\xff\xff\xff\xff" * 2000, "is no whole msgpack file"),
    "no tree": (".msgpack", lambda: b"\x01", "holds a int, expected a tree of arrays"),
    "deep names": (
        ".npz",
        lambda: zipped(**{f"{'a/' * 9999}if/kernel.npy": npy((1,)) + bytes(4)}),
        "has 10000 folders; the most is 64",
    ),
    "a name below an array": (
        ".npz",
        lambda: zipped(**{name: npy((1,)) + bytes(4) for name in ("a/if/kernel.npy", "a/if.npy")}),
        "'a/if' is an array, and has others below it",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_claims_too_much_is_refused_before_memory_is_taken(name, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "FREE", 2**16)  # so that the bombs of the tests can be small
    end, data, words = HOSTILE[name]
    needed(end)
    path = tmp_path / f"hostile{end}"
    path.write_bytes(data())
    with pytest.raises(ConvertError, match=words) as error:
        load_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_no_object_of_an_npz_file_is_unpickled(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, weight_ih_l0=np.array([Evil(tmp_path / "run")], object), weight_hh_l0=ones(16, 4))
    with pytest.raises(ConvertError, match="'weight_ih_l0' is object, expected numbers: float16, bfloat16, float32"):
        load_weights(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.peers
def test_no_code_in_a_pytorch_file_is_run(tmp_path):
    torch = pytest.importorskip("torch")
    path, evil = tmp_path / "evil.pt", Evil(tmp_path / "run")
    only = r"os\.mkdir|posix\.mkdir|nt\.mkdir"
    for value, words in (
        ({"x": evil}, rf"holds ({only}), and to read that is to run code; .* Save the module's state_dict"),
        (torch.nn.LSTM(2, 3), r"holds torch\.nn\.modules\.rnn\.LSTM, and to read that is to run code"),
        ({"weight_ih_l0": torch.ones(1).expand(10**6, 10**6)}, r"'weight_ih_l0' claims shape \(1000000, 1000000\)"),
        ([torch.ones(2)], "holds a list, expected a state_dict"),
        ({"a": bytearray(3)}, "bytearray, and to read that is to run code"),
    ):
        torch.save(value, path)
        with pytest.raises(ConvertError, match=words):
            load_weights(path)
    torch.save({n: torch.from_numpy(a) for n, a in LSTM.items()}, path)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(ones(4).tobytes())] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ConvertError, match="is not what was saved: its checksum is wrong"):
        load_weights(path)
    path.write_bytes(pickle.dumps(evil))
    with pytest.raises(
        ConvertError, match=r"is no whole ZIP archive, as torch\.save has written it since PyTorch 1\.6"
    ):
        load_weights(path)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_pytorch_is_looked_through(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(I, H)
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}  # as Adam's
    optimizer = {"state": {0: moments, 1: moments}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]}
    torch.save({"model": module.state_dict(), "optimizer": optimizer, "epoch": 3}, tmp_path / "at3.pt")
    same(load_weights(tmp_path / "at3.pt"), from_torch(module))


def test_hdf5_opens_no_other_file_and_believes_no_shape(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, name = tmp_path / "h.weights.h5", "layers/lstm/cell/vars/1"
    np.save(tmp_path / "other", ones(4, 16))

    def virtual(file):
        layout = h5py.VirtualLayout((4, 16), "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "a", (4, 16))
        file.create_virtual_dataset(name, layout)

    for make, words in (
        (lambda f: f.create_dataset(name, (10**6, 4 * 10**6), "f4", chunks=(99, 99)), "claims to hold 16"),
        (lambda f: f.create_dataset(name, data=ones(4, 16), compression="gzip"), "is compressed, and may grow"),
        (lambda f: f.create_dataset(name, (4, 16), "f4"), r"has shape \(4, 16\), but its numbers were never written"),
        (
            lambda f: f.create_dataset(name, (4, 16), "f4", external=[(tmp_path / "other.npy", 128, 256)]),
            "points to another",
        ),
        (virtual, "points to another file, which is not opened"),
        (lambda f: f.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/")), "is a link to elsewhere, which is not"),
        (lambda f: f.__setitem__(name, h5py.SoftLink("/x")), "is a link to elsewhere, which is not followed"),
        (lambda f: f.__setitem__(name, ones(4, 16)), "layers/lstm/cell/kernel is missing"),
        (lambda f: f.create_dataset(name, data=["a", "b"]), "layers/lstm/cell/kernel is missing"),
        (lambda f: None, "there is no LSTM in it by the names of lstmjax, torch, .* or haiku; it holds nothing"),
    ):
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(ConvertError, match=words):
            load_weights(path)


@pytest.mark.parametrize("end", [*KEPT, ".keras"])
def test_damaged_files_are_refused_or_read_and_nothing_else(end, tmp_path):
    needed(end)
    path, layers = tmp_path / f"damaged{end}", (pair(biases=2 if end in (".pt", ".onnx") else 1),)
    if end == ".keras":
        save_weights(layers, tmp_path / "a.weights.h5")
        inner = {"class_name": "LSTM", "config": {"name": "l", "return_sequences": True}}
        both = {"class_name": "Bidirectional", "config": {"name": "b", "layer": inner}}
        config = {"class_name": "Sequential", "config": {"layers": [both]}}
        weights = (tmp_path / "a.weights.h5").read_bytes()
        path.write_bytes(zipped(**{"config.json": json.dumps(config), "model.weights.h5": weights}))
    else:
        save_weights(layers, path)
    same(load_weights(path), layers)
    whole, rng = path.read_bytes(), random.Random(end)
    for n in range(30):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if n % 5 == 0 else whole)
        for _ in range(n % 4):
            at = rng.randrange(min(len(damaged), 2000) if n % 2 else len(damaged)) if damaged else 0
            damaged[at : at + 1] = rng.randbytes(1)
        path.write_bytes(damaged)
        with suppress(ConvertError):  # and nothing else
            assert isinstance(load_weights(path, extra="drop"), tuple)


def test_what_is_no_file_of_weights_is_said_in_a_line(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "orbax").mkdir()
    (tmp_path / "orbax" / "_METADATA").touch()
    for name, words in (
        ("orbax", "orbax: is a checkpoint of Orbax, which does not say what its arrays are. Restore it by orbax."),
        ("a.eqx", "or the folder of a run. A file of Equinox does not say what its arrays are: restore the cells by"),
        ("a.pkl", "or the folder of a run. To unpickle is to run code: do it yourself if you trust the file"),
        ("none.npz", "none.npz: no such file"),
        ("a.txt", "a.txt: unknown kind of file; expected a name that ends in .pt, .pth, .bin, .ckpt, .tar, .weights"),
        ("empty.npz", "empty.npz: is no whole NPZ file (File is not a zip file)"),
        (
            "folder",
            "folder: has no config.yaml, so it is not a run folder; lstmjax train creates one and prints its path",
        ),
    ):
        with pytest.raises(ConvertError) as error:
            load_weights(tmp_path / name)
        assert str(error.value).startswith(str(tmp_path))
        assert words in str(error.value)
    for name, form, words in (
        ("a.keras", None, "a Keras file of this name is only read; what is written ends in .pt, .pth"),
        ("a.h5", None, "a HDF5 file of this name is only read"),
        ("a.pt", "keras", "form is 'keras', expected torch for this kind of file"),
        ("a.msgpack", "torch", "form is 'torch', expected linen or nnx for this kind of file"),
        ("none/a.npz", None, f"there is no folder {tmp_path / 'none'}"),
        ("folder", None, "a run folder of this name is only read"),
    ):
        with pytest.raises(ConvertError) as error:
            save_weights(layer(), tmp_path / name, form=form)
        assert words in str(error.value)
