"""The cases of the sweep in PyTorch: eager, as its users write them. Views are made contiguous where the op is to write its
output."""
import math

import torch
import torch.nn.functional as F

import cases

DTYPES = {"f32": torch.float32, "f64": torch.float64}

NAMED = {
    name: getattr(torch, name)
    for name in "neg abs sign square sqrt rsqrt exp expm1 sin cos tan asin acos atan sinh cosh tanh sigmoid relu erf erfc floor "
    "ceil round add sub mul div maximum minimum pow atan2 hypot eq ne lt le gt ge matmul dot outer diag trace tril triu".split()
}
NAMED |= {
    "recip": torch.reciprocal, "ln": torch.log, "ln_1p": torch.log1p, "log_sigmoid": F.logsigmoid, "softplus": F.softplus,
    "gelu": F.gelu, "silu": F.silu, "elu": F.elu, "is_nan": torch.isnan, "is_finite": torch.isfinite, "not": torch.logical_not,
    "and": torch.logical_and, "or": torch.logical_or, "rem": torch.fmod, "select": torch.where,
}


def along(axes, all_of_it, along_axes):
    return all_of_it() if axes is None else along_axes(axes)


def attention_block(case, x, weight, out):
    batch, positions, features = x.shape
    heads = int(case.params["heads"])
    q, k, v = ((p.reshape(batch, positions, heads, -1).transpose(1, 2)) for p in (x @ weight).split(features, -1))
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    return y.reshape(batch, positions, features) @ out


def lstm_cell(x, h, c, w, u, b):
    i, f, z, o = (x @ w + h @ u + b).chunk(4, 1)
    return torch.sigmoid(o) * torch.tanh(torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z))


def black_scholes(price, strike, years):
    rate, volatility = 0.05, 0.2
    spread = volatility * torch.sqrt(years)
    d1 = (torch.log(price / strike) + (rate + volatility * volatility / 2) * years) / spread
    cdf = lambda x: 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))  # noqa: E731
    return price * cdf(d1) - strike * torch.exp(-rate * years) * cdf(d1 - spread)


def polynomial(x):
    y = torch.ones_like(x)
    for k in range(1, 10):
        y = y * x + 1 / k
    return y


def mlp(case, x, y, w1, b1, w2, b2):
    activation = {"gelu": F.gelu, "relu": F.relu, "tanh": torch.tanh}[case.params["activation"]]
    return F.cross_entropy(torch.addmm(b2, activation(torch.addmm(b1, x, w1)), w2), y)


def mixed(x):
    return torch.sigmoid(torch.tanh(x) * x + torch.exp(-x))


def hvp(x, v):
    with torch.enable_grad():
        x = x.requires_grad_()
        [d] = torch.autograd.grad(mixed(x).sum(), x, create_graph=True)
        return torch.autograd.grad(d, x, v)[0]


def dropout(x, p):
    return F.dropout(x, p, training=True)


