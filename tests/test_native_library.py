"""The library of the native kernel: it is registered where this jaxlib can use it, and refused in words elsewhere."""

import hashlib
import re
import tomllib
from pathlib import Path

import jax
import pytest

import lstmjax
from lstmjax import explain_backend, init_params
from lstmjax.backends import native_arrays, native_library
from lstmjax.bench import machine

ROOT = Path(lstmjax.__file__).parent.parent
PYPROJECT = ROOT / "pyproject.toml"


def test_a_library_is_used_by_a_jaxlib_of_its_ffi_version_or_a_newer_one():
    assert native_library.mismatch((0, 3), (0, 3)) is None
    assert native_library.mismatch((0, 3), (0, 5)) is None
    assert "built for FFI version 0.5, and this jaxlib has 0.3" in native_library.mismatch((0, 5), (0, 3))
    assert "built for FFI version 0.3, and this jaxlib has 1.0" in native_library.mismatch((0, 3), (1, 0))
    assert "does not say which FFI version" in native_library.mismatch((0, 3), None)


def test_the_ffi_version_of_the_running_jaxlib_is_read_from_its_headers():
    major, minor = native_library.headers_version()
    assert (major, minor) >= (0, 3)


def test_without_a_library_the_reason_says_how_to_build_it(monkeypatch, tmp_path):
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "native_library.py"))
    library = native_library.load.__wrapped__()
    assert library.path is None
    assert "was not built" in library.reason
    assert "pip install ." in library.reason
    assert "checkout, not the one" not in library.reason


def test_in_a_checkout_the_reason_says_that_the_installed_package_is_another_one(monkeypatch, tmp_path):
    """Who runs Python in the checkout after `pip install .` imports the sources, beside which nothing was built."""
    (tmp_path / "CMakeLists.txt").touch()
    monkeypatch.setattr(native_library, "__file__", str(tmp_path / "lstmjax" / "backends" / "native_library.py"))
    reason = native_library.load.__wrapped__().reason
    assert "was not built" in reason
    assert "lstmjax from a checkout, not the one that `pip install .` installed" in reason
    assert "Start it in another folder, or build the kernel in the checkout with `pip install -e .`." in reason


def test_a_library_for_newer_headers_is_not_registered_and_jax_goes_on(monkeypatch):
    path = native_library.load().path
    if path is None:
        pytest.skip("the native kernel is not built")
    registered = []
    monkeypatch.setattr(native_library, "headers_version", lambda: (0, 2))
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda name, *_, **__: registered.append(name))
    library = native_library.load_file(path)
    assert "cannot be used: it was built for FFI version 0.3, and this jaxlib has 0.2" in library.reason
    assert registered == []


def test_a_library_of_other_sources_is_not_registered_and_everybody_says_so(monkeypatch):
    path = native_library.load().path
    if path is None:
        pytest.skip("the native kernel is not built")
    assert native_library.outdated(native_arrays.interface().encode()) is None
    assert "does not describe its calls" in native_library.outdated(None)
    registered = []
    monkeypatch.setattr(jax.ffi, "register_ffi_target", lambda name, *_, **__: registered.append(name))
    side = native_arrays.SIDES["forward"]
    renamed = {
        "forward": side._replace(axes=side.axes.replace("ngh", "nh")),
        "backward": native_arrays.SIDES["backward"],
    }
    for name, value, message in (
        ("SIDES", renamed, "it has b:ngh, expected b:nh."),
        ("REVISION", -1, f"it has {native_arrays.REVISION}, expected -1."),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(native_arrays, name, value)
            library = native_library.load_file(path)
        assert f"it was built from other sources than those of this lstmjax: {message}" in library.reason
        assert "`pip install .` from a checkout builds it" in library.reason
        assert registered == []
        with monkeypatch.context() as patch:
            patch.setattr(native_library, "load", lambda library=library: library)
            chosen = explain_backend(init_params(jax.random.key(0), 2, 4), jax.numpy.ones((9, 3, 2)))
            assert message in str(chosen)
            assert message in machine._kernel()


@pytest.mark.skipif(not PYPROJECT.exists(), reason="the sources are not here: an installed package")
def test_the_revision_is_raised_when_a_function_of_the_stream_changes():
    """Python calls these by ctypes, which checks nothing: a library with others must not be used."""
    header = (ROOT / "native" / "stream.h").read_text(encoding="utf-8")
    declared = " ".join(" ".join(re.findall(r"^LSTMJAX_STREAM .*?;", header, re.MULTILINE | re.DOTALL)).split())
    found = native_arrays.REVISION, hashlib.sha256(declared.encode()).hexdigest()[:16]
    recorded = 1, "c38101fb23fda589"
    assert found == recorded, "native/stream.h has changed: raise REVISION in native_arrays.py, and record both here"


def test_what_jax_refuses_to_register_is_a_reason(monkeypatch):
    path = native_library.load().path
    if path is None:
        pytest.skip("the native kernel is not built")

    def refuse(*_, **__):
        raise RuntimeError("incompatible")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    assert "was refused by JAX: incompatible" in native_library.load_file(path).reason


@pytest.mark.parametrize("name", ["AVX2", "avx2 ", "sse"])
def test_an_instruction_set_that_does_not_exist_is_refused(monkeypatch, tmp_path, name):
    """It would run the slowest instructions, and nobody would be told."""
    monkeypatch.setenv("LSTMJAX_INSTRUCTION_SET", name)
    library = native_library.load_file(tmp_path / "native_kernel.so")
    assert (
        f"LSTMJAX_INSTRUCTION_SET is {name!r}, expected avx512, avx2, neon or baseline, or nothing." in library.reason
    )


def test_a_file_that_is_no_library_is_refused(tmp_path):
    path = tmp_path / "native_kernel.so"
    path.write_bytes(b"not a library")
    assert "cannot be loaded" in native_library.load_file(path).reason


@pytest.mark.parametrize("share", [0.0, 0.0002, 0.1, 0.5, 0.999])
def test_a_library_that_is_cut_off_is_refused_before_it_is_mapped(tmp_path, share):
    """Left by a copy that was interrupted: mapping such a file ends the process, which no `except` catches."""
    path = native_library.load().path
    if path is None:
        pytest.skip("the native kernel is not built")
    content = path.read_bytes()
    shortened = tmp_path / path.name
    shortened.write_bytes(content[: int(share * len(content))])
    if len(content) * share >= 64 and content[:4] == b"\x7fELF":
        assert f"is cut off: it has {int(share * len(content)):,} bytes" in native_library.cut_off(shortened)
        assert native_library.cut_off(path) is None
    reason = native_library.load_file(shortened).reason
    assert "the native kernel cannot be loaded: " in reason
    assert "`pip install .` from a checkout builds it" in reason


@pytest.mark.skipif(not PYPROJECT.exists(), reason="the sources are not here: an installed package")
def test_the_library_is_built_for_the_oldest_jaxlib():
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    (oldest,) = (name.removeprefix("jax>=") for name in project["project"]["dependencies"] if name.startswith("jax>="))
    assert f"jaxlib=={oldest}.0" in project["build-system"]["requires"]
