"""The library of the native kernel: it is registered where this jaxlib can use it, and refused in words elsewhere."""

from pathlib import Path

import jax
import pytest

import lstmjax
from lstmjax.backends import native_library

ROOT = Path(lstmjax.__file__).parent.parent
HEADERS = ROOT / "native" / "third_party" / "xla" / "ffi" / "api"


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


def test_what_jax_refuses_to_register_is_a_reason(monkeypatch):
    path = native_library.load().path
    if path is None:
        pytest.skip("the native kernel is not built")

    def refuse(*_, **__):
        raise RuntimeError("incompatible")

    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    assert "was refused by JAX: incompatible" in native_library.load_file(path).reason


def test_a_file_that_is_no_library_is_refused(tmp_path):
    path = tmp_path / "native_kernel.so"
    path.write_bytes(b"not a library")
    assert "cannot be loaded" in native_library.load_file(path).reason


@pytest.mark.skipif(not HEADERS.exists(), reason="the sources are not here: an installed package")
def test_the_headers_are_those_of_the_oldest_jaxlib():
    ours = {path.name: path.read_bytes() for path in HEADERS.glob("*.h")}
    assert sorted(ours) == ["api.h", "c_api.h", "ffi.h"]
    assert b"#define XLA_FFI_API_MINOR 3" in ours["c_api.h"]
    if native_library.headers_version() == (0, 3):
        installed = Path(jax.ffi.include_dir(), "xla", "ffi", "api")
        assert ours == {path.name: path.read_bytes() for path in installed.glob("*.h")}
