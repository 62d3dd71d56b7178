"""The cases of the sweep in JAX: one jitted function for each. 64-bit types are switched on only for the cases that need them.
"""
import math

import jax
import jax.numpy as jnp
from jax import lax, nn

import cases

DTYPES = {"f32": jnp.float32, "f64": jnp.float64}

NAMED = {
    name: getattr(jnp, name)
    for name in "abs sign square sqrt exp expm1 sin cos tan sinh cosh tanh floor ceil round add maximum minimum hypot matmul dot "
    "outer diag trace tril triu diagonal".split()
}
NAMED |= {
    "neg": jnp.negative, "rsqrt": lax.rsqrt, "recip": jnp.reciprocal, "ln": jnp.log, "ln_1p": jnp.log1p, "asin": jnp.arcsin,
    "acos": jnp.arccos, "atan": jnp.arctan, "sigmoid": nn.sigmoid, "log_sigmoid": nn.log_sigmoid, "softplus": nn.softplus,
    "relu": nn.relu, "elu": nn.elu, "silu": nn.silu, "erf": lax.erf, "erfc": lax.erfc, "sub": jnp.subtract, "mul": jnp.multiply,
    "div": jnp.divide, "pow": jnp.power, "atan2": jnp.arctan2, "rem": jnp.fmod, "eq": jnp.equal, "ne": jnp.not_equal,
    "lt": jnp.less, "le": jnp.less_equal, "gt": jnp.greater, "ge": jnp.greater_equal, "is_nan": jnp.isnan,
    "is_finite": jnp.isfinite, "not": jnp.logical_not, "and": jnp.logical_and, "or": jnp.logical_or, "select": jnp.where,
}


def mixed(x):
    return nn.sigmoid(jnp.tanh(x) * x + jnp.exp(-x))


def cross_entropy(x, labels, smoothing=0.0):
    log_p = nn.log_softmax(x)
    loss = -(1 - smoothing) * jnp.take_along_axis(log_p, labels[:, None], 1).mean()
    return loss - smoothing * log_p.mean() if smoothing else loss


def bce(x, y):
    return (y * nn.softplus(-x) + (1 - y) * nn.softplus(x)).mean()


def huber(x, y):
    d = jnp.abs(x - y)
    return jnp.where(d <= 1, 0.5 * d * d, d - 0.5).mean()


def layer_norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight + bias


def batch_norm(x, weight, bias):
    return (x - x.mean(0)) * lax.rsqrt(x.var(0) + 1e-5) * weight + bias


def attention(q, k, v):
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]))
    return nn.softmax(scores) @ v


def attention_block(case, x, weight, out):
    batch, positions, features = x.shape
    heads = int(case.params["heads"])
    q, k, v = (p.reshape(batch, positions, heads, -1).swapaxes(1, 2) for p in jnp.split(x @ weight, 3, -1))
    return attention(q, k, v).swapaxes(1, 2).reshape(batch, positions, features) @ out


def lstm_cell(x, h, c, w, u, b):
    i, f, z, o = jnp.split(x @ w + h @ u + b, 4, 1)
    return nn.sigmoid(o) * jnp.tanh(nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(z))


def black_scholes(price, strike, years):
    rate, volatility = 0.05, 0.2
    spread = volatility * jnp.sqrt(years)
    d1 = (jnp.log(price / strike) + (rate + volatility * volatility / 2) * years) / spread
    cdf = lambda x: 0.5 * (1 + lax.erf(x * math.sqrt(0.5)))  # noqa: E731
    return price * cdf(d1) - strike * jnp.exp(-rate * years) * cdf(d1 - spread)


def polynomial(x):
    y = jnp.ones_like(x)
    for k in range(1, 10):
        y = y * x + 1 / k
    return y


def mlp(case, x, y, w1, b1, w2, b2):
    gelu = lambda x: nn.gelu(x, approximate=False)  # noqa: E731
    activation = {"gelu": gelu, "relu": nn.relu, "tanh": jnp.tanh}[case.params["activation"]]
    return cross_entropy(activation(x @ w1 + b1) @ w2 + b2, y)


def scatter_add(x, axis, index, source):
    grid = list(jnp.indices(index.shape, sparse=True))
    grid[axis] = index
    return x.at[tuple(grid)].add(source)


