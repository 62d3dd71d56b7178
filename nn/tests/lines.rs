//! Every line that a message, a profile or a picture shows is one of the user's program: here, of
//! this file. A walk over mistakes of all kinds, at all places where the library calls back.

use autograd::{Graph, Op, OpError, Param, Rule, Tensor, TensorView, TensorViewMut, Type, Var};
use nn::{
    Activation, Adam, AdamW, BatchNorm1d, Callback, CallbackContext, ControlFlow, Dataset, Dropout,
    Embedding, Flatten, Gradient, Lambda, LayerNorm, Linear, Module, Normalize, Optimizer, Params,
    Residual, RmsProp, Sequential, Sgd, Trainer, loss, metrics,
};

const THIS: &str = "lines.rs";

/// All `file.rs:line` in a text.
fn places(text: &str) -> Vec<String> {
    let is_path = |c: char| !c.is_whitespace() && !"()[]{}\"',;<>".contains(c);
    let words = text.split(|c| !is_path(c));
    let is_place = |w: &&str| w.contains(".rs");
    words.filter(is_place).map(String::from).collect()
}

/// Asserts that a text has lines, and only of this file.
#[track_caller]
fn assert_only_mine(what: &str, text: &str) {
    let found = places(text);
    assert!(!found.is_empty(), "{what}: no line in\n{text}");
    let is_mine = |place: &String| place.split(':').next().is_some_and(|f| f.ends_with(THIS));
    assert!(found.iter().all(is_mine), "{what}: other lines in\n{text}");
}

/// The same for an error that may be about settings or data, which have no line.
#[track_caller]
fn assert_none_of_others(what: &str, e: &nn::Error) {
    if !matches!(e, nn::Error::Invalid(_)) || !places(&e.to_string()).is_empty() {
        assert_only_mine(what, &e.to_string());
    }
}

/// The line of a marked place of this file: that with the comment `// line: NAME`.
fn line_of(mark: &str) -> u32 {
    let mark = format!("// line: {mark}");
    let lines = include_str!("lines.rs").lines();
    let at = lines
        .enumerate()
        .find(|(_, line)| line.trim_end().ends_with(&mark));
    at.unwrap_or_else(|| panic!("no {mark}")).0 as u32 + 1
}

fn labelled(rows: usize) -> Dataset {
    let x: Vec<f32> = (0..3 * rows).map(|k| (k as f32 * 0.7).sin()).collect();
    let labels: Vec<i64> = (0..rows).map(|k| k as i64 % 2).collect();
    Dataset::new(Tensor::new([rows, 3], x).unwrap(), labels.into()).unwrap()
}

fn numbers(rows: usize) -> Dataset {
    let x: Vec<f32> = (0..3 * rows).map(|k| (k as f32 * 0.7).sin()).collect();
    let y = Tensor::full([rows, 1], 1f32).unwrap();
    Dataset::new(Tensor::new([rows, 3], x).unwrap(), y).unwrap()
}

/// A module of one's own, with a mistake of one's own.
struct Own {
    first: Linear,
    weight: Param,
}

impl Own {
    fn new() -> Own {
        Own {
            first: Linear::new(3, 4, 1),
            weight: Param::new(Tensor::full([5, 2], 0.1f32).unwrap()),
        }
    }
}

impl Module for Own {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let h = self.first.forward(x).tanh();
        h.matmul(x.graph().param(&self.weight)) // line: own
    }
    fn params(&self, p: &mut Params) {
        p.module("first", &self.first).param("weight", &self.weight);
    }
}

/// A module whose submodule gets the wrong input.
struct Wrong(Linear);

impl Module for Wrong {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.0.forward(x.sum_axis(0)) // line: wrong
    }
    fn params(&self, p: &mut Params) {
        p.module("inner", &self.0);
    }
}

/// A module that calls another one which is only known when it runs.
struct Held(Box<dyn Module>);

impl Module for Held {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.0.forward(x * 2.0)
    }
    fn params(&self, p: &mut Params) {
        self.0.params(p);
    }
}

