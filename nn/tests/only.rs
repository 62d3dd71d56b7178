//! Optimizers that update some parameters and leave the others: the sides of an adversarial training.

use autograd::{Graph, Param, Result, Var};
use nn::{Adam, Optimizer, Sgd};

/// Adversarial training with one optimizer: the step of the critic changes only the critic, the
/// step of the generator only the generator.
#[test]
fn adversarial_steps_update_one_side_each() -> Result<()> {
    let (generator, critic) = (Param::new([0.5, -0.5]), Param::new([1.0, 1.0]));
    let optimizer = Sgd::new(0.1).momentum(0.9).weight_decay(0.1);
    let values = || [&generator, &critic].map(|p| p.value().to_f64s());
    for _ in 0..3 {
        let before = values();
        let g = Graph::new();
        let (noise, real) = (g.constant([1.0, 2.0]), g.constant([3.0, 1.0]));
        let fake = (g.param(&generator) * noise).detach();
        let score = |x| (g.param(&critic) * x).sum();
        let loss = score(fake).softplus() + (-score(real)).softplus();
        optimizer.step(loss);
        g.run(loss)?;
        let after_critic_step = values();
        assert!(after_critic_step[0] == before[0] && after_critic_step[1] != before[1]);

        critic.freeze(true);
        let g = Graph::new();
        let fake = g.param(&generator) * g.constant([1.0, 2.0]);
        let loss = (-(g.param(&critic) * fake).sum()).softplus();
        optimizer.step(loss);
        g.run(loss)?;
        critic.freeze(false);
        assert!(values()[0] != after_critic_step[0] && values()[1] == after_critic_step[1]);
    }
    Ok(())
}

/// The loss of the critic or of the generator, the sides being `[generator, critic]`. The other side may
/// be a constant.
fn loss<'g>(g: &'g Graph, sides: &[Param; 2], of_critic: bool, constant_other: bool) -> Var<'g> {
    let [generator, critic] = [0, 1].map(|k| {
        let (side, is_other) = (g.param(&sides[k]), (k == 0) == of_critic);
        if constant_other && is_other {
            side.detach()
        } else {
            side
        }
    });
    let score = |x| (critic * x).sum();
    let fake = score(generator * g.constant([1.0, 2.0]));
    match of_critic {
        true => fake.softplus() + (-score(g.constant([3.0, 1.0]))).softplus(),
        false => (-fake).softplus(),
    }
}

/// The two sides of an adversarial training, each with an optimizer that knows only its own side. Each
/// takes the steps that it would take if the other side were constant, bit for bit.
#[test]
fn an_optimizer_can_be_for_some_parameters_only() -> Result<()> {
    let make = || [Param::new([0.5, -0.5]), Param::new([1.0, 1.0])];
    let named = |name: &str, p: &Param| (name.to_string(), p.clone());
    let adam = || Adam::new(0.1).weight_decay(0.01).clip_norm(0.5);
    let (sides, expected) = (make(), make());
    let optimizers = [0, 1].map(|k| adam().only(&[named("side", &sides[k])]));
    let references = [adam(), adam()];
    for step in 0..6 {
        // the critic takes two steps for one of the generator
        let is_critic = step % 3 != 2;
        let (own, other) = (usize::from(is_critic), usize::from(!is_critic));
        let before = sides.each_ref().map(Param::value);
        for (sides, optimizer, constant_other) in [
            (&sides, &optimizers[own] as &dyn Optimizer, false),
            (&expected, &references[own], true),
        ] {
            let g = Graph::new();
            let loss = loss(&g, sides, is_critic, constant_other);
            optimizer.step(loss);
            g.run(loss)?;
        }
        assert_eq!(sides[other].value(), before[other], "step {step}");
        assert_ne!(sides[own].value(), before[own], "step {step}");
        assert_eq!(sides[own].value(), expected[own].value(), "step {step}");
    }

    // a checkpoint has the moments and the steps of the own side
    let all = [named("generator", &sides[0]), named("critic", &sides[1])];
    for (k, side, steps) in [(0, "generator", 2.0), (1, "critic", 4.0)] {
        let state = optimizers[k].state(&all).expect("enough memory");
        let names: Vec<&str> = state.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["mean", "square", "steps"].map(|n| format!("{n}.{side}"))
        );
        assert_eq!(state[2].1.value().scalar()?, steps);
        assert_eq!(optimizers[k].name(), "Only<Clip<Adam>>");
    }
    Ok(())
}

/// What is accumulated for chosen parameters is applied to them, and averages are theirs.
#[test]
fn a_choice_of_parameters_goes_with_the_other_wrappers() -> Result<()> {
    let (own, other) = (Param::new(1.0), Param::new(1.0));
    let all = [
        ("own".to_string(), own.clone()),
        ("other".to_string(), other.clone()),
    ];
    let optimizer = Sgd::new(0.1).accumulate(3).only(&all[..1]).ema(0.5);
    for _ in 0..4 {
        let g = Graph::new();
        let loss = (g.param(&own) + g.param(&other)) * 2.0;
        optimizer.step(loss);
        g.run(loss)?;
    }
    let g = Graph::new();
    assert!(optimizer.flush(&g, &all, 1.0));
    g.run(())?;
    // one step by the mean of three gradients, and one by the fourth
    assert!((own.value().scalar()? - 0.6).abs() < 1e-15);
    assert_eq!(other.value().scalar()?, 1.0);
    assert!(
        !Sgd::new(0.1)
            .only(&all[..1])
            .flush(&Graph::new(), &all, 1.0)
    );

    // gradients of both are left: those of the chosen one are applied
    let shared = Sgd::new(0.1).accumulate(3);
    let g = Graph::new();
    let loss = g.param(&own) + g.param(&other);
    shared.step(loss);
    g.run(loss)?;
    let (g, before) = (Graph::new(), own.value());
    assert!((&shared).only(&all[..1]).flush(&g, &all, 1.0));
    g.run(())?;
    assert_ne!(own.value(), before);
    assert_eq!(other.value().scalar()?, 1.0);

    let e = Sgd::new(0.1).only(&[]).check().expect_err("nothing to do");
    assert!(e.to_string().contains("no parameters"));
    assert!(Sgd::new(-0.1).only(&all).check().is_err());
    Ok(())
}
