"""The cases of the sweep in PyTorch: eager, as its users write them. Views are made contiguous where the op is to write its
output."""
import math

import torch
import torch.nn.functional as F

import cases

DTYPES = {"f32": torch.float32, "f64": torch.float64, "i64": torch.int64, "bool": torch.bool}

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


def compute(case):
    """The function of the inputs: it returns the output, or a tuple of outputs."""
    if case.op in NAMED:
        return NAMED[case.op]
    axes, dtype = case.ints("axis") or case.ints("axes"), DTYPES[case.dtype]
    spec, to = case.params.get("spec"), case.params.get("to")
    axis = axes[0] if axes else 0
    k, times, step, classes = (int(case.number(key)) for key in ("k", "times", "step", "classes"))
    p, smoothing = case.number("p"), case.number("smoothing")
    shape = case.ints("shape") or (to if case.op == "cast" else case.ints("to"))
    middle = lambda a: a.narrow(axis, a.shape[axis] // 4, a.shape[axis] // 4 * 2)  # noqa: E731
    every = lambda a: a[(slice(None),) * axis + (slice(None, None, step),)]  # noqa: E731
    last = lambda a, before, after: [0, 0] * (a.dim() - 1 - axis) + [before, after]  # noqa: E731
    table = {
        "leaky_relu": lambda a: F.leaky_relu(a, 0.01),
        "clamp": lambda a: torch.clamp(a, -0.5, 0.5),
        "powi": lambda a: a**3,
        "powf": lambda a: a ** p,
        "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
        "cast": lambda a: a.to(DTYPES[to]),
        "sum": lambda a: along(axes, a.sum, a.sum),
        "mean": lambda a: along(axes, a.mean, a.mean),
        "max": lambda a: along(axes, a.max, a.amax),
        "min": lambda a: along(axes, a.min, a.amin),
        "var": lambda a: torch.var(a, axes, correction=0),
        "std": lambda a: torch.std(a, axes, correction=0),
        "norm": lambda a: torch.linalg.vector_norm(a, dim=axes),
        "prod": lambda a: along(axes, a.prod, lambda axes: a.prod(*axes)),
        "all": lambda a: along(axes, a.all, lambda axes: a.all(*axes)),
        "any": lambda a: along(axes, a.any, lambda axes: a.any(*axes)),
        "argmax": lambda a: a.argmax(axis),
        "argmin": lambda a: a.argmin(axis),
        "softmax": lambda a: torch.softmax(a, axis),
        "log_softmax": lambda a: torch.log_softmax(a, axis),
        "logsumexp": lambda a: torch.logsumexp(a, axis),
        "cross_entropy": F.cross_entropy,
        "cross_entropy_with": lambda a, b: F.cross_entropy(a, b, label_smoothing=smoothing),
        "cumsum": lambda a: torch.cumsum(a, axis),
        "sort": lambda a: torch.sort(a, dim=axis, stable=True).values,
        "argsort": lambda a: torch.argsort(a, dim=axis, stable=True),
        "topk": lambda a: tuple(torch.topk(a, k, axis)),
        "einsum": lambda *x: torch.einsum(spec, *x),
        "diagonal": lambda a: torch.diagonal(a).contiguous(),
        "permute": lambda a: a.permute(axes).contiguous(),
        "flatten": lambda a: a.flatten(),
        "flip": lambda a: torch.flip(a, [axis]),
        "slice": lambda a: middle(a).contiguous(),
        "slice_step": lambda a: every(a).contiguous(),
        "split": lambda a: tuple(part.contiguous() for part in a.split([a.shape[axis] // 2, (a.shape[axis] + 1) // 2], axis)),
        "pad": lambda a: F.pad(a, last(a, 3, 5), value=1.0),
        "concat": lambda *x: torch.cat(x, axis),
        "stack": lambda *x: torch.stack(x, axis),
        "repeat": lambda a: torch.repeat_interleave(a, times, axis),
        "tile": lambda a: a.repeat([times if n == axis else 1 for n in range(a.dim())]),
        "broadcast_to": lambda a: a.expand(shape).contiguous(),
        "take": lambda a, b: torch.index_select(a, axis, b),
        "gather": lambda a, b: torch.gather(a, axis, b),
        "scatter_add": lambda a, b, c: torch.scatter_add(a, axis, b, c),
        "one_hot": lambda a: F.one_hot(a, classes).to(dtype),
        "uniform": lambda: torch.rand(shape, dtype=dtype),
        "normal": lambda: torch.randn(shape, dtype=dtype),
        "bernoulli": lambda: torch.empty(shape, dtype=torch.bool).bernoulli_(p),
        "dropout": lambda a: F.dropout(a, p, training=True),
        "mixed": mixed,
        "hvp": hvp,
        "gaussian": lambda a, b, c: -0.5 * ((a - b) / c).square() - c.log(),
        "black_scholes": black_scholes,
        "polynomial": polynomial,
        "distances": lambda a, b: (a - b).square().sum(-1).sqrt(),
        "mse": F.mse_loss,
        "mae": F.l1_loss,
        "huber": F.huber_loss,
        "bce": F.binary_cross_entropy_with_logits,
        "kl_div": lambda a, b: F.kl_div(a, b, reduction="batchmean"),
        "nll": F.nll_loss,
        "layer_norm": lambda a, b, c: F.layer_norm(a, a.shape[-1:], b, c, 1e-5),
        "batch_norm": lambda a, b, c: F.batch_norm(a, None, None, b, c, training=True),
        "attention": F.scaled_dot_product_attention,
        "attention_block": lambda *x: attention_block(case, *x),
        "lstm_cell": lstm_cell,
        "logistic": lambda x, y, w, b: F.binary_cross_entropy_with_logits(x @ w + b, y),
        "mlp": lambda *x: mlp(case, *x),
    }
    return table[case.op]



def view(given, x):
    if given.layout == "t":
        return x.transpose(-1, -2)
    if given.layout == "s":
        return x[..., ::2]
    return x[..., 8:-16] if given.layout == "r" else x


def prepare(case, threads):
    """A function of no arguments that runs the case and returns a list of outputs."""
    torch.set_num_threads(threads)
    stored = [torch.tensor(cases.array(i.stored(), i.dtype, i.values, k)) for k, i in enumerate(case.inputs)]
    function, contiguous = compute(case), not any(i.layout for i in case.inputs)

    def outputs():
        x = stored if contiguous else [view(i, x) for i, x in zip(case.inputs, stored)]
        made = function(*x)
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
        torch.tensor(cases.array(y.shape, "f64" if y.dtype == torch.float64 else "f32", (-1.0, 1.0), cases.WEIGHT_SEED))
        for y in floats(outputs()) if y.dim()
    ]

    def gradient():
        left = iter(weights)
        loss = sum((y * next(left)).sum() if y.dim() else y for y in floats(outputs()))
        return [loss.detach(), *torch.autograd.grad(loss, wanted)]

    return gradient


def arrays(outputs):
    return [y.detach().numpy() for y in outputs]
