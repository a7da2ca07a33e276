# SPDX-License-Identifier: MIT
# JAX allocating as it goes: by its own allocator, and through the driver's (stream-ordered) one.
# needs: jax
# limit: 240
# variant growing: XLA_PYTHON_CLIENT_PREALLOCATE=false
# variant platform: XLA_PYTHON_CLIENT_ALLOCATOR=platform
# variant async: XLA_PYTHON_CLIENT_ALLOCATOR=cuda_async XLA_PYTHON_CLIENT_MEM_FRACTION=0.1
from support.jax_training import main

main()
