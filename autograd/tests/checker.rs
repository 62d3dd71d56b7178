//! The gradient checker finds wrong derivatives, names the op, and accepts right ones. User-defined
//! ops go through the same public trait.

use autograd::{
    CheckGrads, Elementwise, Graph, Op, OpError, Param, Partial, Real, Result, Rule, Tensor,
    TensorView, TensorViewMut, Type, Var, check_grads,
};

/// `x³` with a derivative that is wrong in a selectable way.
#[derive(Clone, PartialEq, Debug)]
enum Cube {
    Right,
    /// 0.1 % too large
    First,
    /// right value, but constant: its own derivative is missing
    Second,
    /// of the wrong shape
    Shape,
    Panics,
    /// does not vanish for a zero cotangent
    Affine,
}

impl Op for Cube {
    const NAME: &'static str = "cube";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let x = x[0].array::<f64>()?;
        out.array::<f64>()?.assign(&x.mapv(|x| x * x * x));
        Ok(())
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let slope = 3.0 * r.x[0].square();
        Some(match self {
            Cube::Right => r.ct * slope,
            Cube::First => r.ct * slope * 1.001,
            Cube::Second => r.ct * slope.detach(),
            Cube::Shape => (r.ct * slope).sum(),
            Cube::Panics => panic!("in the rule"),
            Cube::Affine => r.ct * slope + 1e-3,
        })
    }
}

fn inputs() -> [Tensor; 1] {
    [Tensor::from([[0.5, -1.2], [2.0, 0.1]])]
}

#[test]
fn a_right_rule_passes() -> Result<()> {
    check_grads(|x| x[0].apply(Cube::Right), &inputs())?;
    check_grads(|x| x[0].apply(Cube::Right).sin().sum() * x[0], &inputs())?;
    CheckGrads::new()
        .order(3)
        .run(|x| x[0].apply(Cube::Right), &[Tensor::from([0.4, 1.1])])?;
    CheckGrads::new()
        .directions(5)
        .run(|x| x[0].apply(Cube::Right).exp(), &inputs())
}

#[test]
fn an_error_of_a_thousandth_is_found_and_named() {
    for check in [
        CheckGrads::new(),
        CheckGrads::new().directions(3),
        CheckGrads::new().order(1),
    ] {
        let e = check
            .run(|x| (x[0].sin() * 2.0).apply(Cube::First).exp(), &inputs())
            .expect_err("caught");
        assert_eq!(e.op(), "cube");
        assert!(
            e.message().contains("found at order 1") && e.message().contains("the rule gives"),
            "{e}"
        );
        assert!(
            e.location()
                .is_some_and(|l| l.file().ends_with("checker.rs"))
        );
    }
}

#[test]
fn an_error_of_the_second_derivative_alone_is_found() {
    let e = check_grads(|x| x[0].sin().apply(Cube::Second), &inputs()).expect_err("caught");
    assert!(e.message().contains("order 2"), "{e}");
    CheckGrads::new()
        .order(1)
        .run(|x| x[0].sin().apply(Cube::Second), &inputs())
        .expect("its first derivative is right");
    let e = CheckGrads::new()
        .directions(3)
        .run(|x| x[0].apply(Cube::Second), &inputs())
        .expect_err("caught");
    assert!(e.message().contains("order 2"), "{e}");
}

#[test]
fn other_faults_of_rules_are_errors_that_name_the_op() {
    let e = check_grads(|x| x[0].apply(Cube::Shape), &inputs()).expect_err("wrong shape");
    assert!(
        e.op() == "cube"
            && e.message()
                .contains("returned f64[] for input 0, which is f64[2, 2]"),
        "{e}"
    );
    let e = check_grads(|x| x[0].apply(Cube::Panics), &inputs()).expect_err("panics");
    assert!(
        e.op() == "cube" && e.message().contains("in the rule"),
        "{e}"
    );
    let e = check_grads(|x| x[0].apply(Cube::Affine), &inputs()).expect_err("not linear");
    assert_eq!(e.op(), "cube");
}