def topk(x, k, axis):
    values, positions = lax.top_k(jnp.moveaxis(x, axis, -1), k)
    return jnp.moveaxis(values, -1, axis), jnp.moveaxis(positions, -1, axis)


def random(case, key, x):
    shape, p = case.ints("shape"), case.number("p")
    if case.op == "dropout":
        return jnp.where(jax.random.bernoulli(key, 1 - p, x[0].shape), x[0] * (1 / (1 - p)), 0)
    if case.op == "bernoulli":
        return jax.random.bernoulli(key, p, shape)
    return getattr(jax.random, case.op)(key, shape, DTYPES[case.dtype])


def compute(case, key, x):
    """The output, or a tuple of outputs."""
    op, axes, number = case.op, case.ints("axis"), case.number
    axis = axes[0] if axes else 0
    if op in NAMED:
        return NAMED[op](*x)
    if case.family == "random":
        return random(case, key, x)
    a = x[0]
    b = x[1] if len(x) > 1 else None
    at = lambda *slices: a[(slice(None),) * axis + slices]  # noqa: E731
    table = {
        "leaky_relu": lambda: nn.leaky_relu(a, 0.01),
        "clamp": lambda: jnp.clip(a, -0.5, 0.5),
        "powi": lambda: a**3,
        "powf": lambda: a ** number("p"),
        "gelu": lambda: nn.gelu(a, approximate=False),
        "gelu_tanh": lambda: nn.gelu(a),
        "cast": lambda: a.astype(DTYPES[case.params["to"]]),
        "norm": lambda: jnp.sqrt(jnp.square(a).sum(axes)),
        "argmax": lambda: jnp.argmax(a, axis),
        "argmin": lambda: jnp.argmin(a, axis),
        "softmax": lambda: nn.softmax(a, axis),
        "log_softmax": lambda: nn.log_softmax(a, axis),
        "logsumexp": lambda: nn.logsumexp(a, axis),
        "cross_entropy": lambda: cross_entropy(a, b),
        "cross_entropy_with": lambda: cross_entropy(a, b, number("smoothing")),
        "cumsum": lambda: jnp.cumsum(a, axis),
        "sort": lambda: jnp.sort(a, axis),
        "argsort": lambda: jnp.argsort(a, axis),
        "topk": lambda: topk(a, int(number("k")), axis),
        "einsum": lambda: jnp.einsum(case.params["spec"], *x),
        "permute": lambda: a.transpose(case.ints("axes")),
        "flatten": lambda: a.reshape(-1),
        "flip": lambda: jnp.flip(a, axis),
        "slice": lambda: at(slice(a.shape[axis] // 4, a.shape[axis] // 4 * 3)),
        "slice_step": lambda: at(slice(None, None, int(number("step")))),
        "split": lambda: tuple(jnp.split(a, [a.shape[axis] // 2], axis)),
        "pad": lambda: jnp.pad(a, [(3, 5) if k == axis else (0, 0) for k in range(a.ndim)], constant_values=1),
        "concat": lambda: jnp.concatenate(x, axis),
        "stack": lambda: jnp.stack(x, axis),
        "repeat": lambda: jnp.repeat(a, int(number("times")), axis),
        "tile": lambda: jnp.tile(a, [int(number("times")) if k == axis else 1 for k in range(a.ndim)]),
        "broadcast_to": lambda: jnp.broadcast_to(a, case.ints("to")),
        "take": lambda: jnp.take(a, b, axis),
        "gather": lambda: jnp.take_along_axis(a, b, axis),
        "scatter_add": lambda: scatter_add(a, axis, b, x[2]),
        "one_hot": lambda: nn.one_hot(a, int(number("classes")), dtype=DTYPES[case.dtype]),
        "mixed": lambda: mixed(a),
        "hvp": lambda: jax.jvp(jax.grad(lambda x: mixed(x).sum()), (a,), (b,))[1],
        "gaussian": lambda: -0.5 * jnp.square((a - b) / x[2]) - jnp.log(x[2]),
        "black_scholes": lambda: black_scholes(*x),
        "polynomial": lambda: polynomial(a),
        "distances": lambda: jnp.sqrt(jnp.square(a - b).sum(-1)),
        "mse": lambda: jnp.square(a - b).mean(),
        "mae": lambda: jnp.abs(a - b).mean(),
        "huber": lambda: huber(a, b),
        "bce": lambda: bce(a, b),
        "kl_div": lambda: (b * (jnp.log(b) - a)).sum(-1).mean(),
        "nll": lambda: -jnp.take_along_axis(a, b[:, None], 1).mean(),
        "layer_norm": lambda: layer_norm(*x),
        "batch_norm": lambda: batch_norm(*x),
        "attention": lambda: attention(*x),
        "attention_block": lambda: attention_block(case, *x),
        "lstm_cell": lambda: lstm_cell(*x),
        "logistic": lambda: bce(a @ x[2] + x[3], b),
        "mlp": lambda: mlp(case, *x),
    }
    if op in ("sum", "mean", "max", "min", "var", "std", "prod", "all", "any"):
        return getattr(jnp, op)(a, axes)
    return table[op]()


def view(given, x):
    if given.layout == "t":
        return x.swapaxes(-1, -2)
    if given.layout == "s":
        return x[..., ::2]
    return x[..., 8:-16] if given.layout == "r" else x


def sgd(params, gradients, state):
    return [p - 0.1 * d for p, d in zip(params, gradients)], state


def adam(params, gradients, state):
    """Step t with a learning rate of 0.001; the state is t and the moments."""
    t, m, v = state
    t = t + 1
    m = [0.9 * m + 0.1 * d for m, d in zip(m, gradients)]
    v = [0.999 * v + 0.001 * d * d for v, d in zip(v, gradients)]
    scale, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
    update = lambda p, m, v: (p - scale * m / (jnp.sqrt(v) / root + 1e-8)).astype(p.dtype)  # noqa: E731
    return [update(p, m, v) for p, m, v in zip(params, m, v)], (t, m, v)


def prepare(case, threads):
    """A function of no arguments that runs the case and returns a list of outputs."""
    jax.config.update("jax_enable_x64", "f64" in (case.dtype, case.params.get("to")) or case.dtype == "i64")
    stored = [jnp.asarray(cases.array(i.stored(), i.dtype, i.values, k)) for k, i in enumerate(case.inputs)]
    key = jax.random.key(0)

    def outputs(key, stored):
        made = compute(case, key, [view(i, x) for i, x in zip(case.inputs, stored)])
        return list(made) if isinstance(made, tuple) else [made]

    if case.mode == "fwd":
        forward = jax.jit(outputs)
        return lambda: jax.block_until_ready(forward(key, stored))
    wanted = [k for k, i in enumerate(case.inputs) if i.has_gradient()]
    floats = lambda ys: [y for y in ys if jnp.issubdtype(y.dtype, jnp.floating)]  # noqa: E731
    weights = [
        jnp.asarray(cases.array(y.shape, "f64" if y.dtype == jnp.float64 else "f32", (-1.0, 1.0), cases.WEIGHT_SEED))
        for y in floats(jax.eval_shape(outputs, key, stored)) if y.ndim
    ]

    def loss(params, key, stored, weights):
        stored, left = list(stored), iter(weights)
        for k, x in zip(wanted, params):
            stored[k] = x
        return sum((y * next(left)).sum() if y.ndim else y for y in floats(outputs(key, stored)))

    value_and_grad = jax.value_and_grad(loss)
    params = [stored[k] for k in wanted]
    if case.mode == "grad":
        gradient = jax.jit(value_and_grad)

        def run():
            value, gradients = gradient(params, key, stored, weights)
            return jax.block_until_ready([value, *gradients])

        return run
    optimizer = {"adam": adam, "sgd": sgd}[case.params["optimizer"]]

    def update(params, state, key, stored):
        value, gradients = value_and_grad(params, key, stored, weights)
        return value, *optimizer(params, gradients, state)

    update = jax.jit(update, donate_argnums=(0, 1))
    zeros = lambda: [jnp.zeros_like(p) for p in params]  # noqa: E731
    current = [[jnp.copy(p) for p in params], (jnp.zeros(()), zeros(), zeros())]
    fixed = [None if k in wanted else x for k, x in enumerate(stored)]

    def step():
        value, *current[:] = update(*current, key, fixed)
        jax.block_until_ready(current)
        return [value]

    return step


def arrays(outputs):
    return outputs