/// A mistake in the module itself is told with its own line, however it is called.
#[test]
fn own_modules_point_at_their_own_lines() {
    let at = |model: &dyn Module| {
        let g = Graph::new();
        let e = model
            .forward(g.constant([[0f32, 1.0, 2.0]]))
            .error()
            .expect("an error");
        assert_only_mine("own", &e.to_string());
        e.location().expect("a line").line()
    };
    assert_eq!(at(&Own::new()), line_of("own"));
    assert_eq!(at(&Residual(Own::new())), line_of("own"));
    assert_eq!(at(&Sequential::new().then(Own::new())), line_of("own"));
    let nested = Sequential::new().then(Sequential::new().then(Flatten).then(Own::new()));
    assert_eq!(at(&nested), line_of("own"));
    assert_eq!(at(&Held(Box::new(Own::new()))), line_of("own"));
    let boxed: Box<dyn Module> = Box::new(Own::new());
    assert_eq!(at(&boxed), line_of("own"));
    // of a library layer, the line that called it
    assert_eq!(at(&Wrong(Linear::new(2, 2, 1))), line_of("wrong"));
    let lambda = Lambda::new(|x| x.reshape([7, 7])); // line: lambda
    assert_eq!(at(&Sequential::new().then(lambda)), line_of("lambda"));
}

/// A library layer that is called through a `dyn Module` is told with the line that called the
/// sequence, and the line where the layer was made.
#[test]
fn layers_in_a_sequence_tell_where_they_were_called_and_made() {
    let model = Sequential::new()
        .then(Linear::new(3, 4, 1))
        .then(Linear::new(5, 2, 2)); // line: second
    let g = Graph::new();
    let y = model.forward(g.constant([[0f32, 1.0, 2.0]])); // line: call
    let e = y.error().expect("an error");
    assert_only_mine("sequence", &e.to_string());
    assert_eq!(e.location().unwrap().line(), line_of("call"));
    let made = format!("(made at nn/tests/lines.rs:{}:", line_of("second"));
    assert!(e.to_string().replace('\\', "/").contains(&made), "{e}");
    assert!(
        e.to_string()
            .starts_with("linear: expected an input [.., 5]"),
        "{e}"
    );
}

/// Layers through a `dyn Module`, each with an input that does not fit.
#[test]
fn every_layer_has_a_line() {
    let layers: Vec<(&str, Box<dyn Module>)> = vec![
        ("linear", Box::new(Linear::new(2, 2, 1))),
        ("mlp", Box::new(nn::mlp(&[2, 4, 2], Activation::Relu, 1))),
        ("batch_norm", Box::new(BatchNorm1d::new(2))),
        ("layer_norm", Box::new(LayerNorm::new(2))),
        ("embedding", Box::new(Embedding::new(10, 4, 1))),
        ("dropout", Box::new(Dropout::new(1.5))),
        ("normalize", Box::new(Normalize::new(&[2]).unwrap())),
        ("residual", Box::new(Residual(Linear::new(3, 4, 1)))),
        ("lambda", Box::new(Lambda::new(|x| [x].map(Var::diag)[0]))),
        ("lambda", Box::new(Lambda::new(|x| x.permute([2, 0])))),
    ];
    let words: Vec<(&str, Box<dyn Module>)> = vec![
        ("activation", Box::new(Activation::Gelu)),
        ("layer_norm", Box::new(LayerNorm::new(3))),
    ];
    let check = |name: &str, layer: &dyn Module, x: Tensor| {
        for training in [false, true] {
            let g = if training {
                Graph::training(1)
            } else {
                Graph::new()
            };
            let x = g.constant(&x);
            let e = layer.forward(x).value().expect_err(name);
            assert_only_mine(name, &e.to_string());
            let e = Residual(Flatten)
                .forward(layer.forward(x))
                .value()
                .expect_err(name);
            assert_only_mine(name, &e.to_string());
        }
        let e = nn::predict(layer, &x).expect_err(name);
        assert_only_mine(name, &e.to_string());
    };
    for (name, layer) in &layers {
        check(name, &**layer, Tensor::from([[[0f32, 1.0, 2.0]]]));
    }
    for (name, layer) in &words {
        check(name, &**layer, Tensor::from([[0i64, 1, 2]]));
    }
}

