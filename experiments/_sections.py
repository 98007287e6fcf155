"""The measurements of `throughput`, a function a section: each gives jobs, (what is said meanwhile, function).

What a clock says is a timing row, seconds round by round; everything else is a metric.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from experiments import _memory, _peers
from experiments._work import Shape, Work, inputs_of, lengths_of, machine_bytes, shape_of
from rnnlab import probes
from rnnlab.engines import ENGINES
from rnnlab.layers import layers, zero_taps
from rnnlab.seeds import WAYS
from rnnlab.timing import in_turns

Jobs = list[tuple[str, Callable[[], None]]]

# Rows, inner axis and columns of the products that are tried for the machine's limit; the larger ones on a GPU or TPU.
SQUARE, FLAT, SMALL = (2048, 2048, 2048), (4096, 512, 2048), (1024, 1024, 1024)
LARGE = ((8192, 8192, 8192), (4096, 4096, 4096))


def limit(config, run) -> Jobs:
    """The machine's float32 matrix-product limit; where it is wanted, `speed` takes one product into every round."""

    def measure() -> None:
        sizes = (SQUARE, FLAT, SMALL) if jax.default_backend() == "cpu" else (*LARGE, SQUARE)
        products = {size: _product(config, size) for size in sizes}
        for size, seconds in in_turns(products, seconds=config.seconds, least=config.rounds).items():
            _keep_limit(run, size, seconds)

    return [("matrix products", measure)]


def _product(config, size: tuple[int, int, int]) -> Callable:
    rows, inner, columns = size
    a, b = (
        jnp.asarray(inputs_of(Shape(height, 1, width, 1), config.seed)[0])
        for height, width in ((rows, inner), (inner, columns))
    )
    return _peers.ahead_of_time(jnp.matmul, a, b).call


def _keep_limit(run, size: tuple[int, int, int], seconds: list[float]) -> None:
    rows, inner, columns = size
    run.timing(kind="limit", size=size, flops=2 * rows * inner * columns, seconds=seconds)


def speed(config, run) -> Jobs:
    """Every cell, depth, shape and mode: ours and the peers."""
    works = [
        Work(cell, depth, shape_of(shape), mode)
        for cell in config.cell for depth in config.layers for shape in config.shape for mode in config.mode
    ]  # fmt: skip
    peers = [peer for peer in _peers.PEERS if peer == "rnnlab" or peer in config.peer]
    return [(f"{w.cell} {w.layers}x{w.shape} {w.mode}", partial(_compare, config, run, w, peers)) for w in works]


def _compare(config, run, work: Work, peers: list[str]) -> None:
    run.metrics(kind="work", **work.row, flops=work.flops)
    xs = inputs_of(work.shape, config.seed)
    ready = {}
    for peer in peers:
        temporaries, state = None, "measured"
        try:
            ready[peer] = _peers.prepare(peer, work, xs)
            temporaries = ready[peer].temporaries
        except _peers.Absent as why:
            state = str(why)
        run.metrics(kind="peer", **work.row, peer=peer, state=state, temporaries=temporaries)
    calls = {name: one.call for name, one in ready.items()}
    if "limit" in config.section:
        calls["limit"] = _product(config, SMALL)
    taken = in_turns(calls, seconds=config.seconds, least=config.rounds)
    if "limit" in taken:
        _keep_limit(run, SMALL, taken.pop("limit"))
    for peer, seconds in taken.items():
        run.timing(
            kind="speed", **work.row, peer=peer, seconds=seconds, compile_seconds=ready[peer].compile_seconds,
            version=_peers.version(peer),
        )  # fmt: skip


# How a full and a ragged batch are called; torch's is packed, and the others' padded.
RAGGED = {"rnnlab": "lengths", "linen": "seq_lengths", "torch": "packed", "torch_single": "packed"}


def ragged(config, run) -> Jobs:
    """A training step with lengths beside one without."""
    shape = shape_of(config.base)
    xs, lengths = inputs_of(shape, config.seed), lengths_of(shape, config.seed)
    run.metrics(kind="lengths", shape=str(shape), mean=lengths.mean(), low=lengths.min(), high=lengths.max())
    peers = [peer for peer in RAGGED if peer == "rnnlab" or peer in config.peer]

    def measure(work: Work) -> None:
        calls, state = {}, {}
        for peer in peers:
            try:
                for way, given in (("full", None), (RAGGED[peer], lengths)):
                    calls[peer, way] = _peers.prepare(peer, work, xs, given).call
                state[peer] = "measured"
            except _peers.Absent as why:
                state[peer] = str(why)
            run.metrics(kind="ragged", **work.row, peer=peer, state=state[peer])
        for (peer, way), seconds in in_turns(calls, seconds=config.seconds, least=config.rounds).items():
            run.timing(kind="ragged", **work.row, peer=peer, way=way, seconds=seconds)

    return [(f"ragged {cell}", partial(measure, Work(cell, 1, shape))) for cell in config.cell]


