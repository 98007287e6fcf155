"""Core tests run in float64 with strict dtype promotion.

Production types (float32, bfloat16, x64 off) are tested in processes of their own, as users run them.
"""

import importlib.abc
import os
import signal
import sys

# Most of the suite's time is compilation of programs that run once: unoptimised code halves it, and XLA's older emitter
# of fused loops takes another third. Set before JAX starts.
FAST_COMPILE = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false"
)
os.environ.setdefault("XLA_FLAGS", FAST_COMPILE)

# A shell's background jobs ignore interrupts, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")


class NoTorch(importlib.abc.MetaPathFinder):
    """An import raises ImportError: it is no dependency, and nothing may come to need it. (TensorFlow cannot be kept
    out in this way: TFDS looks whether it is there. It is not installed where the suite must pass.)"""

    def find_spec(self, name: str, *_) -> None:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is not to be imported here", name=name)


# Not None in sys.modules: SciPy takes that for the module.
sys.meta_path.insert(0, NoTorch())


@pytest.fixture
def allow_promotion():
    """optax and flax mix types; strict promotion is for the core."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """A compiled program holds dozens of memory maps, and at 65,530 of them (Linux's default) LLVM crashes: a worker
    runs a file to its end (--dist=loadfile), and starts the next one without its programs."""
    yield
    jax.clear_caches()
