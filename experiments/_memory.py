"""What a training step of a long sequence takes in memory: as compiled, and resident in a process of its own.

python -m experiments._memory CELL BxTxDxH ENGINE CHUNK SEED        one step; prints {"resident": bytes} as JSON
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from experiments._peers import stack_of
from experiments._work import Shape, Work, inputs_of, shape_of
from rnnlab.engines import ENGINES
from rnnlab.layers import layers

# Engine and whether in chunks; the first is what the others are compared with.
WAYS = {"scan": ("scan", False), "fused": ("fused", False), "fused, in chunks": ("fused", True)}


def program(work: Work, engine: str | None, chunk: int | None) -> tuple[Any, Any]:
    """A compiled training step, from shapes alone, and its parameters; by default of the cell's own engine.

    The gradients are of the parameters alone: the inputs are data here, and theirs would be as large again.
    """
    stack, params = stack_of(work)

    def total(params, xs):
        return layers(stack, params, xs, engine=engine and ENGINES[engine], chunk=chunk).ys.mean()

    xs = jax.ShapeDtypeStruct((work.shape.steps, work.shape.batch, work.shape.dim), "float32")
    return jax.jit(jax.value_and_grad(total)).lower(params, xs).compile(), params


def needed(compiled: Any) -> int:
    """Bytes of arguments, results and temporaries together."""
    found = compiled.memory_analysis()
    return found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes


def resident() -> int:
    """The most bytes that this process ever held in memory."""
    try:
        # Since the start of this program: ru_maxrss begins with what the process that started it held (Linux).
        [line] = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def in_child(work: Work, engine: str, chunk: int | None, seed: int) -> int:
    """`resident` of a new process after one training step."""
    arguments = [work.cell, str(work.shape), engine, str(chunk or 0), str(seed)]
    command = [sys.executable, "-m", "experiments._memory", *arguments]
    answer = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {answer.returncode}: {answer.stderr[-2000:]}")
    return json.loads(answer.stdout.splitlines()[-1])["resident"]


def main(cell: str, shape: str, engine: str, chunk: str, seed: str) -> None:
    sizes: Shape = shape_of(shape)
    compiled, params = program(Work(cell, 1, sizes), engine, int(chunk) or None)
    jax.block_until_ready(compiled(params, inputs_of(sizes, int(seed))))
    print(json.dumps({"resident": resident()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
