"""The shared library of the native kernel: where it is, whether this jaxlib can use it, and its registration.

`pip install .` compiles native/ into one library beside this file, where there is a C++ compiler. It needs no Python
ABI: its handlers are plain symbols, which `jax.ffi` takes. Nothing here happens when lstmjax is imported.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import jax

from lstmjax.backends import native_arrays

TARGETS = ("lstmjax_forward", "lstmjax_backward")
"""The handlers that the library exports, under the names that XLA knows them by."""

REBUILD = (
    "With a C++ compiler (apt-get install g++, or xcode-select --install on macOS) `pip install .` from a checkout "
    "builds it; pip install -v . shows what the compiler says."
)

CHECKOUT = (
    "This is lstmjax from a checkout, not the one that `pip install .` installed: Python prefers the folder that it "
    "was started in. Start it in another folder, or build the kernel in the checkout with `pip install -e .`."
)


SETS = ("avx512", "avx2", "neon", "baseline")
"""What the environment variable LSTMJAX_INSTRUCTION_SET may name; see native/sets.h."""


@dataclass(frozen=True)
class Library:
    """A library that is loaded and whose handlers are registered, or the reason why there is none."""

    path: Path | None = None
    instruction_set: str | None = None  # "avx512", "avx2", "neon" or "baseline": the widest that the processor has
    reason: str | None = None  # why the kernel cannot run, with the remedy; None where it can


def headers_version() -> tuple[int, int] | None:
    """Return the FFI version (major, minor) of the jaxlib that is running, or None if it came without its headers."""
    header = Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    if not header.exists():
        return None
    text = header.read_text(encoding="utf-8")
    major, minor = (re.search(rf"#define XLA_FFI_API_{part} (\d+)", text) for part in ("MAJOR", "MINOR"))
    return (int(major[1]), int(minor[1])) if major and minor else None


def mismatch(built: tuple[int, int], running: tuple[int, int] | None) -> str | None:
    """Return why a jaxlib cannot use a library that was built against FFI version `built`, or None if it can.

    A jaxlib takes handlers of its own major version, of its own minor version or an older one.
    """
    if running is None:
        return "this jaxlib does not say which FFI version it has: its header xla/ffi/api/c_api.h is missing."
    if built[0] != running[0] or built[1] > running[1]:
        versions = "it was built for FFI version {}.{}, and this jaxlib has {}.{}".format(*built, *running)
        return f"{versions}. Install lstmjax again, or a newer JAX."
    return None


def outdated(built: bytes | None) -> str | None:
    """Return why the text of a library about its calls, `built`, does not fit this package, or None if it does."""
    expected = native_arrays.interface()
    if built is not None and built.decode() == expected:
        return None
    described = "it does not describe its calls"
    if built is not None:
        pairs = itertools.zip_longest(built.decode().split(), expected.split(), fillvalue="nothing")
        described = "it has {}, expected {}".format(*next(pair for pair in pairs if len(set(pair)) == 2))
    return f"it was built from other sources than those of this lstmjax: {described}. {REBUILD}"


def cut_off(path: Path) -> str | None:
    """Return why an ELF library is not whole, or None if it is, or is of another format.

    The loader maps a file without looking at its end, and a page that is not there ends the process (SIGBUS). The
    table of sections, which stands last, says how long the file must be.
    """
    with path.open("rb") as file:
        header = file.read(64)
        size = file.seek(0, 2)
    if len(header) < 64 or header[:5] != b"\x7fELF\x02":  # 64 bits; the loader itself refuses what is shorter
        return None
    order = "<" if header[5] == 1 else ">"
    (start,) = struct.unpack_from(f"{order}Q", header, 40)
    entry, entries = struct.unpack_from(f"{order}HH", header, 58)
    expected = start + entry * entries
    return None if size >= expected else f"{path} is cut off: it has {size:,} bytes, expected {expected:,}"


@functools.cache
def load() -> Library:
    """Load the library and register its handlers, once; return it, or the reason why the kernel cannot run.

    Nothing is registered that this jaxlib would refuse: one refused handler would leave JAX without its CPU backend.
    """
    folder = Path(__file__).parent
    path = next((file for file in sorted(folder.glob("native_kernel.*")) if file.suffix in (".so", ".dll")), None)
    if path is not None:
        return load_file(path)
    reason = f"the native kernel was not built: there is no library in {folder}. {REBUILD}"
    if (folder.parents[1] / "CMakeLists.txt").exists():
        reason += f" {CHECKOUT}"
    return Library(reason=reason)


def load_file(path: Path) -> Library:
    """Load one library and register its handlers, as `load` does."""
    wanted = os.environ.get("LSTMJAX_INSTRUCTION_SET", "")
    if wanted and wanted not in SETS:  # the library itself would run the slowest
        reason = f"LSTMJAX_INSTRUCTION_SET is {wanted!r}, expected {', '.join(SETS[:-1])} or {SETS[-1]}, or nothing."
        return Library(path, reason=f"the native kernel was not loaded: {reason}")
    try:
        shortened = cut_off(path)
        if shortened is not None:
            return Library(path, reason=f"the native kernel cannot be loaded: {shortened}. {REBUILD}")
        library = ctypes.CDLL(str(path))
        built = library.lstmjax_ffi_major(), library.lstmjax_ffi_minor()
        library.lstmjax_instruction_set.restype = ctypes.c_char_p
        instruction_set = library.lstmjax_instruction_set().decode()
        capsules = {name: jax.ffi.pycapsule(getattr(library, name)) for name in TARGETS}
        describe = getattr(library, "lstmjax_interface", None)  # absent before there was such a function
    except (OSError, AttributeError) as error:
        return Library(path, reason=f"the native kernel cannot be loaded: {error}. {REBUILD}")
    if describe is not None:
        describe.restype = ctypes.c_char_p
    reason = mismatch(built, headers_version()) or outdated(describe and describe())
    if reason is not None:
        return Library(path, reason=f"the native kernel cannot be used: {reason}")
    # Before JAX's CPU backend is up, a handler waits for it, and one that it then refuses takes it down. So the
    # backend comes first, and what it refuses is caught here.
    try:
        jax.devices("cpu")
        for name, capsule in capsules.items():
            jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except Exception as error:  # the class of jaxlib's errors differs from version to version
        return Library(path, instruction_set, f"the native kernel was refused by JAX: {error}")
    return Library(path, instruction_set)
