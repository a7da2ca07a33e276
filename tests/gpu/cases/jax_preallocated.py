# SPDX-License-Identifier: MIT
# JAX as it comes: it takes three quarters of the GPU's memory at its start.
# needs: jax
# limit: 240
# exclusive
from support.jax_training import main

main()
