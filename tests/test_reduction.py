"""mean and sum: masks, weights, axes, devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jaxloss

LOSSES = jnp.asarray([[1.0, 2.0, jnp.nan], [4.0, jnp.inf, 6.0]])
WHERE = jnp.asarray([[True, True, False], [True, False, True]])


def test_masked() -> None:
    assert jaxloss.sum(LOSSES, where=WHERE) == 13
    assert jaxloss.mean(LOSSES, where=WHERE) == 13 / 4
    np.testing.assert_array_equal(jaxloss.mean(LOSSES, where=WHERE, axis=-1), [1.5, 5])
    np.testing.assert_array_equal(jaxloss.sum(LOSSES, where=WHERE, axis=(0, 1)), 13)


def test_weights_are_numpys_average() -> None:
    losses, weights = np.arange(6.0).reshape(2, 3), np.linspace(0.5, 2, 6).reshape(2, 3)
    np.testing.assert_allclose(
        jaxloss.mean(jnp.asarray(losses), weights=weights), np.average(losses, weights=weights), rtol=1e-6
    )
    got = jaxloss.mean(jnp.asarray(losses), weights=weights[0], axis=1)
    np.testing.assert_allclose(got, np.average(losses, weights=np.stack([weights[0]] * 2), axis=1), rtol=1e-6)


def test_nothing_selected_is_0_with_zero_gradient() -> None:
    def f(x: jax.Array) -> jax.Array:
        return jaxloss.mean(x, where=jnp.zeros(3, bool))

    assert f(jnp.full(3, jnp.nan)) == 0
    np.testing.assert_array_equal(jax.grad(f)(jnp.full(3, jnp.nan)), 0)
    assert jaxloss.mean(jnp.zeros((0, 4))) == 0
    assert jaxloss.mean(jnp.ones(3), weights=jnp.zeros(3)) == 0


def test_accumulates_in_float32() -> None:
    ones = jnp.ones(1000, jnp.bfloat16)
    assert jaxloss.sum(ones) == 1000
    assert jaxloss.mean(ones).dtype == jnp.float32


def test_across_devices_the_denominator_is_shared() -> None:
    mesh = Mesh(np.asarray(jax.devices()[:8]), ("batch",))
    losses = jnp.arange(16.0)
    where = losses > 9  # the first devices select nothing
    spec = PartitionSpec("batch")

    def step(x: jax.Array, w: jax.Array) -> jax.Array:
        return jaxloss.mean(x, where=w, axis_name="batch")

    mapped = jax.shard_map(step, mesh=mesh, in_specs=(spec, spec), out_specs=PartitionSpec())
    value, gradient = jax.value_and_grad(mapped)(losses, where)
    assert value == 12.5
    np.testing.assert_allclose(gradient, np.where(where, 1 / 6, 0), rtol=1e-6)
    by_name = jax.vmap(lambda x, w: jaxloss.mean(x, where=w, axis_name="batch"), axis_name="batch")(losses, where)
    np.testing.assert_array_equal(by_name, 12.5)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="losses must be floating point"):
        jaxloss.mean(jnp.ones(3, complex))
    with pytest.raises(ValueError, match="weights must broadcast"):
        jaxloss.mean(jnp.ones(3), weights=jnp.ones(4))
    with pytest.raises(ValueError, match="where must broadcast"):
        jaxloss.sum(jnp.ones(3), where=jnp.ones(4, bool))
    with pytest.raises(ValueError, match="axis must be from -1 to 0"):
        jaxloss.sum(jnp.ones(3), axis=1)
