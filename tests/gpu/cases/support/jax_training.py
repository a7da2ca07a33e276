# SPDX-License-Identifier: MIT
"""JAX: jit, grad, vmap, scan, random numbers, linear algebra and a training loop. XLA picks algorithms by measuring them
unless told not to, which would make two native runs differ."""
import os

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0"
from support import show, skip

import jax
import jax.numpy as jnp
import numpy


def main():
    device = jax.devices()[0]
    if device.platform == "cpu":
        skip(f"JAX has only {device.platform} here")
    show("device", device.platform, device.device_kind, len(jax.devices()))
    key = jax.random.key(0)
    a = jax.random.normal(key, (256, 256))
    show("random", a, jax.random.uniform(key, (100,)), jax.random.permutation(key, 50))
    show("jit", jax.jit(lambda x: jnp.tanh(x @ x.T).sum(0))(a))
    show("grad", jax.grad(lambda x: (jnp.sin(x) * x).sum())(a))
    show("vmap", jax.vmap(lambda x: jnp.sort(x).cumsum())(a))
    show("scan", jax.lax.scan(lambda c, x: (c * 0.9 + x, c.sum()), jnp.zeros(256), a))
    show("while", jax.lax.while_loop(lambda c: c[0] < 20, lambda c: (c[0] + 1, c[1] * 1.5), (0, jnp.ones(7)))[1])
    show("fft", jnp.fft.fft(a[0]), jnp.fft.rfft2(a))
    show("solve", jnp.linalg.solve(a, a[:, :3]), jnp.linalg.cholesky(a @ a.T + 256 * jnp.eye(256)), *jnp.linalg.eigh(a + a.T))
    show("conv", jax.lax.conv(jnp.ones((1, 3, 16, 16)), jax.random.normal(key, (8, 3, 3, 3)), (1, 1), "SAME"))
    show("half", (a.astype(jnp.bfloat16) @ a.astype(jnp.bfloat16)).astype(jnp.float32))

    def predict(parameters, x):
        for weight, bias in parameters[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        return x @ parameters[-1][0] + parameters[-1][1]

    def loss(parameters, x, y):
        return -(jax.nn.log_softmax(predict(parameters, x)) * y).sum(1).mean()

    @jax.jit
    def update(parameters, x, y):
        value, slopes = jax.value_and_grad(loss)(parameters, x, y)
        return value, jax.tree.map(lambda p, s: p - 0.1 * s, parameters, slopes)

    sizes = (64, 256, 128, 10)
    parameters = [(jax.random.normal(jax.random.key(i), (m, n)) / m ** 0.5, jnp.zeros(n))
                  for i, (m, n) in enumerate(zip(sizes, sizes[1:]))]
    generator = numpy.random.default_rng(5)
    for step in range(60):
        x = generator.standard_normal((128, 64), dtype=numpy.float32)
        y = numpy.eye(10, dtype=numpy.float32)[numpy.argmax(x[:, :10], axis=1)]
        value, parameters = update(parameters, x, y)
        show("step", step, float(value))
    show("parameters", *(w for w, _ in parameters))
    stats = device.memory_stats() or {}
    show("memory", stats.get("bytes_limit", 0) > 0)
