"""How much memory does a file take that is larger than the memory is to be?

    python benchmarks/data_stream.py            # 5 GB
    python benchmarks/data_stream.py 0.5        # GB

Writes an NPZ file of that size, T100 I5, in a temporary folder, and opens it with `data.stream` in a process of its
own, which draws 1,000 batches of 32 sequences. Prints the time to copy it into the form that batches are read from, the
time of a batch, and the largest resident memory of that process, imports included.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

T, I = 100, 5
READ = """
import resource, sys, time
from lstmjax.config import Data
from lstmjax.data import batch, load

start = time.perf_counter()
parts, about = load(Data(source=sys.argv[1], stream=True))
print(f"opened in {time.perf_counter() - start:.0f} s, the copy included")
start = time.perf_counter()
parts, about = load(Data(source=sys.argv[1], stream=True))
print(f"opened again in {time.perf_counter() - start:.0f} s")
start = time.perf_counter()
for step in range(1000):
    batch(parts.train, 32, seed=0, step=step)
print(f"{1e3 * (time.perf_counter() - start):.0f} µs a batch of {len(parts.train.x):,} sequences")
print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB resident at most")
"""


def main() -> None:
    size = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    blocks, of_block = max(int(size * 1e9 / (4 * T * I)) // 10_000, 1), 10_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npz"
        random = np.random.default_rng(0)
        with zipfile.ZipFile(path, "w") as archive:
            for name, shape, kind in (("x", (blocks * of_block, T, I), "<f4"), ("y", (blocks * of_block,), "|i1")):
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
                    rows = (of_block, *shape[1:])
                    block = random.random(rows, np.float32) if name == "x" else random.integers(0, 2, rows, np.int8)
                    for _ in range(blocks):
                        file.write(block.tobytes())
        print(f"{path.stat().st_size / 1e9:.2f} GB, {blocks * of_block:,} sequences")
        subprocess.run([sys.executable, "-c", READ, str(path)], check=True)


if __name__ == "__main__":
    main()
