"""rnnlab: a laboratory for recurrent neural networks in JAX.

Import from the modules, each of which is one noun:

    from rnnlab import cells, probes
    from rnnlab.unroll import unroll, bidirectional
    from rnnlab.layers import layers

This file imports nothing, so that reading a run folder never starts JAX.
"""

__version__ = "0.1.0"