def compute(case, x):
    """The output, or a tuple of outputs."""
    op, axes, number = case.op, case.ints("axis"), case.number
    axis = axes[0] if axes else 0
    if op in NAMED:
        return NAMED[op](*x)
    a = x[0] if x else None
    b = x[1] if len(x) > 1 else None
    middle = lambda: a.narrow(axis, a.shape[axis] // 4, a.shape[axis] // 4 * 2)  # noqa: E731
    every = lambda step: a[(slice(None),) * axis + (slice(None, None, step),)]  # noqa: E731
    last = lambda before, after: [0, 0] * (a.dim() - 1 - axis) + [before, after]  # noqa: E731
    table = {
        "leaky_relu": lambda: F.leaky_relu(a, 0.01),
        "clamp": lambda: torch.clamp(a, -0.5, 0.5),
        "powi": lambda: a**3,
        "powf": lambda: a ** number("p"),
        "gelu_tanh": lambda: F.gelu(a, approximate="tanh"),
        "cast": lambda: a.to(DTYPES[case.params["to"]]),
        "sum": lambda: along(axes, a.sum, a.sum),
        "mean": lambda: along(axes, a.mean, a.mean),
        "max": lambda: along(axes, a.max, a.amax),
        "min": lambda: along(axes, a.min, a.amin),
        "var": lambda: torch.var(a, axes, correction=0),
        "std": lambda: torch.std(a, axes, correction=0),
        "norm": lambda: torch.linalg.vector_norm(a, dim=axes),
        "prod": lambda: along(axes, a.prod, lambda axes: a.prod(*axes)),
        "all": lambda: along(axes, a.all, lambda axes: a.all(*axes)),
        "any": lambda: along(axes, a.any, lambda axes: a.any(*axes)),
        "argmax": lambda: a.argmax(axis),
        "argmin": lambda: a.argmin(axis),
        "softmax": lambda: torch.softmax(a, axis),
        "log_softmax": lambda: torch.log_softmax(a, axis),
        "logsumexp": lambda: torch.logsumexp(a, axis),
        "cross_entropy": lambda: F.cross_entropy(a, b),
        "cross_entropy_with": lambda: F.cross_entropy(a, b, label_smoothing=number("smoothing")),
        "cumsum": lambda: torch.cumsum(a, axis),
        "sort": lambda: torch.sort(a, dim=axis, stable=True).values,
        "argsort": lambda: torch.argsort(a, dim=axis, stable=True),
        "topk": lambda: tuple(torch.topk(a, int(number("k")), axis)),
        "einsum": lambda: torch.einsum(case.params["spec"], *x),
        "diagonal": lambda: torch.diagonal(a).contiguous(),
        "permute": lambda: a.permute(case.ints("axes")).contiguous(),
        "flatten": lambda: a.flatten(),
        "flip": lambda: torch.flip(a, [axis]),
        "slice": lambda: middle().contiguous(),
        "slice_step": lambda: every(int(number("step"))).contiguous(),
        "split": lambda: tuple(part.contiguous() for part in a.split([a.shape[axis] // 2, (a.shape[axis] + 1) // 2], axis)),
        "pad": lambda: F.pad(a, last(3, 5), value=1.0),
        "concat": lambda: torch.cat(x, axis),
        "stack": lambda: torch.stack(x, axis),
        "repeat": lambda: torch.repeat_interleave(a, int(number("times")), axis),
        "tile": lambda: a.repeat([int(number("times")) if k == axis else 1 for k in range(a.dim())]),
        "broadcast_to": lambda: a.expand(case.ints("to")).contiguous(),
        "take": lambda: torch.index_select(a, axis, b),
        "gather": lambda: torch.gather(a, axis, b),
        "scatter_add": lambda: torch.scatter_add(a, axis, b, x[2]),
        "one_hot": lambda: F.one_hot(a, int(number("classes"))).to(DTYPES[case.dtype]),
        "uniform": lambda: torch.rand(case.ints("shape"), dtype=DTYPES[case.dtype]),
        "normal": lambda: torch.randn(case.ints("shape"), dtype=DTYPES[case.dtype]),
        "bernoulli": lambda: torch.empty(case.ints("shape"), dtype=torch.bool).bernoulli_(number("p")),
        "dropout": lambda: dropout(a, number("p")),
        "mixed": lambda: mixed(a),
        "hvp": lambda: hvp(a, b),
        "gaussian": lambda: -0.5 * ((a - b) / x[2]).square() - x[2].log(),
        "black_scholes": lambda: black_scholes(*x),
        "polynomial": lambda: polynomial(a),
        "distances": lambda: (a - b).square().sum(-1).sqrt(),
        "mse": lambda: F.mse_loss(a, b),
        "mae": lambda: F.l1_loss(a, b),
        "huber": lambda: F.huber_loss(a, b),
        "bce": lambda: F.binary_cross_entropy_with_logits(a, b),
        "kl_div": lambda: F.kl_div(a, b, reduction="batchmean"),
        "nll": lambda: F.nll_loss(a, b),
        "layer_norm": lambda: F.layer_norm(a, a.shape[-1:], b, x[2], 1e-5),
        "batch_norm": lambda: F.batch_norm(a, None, None, b, x[2], training=True),
        "attention": lambda: F.scaled_dot_product_attention(*x),
        "attention_block": lambda: attention_block(case, *x),
        "lstm_cell": lambda: lstm_cell(*x),
        "logistic": lambda: F.binary_cross_entropy_with_logits(a @ x[2] + x[3], b),
        "mlp": lambda: mlp(case, *x),
    }
    return table[op]()


def view(given, x):
    if given.layout == "t":
        return x.transpose(-1, -2)
    if given.layout == "s":
        return x[..., ::2]
    return x[..., 8:-16] if given.layout == "r" else x


def prepare(case, threads):
    """A function of no arguments that runs the case and returns a list of outputs."""
    torch.set_num_threads(threads)
    stored = [torch.from_numpy(cases.array(i.stored(), i.dtype, i.values, k)) for k, i in enumerate(case.inputs)]

    def outputs():
        made = compute(case, [view(i, x) for i, x in zip(case.inputs, stored)])
        return list(made) if isinstance(made, tuple) else [made]

    if case.mode == "fwd":

        def forward():
            with torch.no_grad():
                return outputs()

        return forward
    wanted = [x.requires_grad_() for i, x in zip(case.inputs, stored) if i.has_gradient()]
    if case.mode == "step":
        optimizer = {"adam": lambda: torch.optim.Adam(wanted, lr=1e-3), "sgd": lambda: torch.optim.SGD(wanted, lr=0.1)}
        optimizer = optimizer[case.params["optimizer"]]()

        def step():
            optimizer.zero_grad()
            [loss] = outputs()
            loss.backward()
            optimizer.step()
            return [loss.detach()]

        return step
    floats = lambda ys: [y for y in ys if y.is_floating_point()]  # noqa: E731
    weights = [
        torch.from_numpy(cases.array(y.shape, "f64" if y.dtype == torch.float64 else "f32", (-1.0, 1.0), cases.WEIGHT_SEED))
        for y in floats(outputs()) if y.dim()
    ]

    def gradient():
        left = iter(weights)
        loss = sum((y * next(left)).sum() if y.dim() else y for y in floats(outputs()))
        return [loss.detach(), *torch.autograd.grad(loss, wanted)]

    return gradient


def arrays(outputs):
    return [y.detach().numpy() for y in outputs]
