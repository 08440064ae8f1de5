#!/usr/bin/env bash
# The first minutes with a GPU: is everything right on it, and how fast is it? One command, from a bare checkout:
#
#     bash benchmarks/gpu.sh                 # under eight minutes; --minutes 4 for less, --out FOLDER for another folder
#     bash benchmarks/gpu.sh --rehearse      # on a CPU, with tiny sizes: does the script work?
#
# It installs nothing and needs no network: JAX with its CUDA plugin, Flax, Optax, chex, NumPy; PyTorch and others take
# part where they are there. PYTHON names another interpreter than python3.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false # PyTorch needs some of the memory
exec "${PYTHON:-python3}" "$root/benchmarks/gpu/supervise.py" "$@"