#[test]
fn a_kink_is_reported_as_such() {
    let e = check_grads(|x| x[0].abs(), &[Tensor::from([0.0, 1.0])]).expect_err("abs at 0");
    assert!(e.hint().is_some_and(|h| h.contains("kink")), "{e}");
    let e = check_grads(|x| x[0].ln(), &[Tensor::from([-1.0])]).expect_err("ln below 0");
    assert_eq!(e.op(), "ln");
}

#[test]
fn single_precision_has_its_own_tolerance() -> Result<()> {
    let x = [Tensor::from([0.5f32, 1.2])];
    check_grads(|x| x[0].sin() * x[0].exp(), &x)?;
    assert!(check_grads(|x| x[0].sin() * x[0].detach(), &x).is_err());
    Ok(())
}

/// Similar to `a·bᶜ`: three inputs and an attribute, with the `Elementwise` trait.
#[derive(Clone, PartialEq, Debug)]
struct Blend {
    sharpness: f64,
}

impl Elementwise for Blend {
    const NAME: &'static str = "blend";
    const INPUTS: usize = 3;
    fn value<T: Real>(&self, x: &[T]) -> T {
        let t = (x[2] * T::of(self.sharpness)).sigmoid();
        x[0] * t + x[1] * (T::of(1.0) - t)
    }
    fn partial<'g>(&self, input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        let t = (x[2] * self.sharpness).sigmoid();
        Partial::Times(match input {
            0 => t,
            1 => 1.0 - t,
            _ => (x[0] - x[1]) * t * (1.0 - t) * self.sharpness,
        })
    }
}

#[test]
fn an_elementwise_op_of_three_inputs_broadcasts() -> Result<()> {
    let x = [
        Tensor::from([[0.1], [0.9]]),
        Tensor::from([1.0, -1.0, 0.5]),
        Tensor::from(0.3),
    ];
    check_grads(|x| x[0].graph().apply(Blend { sharpness: 2.0 }, x), &x)?;
    let g = Graph::new();
    let x: Vec<Var<'_>> = x
        .iter()
        .map(|x| g.input(x).cast(autograd::DType::F32))
        .collect();
    let y = g.apply(Blend { sharpness: 2.0 }, &x);
    assert_eq!(y.value()?.shape(), [2, 3]);
    assert!(g.apply(Blend { sharpness: 2.0 }, &x[..2]).value().is_err());
    Ok(())
}

#[test]
fn integer_inputs_are_not_varied() -> Result<()> {
    let x = [Tensor::from([1, 1, 0]), Tensor::from([0.3, 0.8])];
    check_grads(|x| x[1].take(x[0], 0).sin(), &x)?;
    CheckGrads::new()
        .fast()
        .run(|x| x[1].take(x[0], 0).sin(), &x)
}

#[test]
fn kinks_jumps_and_poles_are_not_called_wrong_rules() {
    let check = |f: &dyn for<'g> Fn(Var<'g>) -> Var<'g>, x: Tensor| {
        CheckGrads::new()
            .run(|x| f(x[0]), &[x])
            .expect_err("not smooth")
    };
    let kink = "probably not differentiable at this point";
    let e = check(&|x| x.sin().abs(), Tensor::from([0.3, 0.0]));
    assert!(
        e.message().starts_with(kink) && e.message().contains("in the derivative of abs"),
        "{e}"
    );
    let e = check(&|x| x.relu() * 2.0, Tensor::from([[0.0], [-1.0]]));
    assert!(
        e.op() == "relu" && e.message().contains("element [0, 0]"),
        "{e}"
    );
    assert!(
        e.message().contains("to the right the slope is 1.0")
            && e.message().contains("to the left 0.0"),
        "{e}"
    );
    let e = check(&|x| x.floor() + x, Tensor::from([2.0, 0.5]));
    assert!(e.op() == "floor" && e.message().starts_with(kink), "{e}");
    let e = check(&|x| x.maximum(1.0), Tensor::from([1.0 + 1e-4]));
    assert!(
        e.message()
            .starts_with("the differences are too coarse at this point"),
        "{e}"
    );
    let e = check(&|x| x.ln(), Tensor::from([0.5, -1.0]));
    assert!(
        e.op() == "ln"
            && e.message()
                .starts_with("the function is not finite at this point"),
        "{e}"
    );
    // a wrong rule is named even if a kink comes before it
    let e = check(&|x| x.relu().apply(Cube::First), Tensor::from([0.0, 1.0]));
    assert!(
        e.op() == "cube" && e.message().contains("its derivative rule is wrong"),
        "{e}"
    );
}

