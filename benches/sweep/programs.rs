//! The programs of several operations in the list of cases: layers, losses, and small programs from
//! practice. Each is written as a user of the library would write it.

use super::Case;
use autograd::{Graph, Var};
use nn::loss;

/// The output of a program for these inputs, if the name is that of one.
pub(super) fn apply<'g>(case: &Case, g: &'g Graph, x: &[Var<'g>]) -> Option<Var<'g>> {
    Some(match (&case.op[..], x) {
        ("mixed", &[x]) => mixed(x),
        ("hvp", &[x, v]) => g.hvp(mixed(x).sum(), x, v),
        ("gaussian", &[x, mean, std]) => -0.5 * ((x - mean) / std).square() - std.ln(),
        ("black_scholes", &[price, strike, years]) => black_scholes(price, strike, years),
        ("polynomial", &[x]) => (1..10).fold(x.full_like(1.0), |y, k| y * x + 1.0 / k as f64),
        ("distances", &[a, b]) => (a - b).square().sum_axis(-1).sqrt(),
        ("mse", &[x, y]) => loss::mse(x, y),
        ("mae", &[x, y]) => loss::mae(x, y),
        ("huber", &[x, y]) => loss::huber(1.0)(x, y),
        ("bce", &[x, y]) => loss::bce_with_logits(x, y),
        ("kl_div", &[x, y]) => loss::kl_div(x, y),
        ("nll", &[x, y]) => loss::nll(x, y),
        ("layer_norm", &[x, weight, bias]) => {
            let centred = x - x.mean_axis_keep(-1);
            let scale = (centred.square().mean_axis_keep(-1) + 1e-5).rsqrt();
            centred * scale * weight + bias
        }
        ("batch_norm", &[x, weight, bias]) => {
            let (mean, variance) = (x.mean_axis(0), x.var_axis(0, 0));
            (x - mean) * ((variance + 1e-5).rsqrt() * weight) + bias
        }
        ("attention", &[q, k, v]) => attention(q, k, v),
        ("attention_block", &[x, w, out]) => {
            attention_block(x, w, out, case.number("heads", 1.0) as usize)
        }
        ("lstm_cell", &[x, h, c, w, u, b]) => lstm_cell([x, h, c], [w, u, b]),
        ("logistic", &[x, y, w, b]) => loss::bce_with_logits(x.matmul(w) + b, y),
        ("mlp", &[x, y, w1, b1, w2, b2]) => {
            let hidden = x.matmul(w1) + b1;
            let hidden = match case.text("activation") {
                Some("gelu") => hidden.gelu(),
                Some("relu") => hidden.relu(),
                _ => hidden.tanh(),
            };
            loss::cross_entropy(hidden.matmul(w2) + b2, y)
        }
        _ => return None,
    })
}

fn mixed(x: Var<'_>) -> Var<'_> {
    (x.tanh() * x + (-x).exp()).sigmoid()
}

/// The price of a call option, with an interest rate of 0.05 and a volatility of 0.2.
fn black_scholes<'g>(price: Var<'g>, strike: Var<'g>, years: Var<'g>) -> Var<'g> {
    let (rate, volatility) = (0.05, 0.2);
    let spread = volatility * years.sqrt();
    let d1 = ((price / strike).ln() + (rate + volatility * volatility / 2.0) * years) / spread;
    let cdf = |x: Var<'g>| 0.5 * (1.0 + (x * std::f64::consts::FRAC_1_SQRT_2).erf());
    price * cdf(d1) - strike * (-rate * years).exp() * cdf(d1 - spread)
}

/// For `[batch, heads, positions, features]`.
fn attention<'g>(q: Var<'g>, k: Var<'g>, v: Var<'g>) -> Var<'g> {
    let features = q.shape().ok().and_then(|s| s.last().copied()).unwrap_or(1);
    let scores = q.matmul(k.t()) * (1.0 / (features as f64).sqrt());
    scores.softmax(-1).matmul(v)
}

/// Self-attention of `x: [batch, positions, features]` with a weight of `[features, 3·features]`
/// for queries, keys and values, and one of `[features, features]` for the output.
fn attention_block<'g>(x: Var<'g>, weight: Var<'g>, out: Var<'g>, heads: usize) -> Var<'g> {
    let Some([batch, positions, features]) = x.dims::<3>() else {
        return x.fail("expected [batch, positions, features]");
    };
    let part = |x: Var<'g>| {
        let shape = [batch, positions, heads, features / heads];
        x.reshape(shape).permute([0, 2, 1, 3])
    };
    let parts = x.matmul(weight).split([features; 3], -1);
    let [q, k, v] = parts[..] else {
        return x.fail("expected a weight [features, 3·features]");
    };
    let y = attention(part(q), part(k), part(v)).permute([0, 2, 1, 3]);
    y.reshape([batch, positions, features]).matmul(out)
}

/// One step of a long short-term memory: the new hidden state. The gates are the input, forget,
/// cell and output gate.
fn lstm_cell<'g>([x, h, c]: [Var<'g>; 3], [w, u, b]: [Var<'g>; 3]) -> Var<'g> {
    let gates = x.matmul(w) + h.matmul(u) + b;
    let size = gates.shape().map_or(0, |s| s[1] / 4);
    let [i, f, z, o] = gates.split([size; 4], 1)[..] else {
        return gates;
    };
    o.sigmoid() * (f.sigmoid() * c + i.sigmoid() * z.tanh()).tanh()
}
