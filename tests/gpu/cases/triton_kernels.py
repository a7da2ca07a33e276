# SPDX-License-Identifier: MIT
# Triton: vector addition, tl.dot with tensor cores, a choice among configurations by measuring, softmax, atomics.
# Integers and powers of two make the product exact, whichever configuration wins.
# needs: torch, triton
# limit: 240
from support import deterministic_torch, show

torch = deterministic_torch()
import triton  # noqa: E402
import triton.language as tl  # noqa: E402


@triton.jit
def add(x, y, z, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    tl.store(z + i, tl.load(x + i, mask=inside) + tl.load(y + i, mask=inside), mask=inside)


@triton.autotune(configs=[triton.Config({"M": m, "N": n, "K": 32}, num_warps=w, num_stages=s)
                          for m, n, w, s in ((64, 64, 4, 2), (128, 64, 4, 3), (64, 128, 8, 3))], key=["size"])
@triton.jit
def matmul(a, b, c, size, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.program_id(0) * M + tl.arange(0, M)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    ks = tl.arange(0, K)
    total = tl.zeros((M, N), dtype=tl.float32)
    for k in range(0, size, K):
        total += tl.dot(tl.load(a + rows[:, None] * size + (k + ks)[None, :]),
                        tl.load(b + (k + ks)[:, None] * size + columns[None, :]))
    tl.store(c + rows[:, None] * size + columns[None, :], total)


@triton.jit
def softmax(x, y, columns, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * columns + i, mask=i < columns, other=-float("inf"))
    top = tl.exp(row - tl.max(row, axis=0))
    tl.store(y + tl.program_id(0) * columns + i, top / tl.sum(top, axis=0), mask=i < columns)


@triton.jit
def count(x, bins, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.atomic_add(bins + tl.load(x + i, mask=i < n, other=0), 1, mask=i < n)


generator = torch.Generator().manual_seed(13)
x, y = (torch.randn(98765, generator=generator).cuda() for _ in "xy")
z = torch.empty_like(x)
kernel = add[(triton.cdiv(x.numel(), 1024),)](x, y, z, x.numel(), BLOCK=1024)
show("add", z, kernel.n_regs > 0, kernel.n_spills)
for size in (256, 512):
    a, b = (torch.randint(-4, 5, (size, size), generator=generator).half().cuda() for _ in "ab")
    c = torch.empty(size, size, device="cuda")
    matmul[lambda meta: (triton.cdiv(size, meta["M"]), triton.cdiv(size, meta["N"]))](a, b, c, size)
    show("matmul", size, c, torch.equal(c, a.float() @ b.float()))
rows = torch.randn(128, 1000, generator=generator).cuda()
out = torch.empty_like(rows)
softmax[(128,)](rows, out, 1000, BLOCK=1024)
show("softmax", out)
bins = torch.zeros(64, dtype=torch.int32, device="cuda")
numbers = torch.randint(64, (50000,), generator=generator).cuda()
count[(triton.cdiv(50000, 512),)](numbers, bins, 50000, BLOCK=512)
show("atomics", bins)
milliseconds = triton.testing.do_bench(lambda: add[(97,)](x, y, z, x.numel(), BLOCK=1024), warmup=5, rep=20)
show("measured", 0 < milliseconds < 1000)