/// A matrix whose rule is wrong in a single element.
#[derive(Clone, PartialEq, Debug)]
struct OneWrong;

impl Op for OneWrong {
    const NAME: &'static str = "one_wrong";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        out.slice::<f64>()?.copy_from_slice(x[0].slice::<f64>()?);
        Ok(())
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let mut factors = vec![1.0; 4000];
        factors[40 * 17 + 23] = 1.5;
        Some(r.ct * r.ct.graph().constant(factors).reshape([100, 40]))
    }
}

#[test]
fn the_fast_mode_names_the_worst_of_many_elements() {
    let x = [Tensor::from(
        (0..4000).map(|k| (k as f64).sin()).collect::<Vec<_>>(),
    )];
    let e = CheckGrads::new()
        .fast()
        .run(|x| x[0].reshape([100, 40]).apply(OneWrong).tanh().sum(), &x)
        .expect_err("one element is wrong");
    assert_eq!(e.op(), "one_wrong");
    assert!(
        e.message()
            .contains("element [17, 23] of the output by element [17, 23] of input 0"),
        "{e}"
    );
    assert!(
        e.message()
            .contains("the rule gives 1.5, differences give 1.0"),
        "{e}"
    );
    // in fast mode, a function of a million elements takes little time
    let x = [Tensor::from(vec![0.3; 1_000_000])];
    CheckGrads::new()
        .fast()
        .order(3)
        .run(|x| (x[0].sin() * x[0]).sum(), &x)
        .expect("right");
}

#[test]
fn parameters_are_checked_like_inputs() -> Result<()> {
    let (w, frozen) = (Param::new([[0.5f32, -0.3]]), Param::buffer([0.1f32, 0.2]));
    let x = [Tensor::from([[0.2f32], [0.7]])];
    let f = |cut: bool| {
        let (w, frozen) = (w.clone(), frozen.clone());
        move |x: Tensor| {
            let (w, frozen) = (w.clone(), frozen.clone());
            CheckGrads::new().double().run(
                move |x| {
                    let g = x[0].graph();
                    let weight = g.within("layer", || g.param(&w));
                    let weight = if cut {
                        weight.apply(Cube::Affine)
                    } else {
                        weight
                    };
                    (x[0].matmul(weight) + g.param(&frozen)).tanh()
                },
                &[x],
            )
        }
    };
    f(false)(x[0].clone())?;
    let e = f(true)(x[0].clone()).expect_err("the rule is wrong");
    assert_eq!(e.op(), "cube");
    // if no single op is wrong, the parameter is named
    let e = CheckGrads::new()
        .run(
            |x| {
                x[0].graph()
                    .within("layer", || x[0] * x[0].graph().param(&w).detach())
            },
            &x,
        )
        .expect_err("the parameter is cut off");
    assert!(
        e.op() == "detach" || e.message().contains("of parameter f32[1, 2] of layer"),
        "{e}"
    );
    assert_eq!(w.value().to_f64s(), [0.5, f64::from(-0.3f32)]);
    Ok(())
}

