#!/usr/bin/env bash
# Everything to be run on a machine with a GPU, step by step, for machines that are lent for minutes:
#   bash benchmarks/on_gpu.sh tests|suite|quick|kernels OUT [WHEELS]
# tests: those that need a GPU. suite: the figures of `python -m benchmarks.compute --suite gpu`; stopped, it goes on where it was.
# quick: one turn of each figure, nothing kept. kernels: what a packed training step spends its time on.
# Results are copied into OUT. WHEELS is a folder of packages for a machine that reaches no registry.
set -euo pipefail
step=${1:?tests, suite, quick or kernels} out=${2:?a folder for results} wheels=${3:-}
cd "$(dirname "$0")/.."
mkdir -p "$out"
if [ -n "$wheels" ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target site "$wheels"/*.whl
  export PYTHONPATH=$PWD/site:$PWD
fi
python3 -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"; print(torch.__version__, torch.cuda.get_device_name())'
case $step in
  tests) python3 -m pytest -q -p no:cacheprovider tests/act/test_on_gpu.py tests/distributed/test_precision_on_gpu.py 2>&1 | tee "$out/tests.txt" ;;
  suite) trap 'cp benchmarks/results/gpu.* "$out" 2>/dev/null || true' EXIT
         python3 -m benchmarks.compute --suite gpu 2>&1 | tee "$out/suite.txt" ;;
  quick) python3 -m benchmarks.compute --suite gpu --quick 2>&1 | tee "$out/quick.txt" ;;
  kernels) python3 -m benchmarks.compute.kernels 2>&1 | tee "$out/kernels.txt" ;;
  *) echo "no step $step: tests, suite, quick or kernels" >&2; exit 2 ;;
esac
