# SPDX-License-Identifier: MIT
# Many kernels of PyTorch once each: reductions, sorting, indexing, random numbers, odd types, large and empty tensors.
# needs: torch
from support import deterministic_torch, show

torch = deterministic_torch()
generator = torch.Generator().manual_seed(21)
x = torch.randn(1000, 333, generator=generator).cuda()
n = torch.randint(-1000, 1000, (1000, 333), generator=generator).cuda()
show("sums", x.sum(), x.mean(1), x.var(0), x.std(), x.prod(1), x.norm(), n.sum(), n.float().median())
show("extremes", x.max(0).values, x.argmin(1), x.amax(), x.topk(7).values)
show("sorted", x.sort(stable=True).indices, n.unique(), n.unique_consecutive(), torch.searchsorted(x[0].sort().values, x[1]))
show("scans", n.cumsum(0), n.cummax(1).values, n.cumprod(1))
show("masks", x[x > 1], torch.where(x > 0, x, -x), x.masked_fill(x < 0, 7), torch.nonzero(n == 5))
show("moves", x.roll(3, 0), x.flip(1), x.t().contiguous(), torch.cat([x, x]), torch.stack([x, x], 2), x.repeat(2, 2))
show("gather", x.gather(1, (n % 333).abs()), x[n[:, 0].abs() % 1000], x.take(n[:3].abs()), x.index_select(0, n[:, 1].abs() % 1000))
show("put", x.clone().index_put_((n[:, 0].abs() % 1000,), x[:, :1].expand(1000, 333), accumulate=True))
show("functions", x.sin(), x.exp(), x.abs().log(), x.tanh(), torch.erf(x), torch.special.bessel_j0(x), torch.lgamma(x.abs() + 1))
show("types", x.half(), x.bfloat16(), x.double(), x.to(torch.int8), x.to(torch.complex64).angle(), x.to(torch.float8_e4m3fn).float())
show("integers", n // 7, n % 13, n & 255, n << 2, torch.bitwise_xor(n, n + 1), n.to(torch.uint8), torch.gcd(n, n + 6))
torch.cuda.manual_seed(5)
show("random", torch.rand(999, device="cuda"), torch.randperm(5000, device="cuda"), torch.multinomial(x[0].exp(), 20),
     torch.bernoulli(torch.full((100,), 0.3, device="cuda")), torch.empty(500, device="cuda").exponential_(),
     torch.normal(0.0, 1.0, (77,), device="cuda"), torch.poisson(x.abs()))
show("empty", torch.empty(0, 5, device="cuda").sum(), torch.zeros(0, device="cuda").sort().values)
large = torch.ones((1 << 31) + 5, dtype=torch.uint8, device="cuda")
large[-3] = 7
show("above 2^31", large[-9:], large.sum(dtype=torch.int64))
pinned = torch.empty(1 << 20, dtype=torch.float32, pin_memory=True)
pinned.copy_(x.flatten().repeat(4)[:1 << 20], non_blocking=True)
torch.cuda.synchronize()
show("pinned", pinned, pinned.is_pinned())
show("copies", x.cpu(), x[::3, ::5].cpu(), x.t()[:7].cpu(), torch.empty_like(x).copy_(x.cpu().pin_memory(), non_blocking=True))
show("histogram", torch.histc(n, 50, -1000, 1000))
show("layers", torch.nn.functional.layer_norm(x, (333,)), torch.softmax(x, 1), torch.nn.functional.gelu(x), torch.cdist(x[:50], x[50:90]))