/// A loss or a metric: its name, and the function.
type Score = (&'static str, for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>);

fn scores() -> Vec<Score> {
    vec![
        ("cross_entropy", |x, t| loss::cross_entropy(x, t)),
        ("cross_entropy", loss::cross_entropy),
        ("nll", loss::nll),
        ("mse", loss::mse),
        ("mae", loss::mae),
        ("bce_with_logits", loss::bce_with_logits),
        ("kl_div", loss::kl_div),
        ("mse", loss::unreduced::mse),
        ("binary_accuracy", metrics::binary_accuracy),
        ("r_squared", metrics::r_squared),
        ("f1", metrics::f1),
        ("mean_absolute_error", metrics::mean_absolute_error),
    ]
}

#[test]
fn losses_and_metrics_by_name_have_a_line() {
    for (name, f) in scores() {
        let g = Graph::new();
        let e = f(g.input([[1f32, 2.0]]), g.constant([0.5, 1.0, 0.0])).value();
        assert_only_mine(name, &e.expect_err(name).to_string());
        // in the trainer, as a loss and as a metric
        let (model, data) = (nn::mlp(&[3, 4, 7], Activation::Relu, 1), numbers(6));
        let mut trainer = Trainer::new(&model, Sgd::new(0.1)).loss(f).quiet();
        if let Err(e) = trainer.fit(&data) {
            assert_none_of_others(name, &e);
        }
        if let Err(e) = nn::evaluate(&model, &data, f) {
            assert_none_of_others(name, &e);
        }
        if let Err(e) = metrics::evaluate_metric(&model, &data, f) {
            assert_none_of_others(name, &e);
        }
        let fits = nn::mlp(&[3, 1], Activation::Relu, 1);
        let mut trainer = Trainer::new(&fits, Sgd::new(0.1))
            .loss(loss::mse)
            .validate(&data)
            .metric("wrong", move |x, t| {
                f(x, t.sum_axis(0).unsqueeze(0).unsqueeze(0))
            })
            .quiet();
        if let Err(e) = trainer.fit(&data) {
            assert_none_of_others(name, &e);
        }
    }
    // those with settings
    let [smoothed, huber, summed] = [
        Box::new(loss::cross_entropy_with(
            0.1,
            Some(Tensor::from([1f32])),
            Some(3),
        )) as Box<dyn for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>>,
        Box::new(loss::huber(-1.0)),
        Box::new(loss::with_reduction(
            loss::Reduction::Sum,
            loss::unreduced::mse,
        )),
    ];
    for f in [smoothed, huber, summed] {
        let g = Graph::new();
        let e = f(g.input([[1f32, 2.0]]), g.constant([0i64, 1, 1]))
            .value()
            .expect_err("a loss");
        assert_only_mine("loss", &e.to_string());
    }
}

/// A loss is not a layer, and the trainer tells where it was given.
#[test]
fn a_loss_is_called_by_its_name() {
    let model = nn::mlp(&[3, 2], Activation::Relu, 1);
    let data = numbers(6);
    let trainer = Trainer::new(&model, Sgd::new(0.1));
    let mut trainer = trainer.loss(loss::mse).quiet(); // line: loss
    let e = trainer.fit(&data).expect_err("shapes differ").to_string(); // line: fit
    assert!(
        e.starts_with("mse: expected a prediction of the target's shape [6, 1]"),
        "{e}"
    );
    let made = format!(
        "in: loss.mse (made at nn/tests/lines.rs:{}:",
        line_of("loss")
    );
    assert!(e.replace('\\', "/").contains(&made), "{e}");
    let called = format!("at: nn/tests/lines.rs:{}:", line_of("fit"));
    assert!(e.replace('\\', "/").contains(&called), "{e}");
}

/// A loss that fails only while it runs: a label that is out of range, a NaN.
#[test]
fn errors_of_running_have_a_line() {
    let (model, data) = (nn::mlp(&[3, 1], Activation::Relu, 1), labelled(6));
    let e = Trainer::new(&model, Sgd::new(0.1))
        .quiet()
        .fit(&data)
        .expect_err("label 1");
    assert_only_mine("label", &e.to_string());
    let e = nn::evaluate(&model, &data, loss::cross_entropy).expect_err("label 1");
    assert_only_mine("label", &e.to_string());

    // the loss is infinite in the first step
    for sequence in [false, true] {
        let layers = |x: Lambda<_>| -> Box<dyn Module> {
            let first = Linear::new(3, 2, 1);
            match sequence {
                true => Box::new(Sequential::new().then(first).then(x)),
                false => Box::new(Held(Box::new(Sequential::new().then(first).then(x)))),
            }
        };
        let model = layers(Lambda::new(|x| (x * 0.0).ln()));
        let mut trainer = Trainer::new(&*model, Adam::new(0.1))
            .detect_anomaly()
            .quiet();
        let e = trainer.fit(&labelled(6)).expect_err("NaN").to_string();
        assert!(e.contains("not finite"), "{e}");
        assert_only_mine("NaN", &e);
    }
    let e = Trainer::new(&nn::mlp(&[3, 2], Activation::Tanh, 1), Sgd::new(f64::MAX))
        .epochs(3)
        .quiet()
        .fit(&labelled(6))
        .expect_err("the weights overflow");
    assert_only_mine("overflow", &e.to_string());
}

/// An optimizer of one's own, with a mistake.
struct OwnOptimizer;

impl Optimizer for OwnOptimizer {
    fn update(&self, gradients: Vec<Gradient<'_>>, _lr_scale: f64) {
        for d in gradients {
            let g = d.weight.graph();
            g.assign(&d.param, d.weight - d.gradient.sum_axis(7)); // line: optimizer
        }
    }
    fn check(&self) -> nn::Result<()> {
        Ok(())
    }
    fn state(&self, _params: &[(String, Param)]) -> nn::Result<Vec<(String, Param)>> {
        Ok(Vec::new())
    }
}

/// A callback that asks for something that cannot be done.
struct OwnCallback;

impl Callback for OwnCallback {
    fn on_step_end(&mut self, _context: &CallbackContext<'_>) -> nn::Result<ControlFlow> {
        let g = Graph::new();
        g.constant([1.0, 2.0]).reshape(3).value()?; // line: callback
        Ok(ControlFlow::Continue)
    }
}

#[test]
fn optimizers_and_callbacks_of_ones_own_point_at_their_own_lines() {
    let (model, data) = (nn::mlp(&[3, 2], Activation::Relu, 1), labelled(6));
    let e = Trainer::new(&model, OwnOptimizer)
        .quiet()
        .fit(&data)
        .expect_err("no axis 7");
    assert_only_mine("optimizer", &e.to_string());
    assert!(
        e.to_string()
            .contains(&format!("lines.rs:{}:", line_of("optimizer"))),
        "{e}"
    );
    let boxed: Box<dyn Optimizer> = Box::new(OwnOptimizer);
    let e = Trainer::new(&model, boxed)
        .quiet()
        .fit(&data)
        .expect_err("no axis 7");
    assert!(
        e.to_string()
            .contains(&format!("lines.rs:{}:", line_of("optimizer"))),
        "{e}"
    );

    let mut trainer = Trainer::new(&model, Sgd::new(0.1))
        .callback(OwnCallback)
        .quiet();
    let e = trainer.fit(&data).expect_err("3 of 2 elements");
    assert_only_mine("callback", &e.to_string());
    assert!(
        e.to_string()
            .contains(&format!("lines.rs:{}:", line_of("callback"))),
        "{e}"
    );
}

/// A custom op that fails in every way.
#[derive(Clone, PartialEq, Debug)]
struct Fails(&'static str);

impl Op for Fails {
    const NAME: &'static str = "fails";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        match self.0 {
            "infer" => Err("does not fit".into()),
            _ => Ok(x[0]),
        }
    }
    fn eval(&self, _x: &[TensorView<'_>], _out: TensorViewMut<'_>) -> Result<(), OpError> {
        Err("does not work".into())
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.reshape([11, 13]))
    }
}

