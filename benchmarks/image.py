"""Time of structural similarity, as a ratio to the depthwise convolution that it is usually written with."""

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from rich.progress import track

import jaxloss
from benchmarks import tables


def by_convolution(p: Array, y: Array) -> Array:
    """One minus the similarity by an 11 × 11 window of each of five maps, in float32."""
    p, y = p.astype(jnp.float32), y.astype(jnp.float32)
    channels = p.shape[-1]
    weights = jnp.exp(-0.5 * jnp.square((jnp.arange(11) - 5) / 1.5))
    weights = weights / jnp.sum(weights)
    kernel = jnp.tile(jnp.outer(weights, weights)[..., None, None], (1, 1, 1, channels))

    def windowed(x: Array) -> Array:
        layout = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout, feature_group_count=channels)

    mp, my = windowed(p), windowed(y)
    vp, vy, cov = windowed(p * p) - mp * mp, windowed(y * y) - my * my, windowed(p * y) - mp * my
    similarity = (2 * mp * my + 1e-4) * (2 * cov + 9e-4) / ((mp * mp + my * my + 1e-4) * (vp + vy + 9e-4))
    return 1 - similarity.mean((1, 2, 3))


ROWS = [
    ("float32", (8, 256, 256, 3), 0.12),
    ("bfloat16", (8, 256, 256, 3), 0.12),
    ("float32", (2, 1024, 1024, 3), None),
]


def title(dtype: str, shape: tuple[int, ...]) -> str:
    return f"ssim_loss, {dtype} {'×'.join(map(str, shape))}"


def measure(dtype: str, shape: tuple[int, ...], bound: float | None, seconds: float) -> list[str]:
    images = jax.random.uniform(jax.random.key(0), (2, *shape))
    images = tuple(images.astype(dtype))

    def compiled(loss: Any) -> Any:
        return jax.jit(jax.value_and_grad(lambda *x: loss(*x).mean())).lower(*images).compile()

    functions = [compiled(jaxloss.ssim_loss), compiled(by_convolution)]
    rounds: list[list[float]] = []
    end = time.perf_counter() + seconds
    for function in functions:
        jax.block_until_ready(function(*images))
    while len(rounds) < 5 or time.perf_counter() < end:
        times = [0.0, 0.0]
        for turn in (0, 1) if len(rounds) % 2 else (1, 0):  # nobody always comes first
            start = time.perf_counter()
            jax.block_until_ready(functions[turn](*images))
            times[turn] = time.perf_counter() - start
        rounds.append(times)
    ours, theirs = (statistics.median(times) for times in zip(*rounds, strict=True))
    ratio = statistics.median(a / b for a, b in rounds)
    return [
        title(dtype, shape),
        tables.ratio(ratio, bound),
        "" if bound is None else f"{bound:.2f}",
        f"{1e3 * ours:.3g}",
        f"{1e3 * theirs:.3g}",
        *(tables.megabytes(f.memory_analysis().temp_size_in_bytes) for f in functions),
        str(len(rounds)),
    ]


def run(*, small: bool, only: str) -> None:
    rows = [(dtype, (2, 32, 32, 3), None) for dtype, _, _ in ROWS[:2]] if small else ROWS
    rows = [row for row in rows if only in title(*row[:2])]
    lines = [measure(*row, seconds=0 if small else 4) for row in track(rows, "image", console=tables.console)]
    columns = "ratio to convolution", "bound", "ms", "convolution ms", "temp MB", "convolution temp MB", "rounds"
    note = f"value_and_grad of the mean; the depthwise convolution of five maps by 11 × 11; jax {jax.__version__}"
    tables.show("Images", note, ("loss", *columns), lines)