def compilation(config, run) -> Jobs:
    """Tracing and compiling of an LSTM's training step, anew each time, for several T and several depths."""
    shape = shape_of(config.base)
    works = [Work("lstm", 1, shape._replace(steps=steps)) for steps in config.compile_lengths]
    works = list(dict.fromkeys([*works, *(Work("lstm", depth, shape) for depth in config.depths)]))

    def measure() -> None:
        programs = {work: partial(_memory.program, work, None, None) for work in works}
        for work, seconds in in_turns(programs, seconds=0.0, least=config.rounds).items():
            run.timing(kind="compile", **work.row, seconds=seconds)

    return [("compilation", measure)]


def memory(config, run) -> Jobs:
    """An LSTM's training step over longer and longer sequences: as compiled, in time, and resident (on a CPU)."""
    room = machine_bytes() / 2
    works = [Work("lstm", 1, shape_of(config.base)._replace(steps=steps)) for steps in config.lengths]
    fits: dict[tuple[int, str], bool] = {}

    def compiled(work: Work) -> None:
        xs, calls = jnp.asarray(inputs_of(work.shape, config.seed)), {}
        for way, (engine, chunked) in _memory.WAYS.items():
            program, params = _memory.program(work, engine, config.chunk if chunked else None)
            fits[work.shape.steps, way] = _memory.needed(program) < room
            run.metrics(
                kind="memory", **work.row, way=way, chunk=config.chunk if chunked else None,
                temporaries=program.memory_analysis().temp_size_in_bytes, needed=_memory.needed(program),
                state="measured" if fits[work.shape.steps, way] else "needs more than half of the memory",
            )  # fmt: skip
            if fits[work.shape.steps, way]:
                calls[way] = partial(program, params, xs)
        least = config.rounds if work.shape.steps < 50_000 else 1
        for way, seconds in in_turns(calls, seconds=config.seconds, least=least).items():
            run.timing(kind="memory", **work.row, way=way, seconds=seconds)

    def resident(work: Work, way: str) -> None:
        if fits[work.shape.steps, way]:
            engine, chunked = _memory.WAYS[way]
            found = _memory.in_child(work, engine, config.chunk if chunked else None, config.seed)
            run.timing(kind="resident", **work.row, way=way, resident=found)

    jobs = [(f"memory T={work.shape.steps}", partial(compiled, work)) for work in works]
    if jax.default_backend() == "cpu":  # elsewhere buffers are not in the process's own memory
        ways = ("scan", "fused, in chunks")
        jobs += [(f"resident T={w.shape.steps} {way}", partial(resident, w, way)) for w in works for way in ways]
    return jobs


TAPPED_LAYERS = 3


def taps(config, run) -> Jobs:
    """A training step with the gradient norm at every layer and step, beside one without."""
    shape = shape_of(config.base)

    def measure(cell: str) -> None:
        work = Work(cell, TAPPED_LAYERS, shape)
        stack, params = _peers.stack_of(work)
        xs, zeros = jnp.asarray(inputs_of(shape, config.seed)), zero_taps(stack, params, shape.steps, (shape.batch,))

        def losses(params, taps, xs):
            return layers(stack, params, xs, taps=taps).ys.mean((0, 2))

        plain = jax.value_and_grad(lambda params, xs: losses(params, None, xs).mean())
        ways = {
            "plain": _peers.ahead_of_time(plain, params, xs),
            "taps": _peers.ahead_of_time(probes.value_and_grad(losses), params, zeros, xs),
        }
        calls = {name: one.call for name, one in ways.items()}
        for name, seconds in in_turns(calls, seconds=config.seconds, least=config.rounds).items():
            run.timing(kind="taps", **work.row, name=name, seconds=seconds)

    return [(f"taps {cell}", partial(measure, cell)) for cell in config.cell]


def seeds(config, run) -> Jobs:
    """Several seeds of an LSTM's training step."""
    return [
        (f"{config.seeds} seeds {engine}", partial(measure_seeds, config, run, engine)) for engine in ("scan", "fused")
    ]


def measure_seeds(config, run, engine: str) -> None:
    """The ways of `rnnlab.seeds`, of which `over_seeds` takes the fastest; each seed has its own inputs."""
    work = Work("lstm", 1, shape_of(config.base))
    cells, params = _peers.stack_of(work)

    def step(params, xs):
        return jax.value_and_grad(total, (0, 1))(params, xs)

    def total(params, xs):
        return layers(cells, params, xs, engine=ENGINES[engine]).ys.mean()

    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * config.seeds), params)
    xs = jnp.stack([inputs_of(work.shape, config.seed + n) for n in range(config.seeds)])
    calls = {way: partial(build(step), params, xs) for way, build in WAYS.items()}
    for way, seconds in in_turns(calls, seconds=config.seconds, least=config.rounds).items():
        run.timing(kind="seeds", **work.row, engine=engine, way=way, seeds=config.seeds, seconds=seconds)


SECTIONS = {
    "limit": limit, "speed": speed, "ragged": ragged, "compile": compilation, "memory": memory, "taps": taps,
    "seeds": seeds,
}  # fmt: skip