#[test]
fn custom_ops_and_transforms_have_a_line() {
    type Function = fn(Var<'_>) -> Var<'_>;
    let fs: Vec<(&str, Function)> = vec![
        ("infer", |x| x.apply(Fails("infer")).sum()),
        ("eval", |x| x.apply(Fails("eval")).sum()),
        ("vjp", |x| x.apply(Fails("vjp")).sum()),
        ("method", |x| [x].map(Var::t)[0]),
        ("shape", |x| x.reshape([3, 3])),
        ("panic", |_| panic!("on purpose")),
    ];
    for (name, f) in fs {
        let check = |e: autograd::Error| assert_only_mine(name, &e.to_string());
        check(autograd::grad(f)(&[1.0, 2.0]).expect_err(name));
        check(autograd::value_and_grad(f)(&[1.0, 2.0]).expect_err(name));
        check(autograd::grads(move |[x]| f(x))([&[1.0, 2.0]]).expect_err(name));
        check(autograd::jacobian(f)(&[1.0, 2.0]).expect_err(name));
        check(autograd::hessian(f)(&[1.0, 2.0]).expect_err(name));
        check(autograd::hvp(f)(&[1.0, 2.0], &[1.0, 2.0]).expect_err(name));
        check(autograd::jvp(f)(&[1.0, 2.0], &[1.0, 2.0]).expect_err(name));
        check(autograd::vjp(f)(&[1.0, 2.0], &[1.0, 2.0]).expect_err(name));
        check(autograd::check_grads(|x| f(x[0]), &[[1.0, 2.0].into()]).expect_err(name));
        let compiled = autograd::compile(move |[x]| {
            let y = f(x);
            [y, x.graph().grad(y, &[x])[0]]
        });
        check(compiled.call([[1.0, 2.0]]).expect_err(name));
        let g = Graph::new();
        let x = g.input([1.0, 2.0]);
        if name != "panic" {
            check(f(x).backward().map(drop).expect_err(name));
        }
    }
    // an argument that cannot be a tensor
    let too_many = autograd::ndarray::ArrayD::<f64>::zeros(vec![1; 9]);
    let e = autograd::grad(|x| x.sum())(&too_many).expect_err("9 axes");
    assert_only_mine("axes", &e.to_string());
}

/// Rows of a profile, lines of a picture, and what is saved for the backward pass.
#[test]
fn profiles_and_pictures_show_only_these_lines() {
    let model = Sequential::new()
        .then(Flatten)
        .then(BatchNorm1d::new(3))
        .then(nn::mlp(&[3, 8, 8], Activation::Silu, 1).dropout(0.1))
        .then(Residual(
            Sequential::new()
                .then(Linear::new(8, 8, 2))
                .then(Activation::Elu),
        ))
        .then(LayerNorm::new(8))
        .then(Lambda::new(|x| [x].map(Var::tanh)[0]))
        .then(Linear::new(8, 2, 3));
    let optimizers: Vec<Box<dyn Optimizer>> = vec![
        Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(0.1).nesterov()),
        Box::new(Adam::new(0.1).clip_norm(1.0)),
        Box::new(AdamW::new(0.1).clip_value(1.0).ema(0.9)),
        Box::new(RmsProp::new(0.1).accumulate(2)),
    ];
    for optimizer in &optimizers {
        let g = Graph::training(1);
        let x = g.constant(Tensor::full([4, 3], 0.5f32).unwrap());
        type Loss = dyn for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>;
        let losses: Vec<Box<Loss>> = vec![
            Box::new(loss::cross_entropy),
            Box::new(loss::cross_entropy_with(
                0.1,
                Some(Tensor::from([1f32, 2.0])),
                Some(3),
            )),
        ];
        let y = model.forward(x);
        let all = losses.iter().map(|f| f(y, g.constant([0, 1, 0, 1])));
        let loss = all.reduce(|a, b| a + b).expect("losses");
        let loss = loss + loss::mse(y, y.zeros_like()) + loss::bce_with_logits(y, y.ones_like());
        optimizer.step(loss);
        let dot = g.picture().expand_all().to_dot();
        let tips: String = dot
            .split("tooltip=")
            .skip(1)
            .map(|t| t.split(']').next().unwrap_or(""))
            .collect::<Vec<_>>()
            .join("\n");
        assert_only_mine("picture", &tips);
        let saved = g.saved_for_backward(loss).expect("saved");
        saved
            .iter()
            .for_each(|s| assert_only_mine("saved", &s.line));
        let (_, profile) = g.profile(loss).expect("a profile");
        profile
            .lines
            .iter()
            .for_each(|row| assert_only_mine("profile", &row.name));
    }
}
