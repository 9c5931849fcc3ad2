"""PyTorch on the same GPU, for copies, products and attention: one JSON line a row."""

import json
import statistics
import sys
import time

import torch


def timed(run, rounds=7):
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def gemm(transpose_a=False, transpose_b=False):
    """cuBLAS, f16 factors and result, f32 sums."""
    a, b = (torch.randn(4096, 4096, device="cuda", dtype=torch.float16) for _ in range(2))
    a, b = (a.T if transpose_a else a), (b.T if transpose_b else b)
    many = 20

    def run():
        for _ in range(many):
            a @ b

    return 2 * 4096**3 * many / timed(run) / 1e12


def copy():
    x = torch.empty(2**28, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.numel() * 4 / timed(lambda: y.copy_(x)) / 1e9


def attention(backward=False):
    """scaled_dot_product_attention, by the kernel that PyTorch chooses: milliseconds."""
    q, k, v, dy = (torch.randn(8, 12, 2048, 64, device="cuda", dtype=torch.float16, requires_grad=backward) for _ in range(4))
    many = 20

    def run():
        for _ in range(many):
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            if backward:
                torch.autograd.grad(y, (q, k, v), dy)

    return timed(run) / many * 1e3


rows = {
    "roofline-copy": (copy, "GB/s"),
    "attention-forward": (attention, "ms"),
    "attention-train": (lambda: attention(backward=True), "ms"),
    "gemm-4096": (gemm, "TFLOP/s"),
    "gemm-4096-nt": (lambda: gemm(transpose_b=True), "TFLOP/s"),
    "gemm-4096-tn": (lambda: gemm(transpose_a=True), "TFLOP/s"),
}

print(json.dumps({"name": "model", "peer": torch.cuda.get_device_name()}), flush=True)
for name, (measure, unit) in rows.items():
    try:
        print(json.dumps({"name": name, "unit": unit, "peer": measure()}), flush=True)
    except Exception as error:  # too little memory: the other rows still count
        print(f"{name}: {error}", file=sys.stderr)
    torch.cuda.empty_cache()