#[test]
fn curvature_along_a_direction_is_not_called_wrong() {
    let x = [Tensor::from([0.0]), Tensor::from([0.0])];
    let e = CheckGrads::new()
        .fast()
        .run(|x| 1e8 * x[0].square() * (x[1].square() * x[1]), &x)
        .expect_err("beyond the tolerance");
    assert!(
        e.message().starts_with(
            "the differences are too coarse at this point (order 1): along a random direction"
        ),
        "{e}"
    );
    CheckGrads::new()
        .fast()
        .step(1e-5)
        .order(1)
        .run(|x| 1e8 * x[0].square() * (x[1].square() * x[1]), &x)
        .expect("fine");
}

#[test]
fn elements_that_are_not_finite_are_reported() {
    let x = [Tensor::from([0.5, 0.7, -1.0, 0.2])];
    for check in [CheckGrads::new(), CheckGrads::new().fast()] {
        let e = check.run(|x| x[0].ln() * 2.0, &x).expect_err("ln below 0");
        assert!(
            e.op() == "ln"
                && e.message()
                    .starts_with("the function is not finite at this point"),
            "{e}"
        );
        assert!(
            e.message().contains("element [2] of the output is NaN"),
            "{e}"
        );
    }
    // an infinite mask does not hide a wrong rule
    let e = CheckGrads::new().order(1).run(
        |x| {
            let masked = x[0]
                .graph()
                .constant([true, false])
                .select(x[0], f64::NEG_INFINITY);
            (masked * 2.0).exp().apply(Cube::First)
        },
        &[Tensor::from([0.5, 0.7])],
    );
    assert_eq!(e.expect_err("found").op(), "cube");
}

/// A custom derivative is compared with the differences of the function it replaces, by each of its
/// inputs.
#[test]
fn a_wrong_custom_derivative_is_reported_with_its_own_values() -> Result<()> {
    let (a, b) = (Tensor::from([0.5, 2.0]), Tensor::from([3.0, -1.0]));
    for check in [CheckGrads::new(), CheckGrads::new().fast()] {
        let run = |wrong: f64| {
            check.run(
                |x| {
                    let (a, b) = (x[0].exp(), x[1] * 1.0);
                    // a·b², by b: 2·a·b
                    let y = (a * b * b).custom_vjp(&[a, b], move |input, r| {
                        let [a, b] = [r.x[0], r.x[1]];
                        Some(if input == 0 {
                            r.ct * b * b
                        } else {
                            r.ct * a * b * wrong
                        })
                    });
                    y.sin().sum()
                },
                &[a.clone(), b.clone()],
            )
        };
        run(2.0)?;
        let e = run(3.0).expect_err("caught");
        assert_eq!(e.op(), "custom_vjp", "{e}");
        // whichever element is reported, its two values are 3ab and 2ab
        let told = |k: usize| {
            let ab = [0.5f64.exp() * 3.0, -2f64.exp()][k];
            let numbers = format!("the rule gives {}, differences give {}", 3.0 * ab, 2.0 * ab);
            let digits = |s: &str| s.split("gives ").nth(1).map(|s| s[..8].to_string());
            e.message().contains(&format!(
                "element [{k}] of the output by element [{k}] of input 1"
            )) && digits(e.message()) == digits(&numbers)
                && e.message()
                    .split("differences give ")
                    .nth(1)
                    .map(|s| &s[..6])
                    == numbers.split("differences give ").nth(1).map(|s| &s[..6])
        };
        assert!(told(0) || told(1), "{e}");
    }
    Ok(())
}

/// Ops that are constant on purpose, and custom derivatives that are right, are not blamed for the
/// error of another op.
#[test]
fn only_the_wrong_op_is_named() {
    for check in [CheckGrads::new().order(1), CheckGrads::new().fast()] {
        let e = check
            .run(
                |x| {
                    (x[0].norm() + x[0].std(0) + x[0].detach().sum() * 0.0)
                        * x[0].apply(Cube::First).sum()
                },
                &inputs(),
            )
            .expect_err("caught");
        assert_eq!(e.op(), "cube", "{e}");
    }
}
