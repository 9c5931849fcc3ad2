"""PyTorch on the same GPU: one JSON line a row. transformers runs Mamba without mamba_ssm's kernels.

python3 bench/gpu/peer.py [--only NAME,...]
"""

import argparse
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


def gemm():
    a, b = (torch.randn(4096, 4096, device="cuda", dtype=torch.float16) for _ in range(2))
    many = 20

    def run():
        for _ in range(many):
            a @ b

    return 2 * 4096**3 * many / timed(run) / 1e12


def copy():
    x = torch.empty(2**28, device="cuda")
    y = torch.empty_like(x)
    return 2 * x.numel() * 4 / timed(lambda: y.copy_(x)) / 1e9


def model(dtype):
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(vocab_size=50280, hidden_size=768, num_hidden_layers=24)
    return MambaForCausalLM(config).to("cuda", dtype)


def prefill():
    net = model(torch.bfloat16).eval()
    ids = torch.randint(0, 50000, (1, 2048), device="cuda")
    with torch.no_grad():
        return 2048 / timed(lambda: net(ids), rounds=3)


def decode():
    net = model(torch.bfloat16).eval()
    ids = torch.randint(0, 50000, (1, 8), device="cuda")

    def run():
        net.generate(ids, max_new_tokens=32, min_new_tokens=32, do_sample=False)

    return 32 / timed(run, rounds=3)


def train():
    """A shorter and narrower batch than ours: without fused kernels the activations of B = 8, L = 2048 do not fit."""
    net = model(torch.float32)
    optimiser = torch.optim.AdamW(net.parameters(), fused=True)
    ids = torch.randint(0, 50000, (1, 512), device="cuda")

    def run():
        with torch.autocast("cuda", torch.bfloat16):
            loss = net(ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return 512 / timed(run, rounds=3)


rows = {
    "roofline-copy": (copy, "GB/s"),
    "gemm-4096": (gemm, "TFLOP/s"),
    "prefill-130m": (prefill, "tok/s"),
    "decode-130m-b1": (decode, "tok/s"),
    "train-130m": (train, "tok/s"),
}

print(json.dumps({"name": "model", "peer": torch.cuda.get_device_name()}), flush=True)
parser = argparse.ArgumentParser()
parser.add_argument("--only", default=",".join(rows))
for name in parser.parse_args().only.split(","):
    measure, unit = rows[name]
    try:
        print(json.dumps({"name": name, "unit": unit, "peer": measure()}), flush=True)
    except Exception as error:  # a missing package or too little memory: the other rows still count
        print(f"{name}: {error}", file=sys.stderr)
    torch.cuda.empty_cache()
