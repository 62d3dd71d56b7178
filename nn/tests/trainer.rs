//! What the trainer can do beside training: try, show, log, and read tables.

use autograd::Tensor;
use nn::{Activation, Adam, At, Callback, Log, Next, Result, Sgd, TimeBudget, Trainer, data};
use std::{cell::RefCell, time::Duration};

/// Counts its calls.
#[derive(Default)]
struct Calls<'c> {
    seen: Option<&'c RefCell<Vec<(&'static str, usize)>>>,
}

impl Callback for Calls<'_> {
    fn step(&mut self, at: &At<'_>) -> Result<Next> {
        self.say("step", at)
    }
    fn epoch(&mut self, at: &At<'_>) -> Result<Next> {
        self.say("epoch", at)
    }
    fn end(&mut self, at: &At<'_>) -> Result<()> {
        self.say("end", at).map(drop)
    }
}

impl Calls<'_> {
    fn say(&self, what: &'static str, at: &At<'_>) -> Result<Next> {
        self.seen
            .into_iter()
            .for_each(|seen| seen.borrow_mut().push((what, at.step)));
        Ok(Next::Continue)
    }
}

#[test]
fn callbacks_come_at_the_named_points_and_batches_can_be_limited() -> Result<()> {
    let (train, _) = data::digits()?;
    let (model, seen) = (nn::mlp(&[64, 10], Activation::Relu, 1), RefCell::default());
    let history = Trainer::new(&model, Sgd::new(0.1))
        .epochs(2)
        .batches_per_epoch(2)
        .with(Calls { seen: Some(&seen) })
        .quiet()
        .fit(&train)?;
    assert_eq!(history.len(), 2);
    let expected = [
        ("step", 1),
        ("step", 2),
        ("epoch", 2),
        ("step", 3),
        ("step", 4),
        ("epoch", 4),
        ("end", 4),
    ];
    assert_eq!(seen.into_inner(), expected);
    Ok(())
}

#[test]
fn one_batch_can_be_learnt_by_heart() -> Result<()> {
    let (train, _) = data::digits()?;
    let model = nn::mlp(&[64, 64, 10], Activation::Relu, 1);
    let history = Trainer::new(&model, Adam::new(0.01))
        .epochs(60)
        .overfit()
        .quiet()
        .fit(&train)?;
    assert!(
        history[59].train.loss < 0.01 && history[59].train.accuracy == Some(1.0),
        "{}",
        history[59]
    );
    Ok(())
}

#[test]
fn a_dry_run_shows_layers_parameters_memory_and_arithmetic() -> Result<()> {
    let (train, _) = data::digits()?;
    let model = nn::mlp(&[64, 32, 10], Activation::Relu, 1);
    let before = nn::Module::parameters(&model)[0].1.value();
    let dry = Trainer::new(&model, Adam::new(0.01))
        .batch_size(50)
        .dry_run(&train)?;
    let text = dry.to_string();
    for part in [
        "f32[50, 32] = mlp.0.linear",
        "layers.1.weight",
        "f32[32, 10]",
        "2410 numbers are trained",
        "GFLOP",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(dry.steps, train.len().div_ceil(50));
    assert_eq!(nn::Module::parameters(&model)[0].1.value(), before);
    Ok(())
}

#[test]
fn logs_are_lines_of_json_and_budgets_pause() -> Result<()> {
    let (train, test) = data::digits()?;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("log.jsonl");
    let model = nn::mlp(&[64, 10], Activation::Relu, 1);
    let trainer = || Trainer::new(&model, Sgd::new(0.1)).validate(&test).quiet();
    trainer().with(Log::json_lines(&file)).fit(&train)?;
    let text = std::fs::read_to_string(&file).expect("a log");
    assert!(
        text.starts_with("{\"epoch\":1,\"loss\":") && text.trim_end().ends_with('}'),
        "{text}"
    );
    let history = trainer()
        .epochs(1000)
        .with(TimeBudget::new(Duration::ZERO))
        .fit(&train)?;
    assert!(history.is_empty());
    Ok(())
}

#[test]
#[cfg(feature = "csv")]
fn tables_are_read_and_mistakes_named() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |text: &str| {
        let file = folder.path().join("table.csv");
        std::fs::write(&file, text).expect("writable");
        file
    };
    let data = data::read_csv(write("a, price, b\n1, 0.5, 2\n3, 1.5, 4\n"), "price")?;
    assert_eq!(
        (&data.inputs()?, data.targets()),
        (
            &Tensor::from([[1f32, 2.0], [3.0, 4.0]]),
            &Tensor::from([0.5f32, 1.5])
        )
    );
    for (text, said) in [
        ("a,b\n1,2\n", "has no column \"price\""),
        (
            "a,price\nx,2\n",
            "\"x\" in column \"a\" of record 1 is not a number",
        ),
        ("a,price\n1\n", "found record with 1 fields"),
    ] {
        let e = data::read_csv(write(text), "price")
            .expect_err(said)
            .to_string();
        assert!(e.contains(said) && e.contains("table.csv"), "{e}");
    }
    assert!(data::read_csv(folder.path().join("none.csv"), "price").is_err());
    Ok(())
}

#[test]
#[cfg(feature = "npy")]
fn arrays_of_numpy_are_read() -> Result<()> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("array.npy");
    // the format as its description has it: magic, version, length of the header, header, elements
    let npy = |kind: &str, shape: &str, elements: &[u8]| {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        let head = [
            b"\x93NUMPY\x01\x00",
            &(header.len() as u16).to_le_bytes()[..],
        ]
        .concat();
        std::fs::write(&file, [&head, header.as_bytes(), elements].concat()).expect("writable");
        data::read_npy(&file)
    };
    let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    assert_eq!(
        npy("<f4", "(2, 2)", &bytes)?,
        Tensor::from([[1f32, 2.0], [3.0, 4.0]])
    );
    assert_eq!(npy("<i8", "(1,)", &7i64.to_le_bytes())?, Tensor::from([7]));
    for (kind, shape, said) in [
        ("<f4", "(2, 3)", "not a whole npy file"),
        ("<c8", "(2,)", "a type other than"),
    ] {
        let e = npy(kind, shape, &bytes).expect_err(said).to_string();
        assert!(e.contains(said) && e.contains("array.npy"), "{e}");
    }
    Ok(())
}
