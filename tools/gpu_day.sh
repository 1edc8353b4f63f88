#!/usr/bin/env bash
# Everything that a machine with a GPU is asked, in one command of under ten minutes: build, tests, compute-sanitizer,
# benchmarks. It needs nvcc, CMake, PyTorch with CUDA, and onnxruntime-gpu; with no package index, onnxruntime-gpu comes from
# a tar file as tools/thin_onnxruntime_cuda.py makes it.
#
#     bash tools/gpu_day.sh [ONNXRUNTIME.tar.xz] [OTHER_KERNELS.cu ...]
#
# Results go to $OUT (default /tmp/gpu_day): log.txt, steps.txt, and a JSON file for each benchmark. The figures belong in
# docs/gpu.md, with the date and the card. Each step has its own time limit, and none ends the script.
set -u
cd "$(dirname "$0")/.."
out=${OUT:-/tmp/gpu_day} archive=
mkdir -p "$out"
case ${1:-} in *.tar.xz) archive=$(realpath "$1"); shift ;; esac
others=("$@")
exec > >(tee "$out/log.txt") 2>&1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=4

step() { # step NAME SECONDS COMMAND...
    local name=$1 limit=$2 began=$SECONDS
    shift 2
    echo "=== $name"
    timeout -k 5 "$limit" "$@"
    echo "$name: exit $? after $((SECONDS - began)) s, $((SECONDS)) s in all" | tee -a "$out/steps.txt"
}

step machine 15 bash -c 'nvidia-smi; nvcc --version | tail -2; g++ --version | head -1; python3 --version; lscpu | grep "Model name"'

site=/tmp/gpu_day_site
[ -n "$archive" ] && { mkdir -p $site && tar -xJf "$archive" -C $site & unpack=$!; }
step build 90 bash -c 'cmake -S custom_ops -B /tmp/gpu_day_build -DJR_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=${CUDAARCHS:-native} > /tmp/gpu_day_cmake.log &&
    cmake --build /tmp/gpu_day_build -j 2>&1 | tail -3 && cmake --install /tmp/gpu_day_build --prefix . | tail -1'
[ -n "$archive" ] && wait "$unpack"
export PYTHONPATH=$site:$PWD
# PyTorch's CUDA libraries, for every process and not only for those that import torch first.
LD_LIBRARY_PATH=$(python3 -c '
import pathlib, torch
found = pathlib.Path(torch.__file__).parents[1].joinpath("nvidia").rglob("lib*.so.*")
print(":".join(sorted({str(path.parent) for path in found})))'):${LD_LIBRARY_PATH:-}
export LD_LIBRARY_PATH
step provider 40 python3 -c 'import onnxruntime as o, jr_onnx.runtime as r; from jr_onnx.runtime.selftest import self_test
print(o.__version__, o.get_available_providers(), r.build_info(), self_test())'

step kernel-tests 120 python3 -m pytest -q -p no:cacheprovider -n 6 --dist worksteal tests/gpu/test_cuda_kernels.py
step provider-tests 60 python3 -m pytest -q -p no:cacheprovider tests/gpu/test_cuda_provider.py tests/native/test_library_file.py
step kernels 90 python3 benchmarks/kernel_cuda.py --json "$out/kernels.json" ${others[@]+"${others[@]}"}
step resnet50 110 python3 benchmarks/models_cuda.py --network resnet50 --seconds 90 --json "$out/resnet50.json"
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer /opt/nvidia/*/compute-sanitizer 2> /dev/null | head -1)
for tool in memcheck initcheck racecheck; do
    [ -n "$sanitizer" ] && step $tool 40 "$sanitizer" --tool $tool --error-exitcode 9 --kernel-regex kns=jump_relu python3 tests/gpu/exercise_kernels.py
done

step mobilenet 60 python3 benchmarks/models_cuda.py --network mobilenet_v2 --seconds 40 --json "$out/mobilenet.json"
ncu=$(command -v ncu || ls /opt/nvidia/nsight-compute/*/ncu 2> /dev/null | head -1)
if [ -n "$ncu" ] && [ $SECONDS -lt 500 ]; then
    step ncu 40 "$ncu" --clock-control none --kernel-name-base function --kernel-name jump_relu \
        --metrics dram__throughput.avg.pct_of_peak_sustained_elapsed,gpu__time_duration.sum,sm__warps_active.avg.pct_of_peak_sustained_active,smsp__issue_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread \
        python3 tests/gpu/exercise_kernels.py --large
fi
cat "$out/steps.txt"
