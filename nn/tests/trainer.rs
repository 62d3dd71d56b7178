//! Callbacks, dry runs and logs of the trainer, and reading of tables.

use autograd::Tensor;
use nn::{
    Activation, Adam, Callback, CallbackContext, ControlFlow, Logger, Result, Sgd, TimeBudget,
    Trainer, data,
};
use std::{cell::RefCell, time::Duration};

/// Records its calls: the name of the method and the step.
struct CallRecorder<'c> {
    calls: &'c RefCell<Vec<(&'static str, usize)>>,
}

impl Callback for CallRecorder<'_> {
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.record("step", context)
    }
    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.record("epoch", context)
    }
    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.record("end", context).map(drop)
    }
}

impl CallRecorder<'_> {
    fn record(&self, method: &'static str, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        self.calls.borrow_mut().push((method, context.step));
        Ok(ControlFlow::Continue)
    }
}

#[test]
fn callbacks_are_called_and_steps_can_be_limited() -> Result<()> {
    let (train, _) = data::digits()?;
    let (model, calls) = (nn::mlp(&[64, 10], Activation::Relu, 1), RefCell::default());
    let history = Trainer::new(&model, Sgd::new(0.1))
        .epochs(2)
        .max_steps_per_epoch(2)
        .callback(CallRecorder { calls: &calls })
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
    assert_eq!(calls.into_inner(), expected);
    Ok(())
}

#[test]
fn a_model_can_overfit_one_batch() -> Result<()> {
    let (train, _) = data::digits()?;
    let model = nn::mlp(&[64, 64, 10], Activation::Relu, 1);
    let history = Trainer::new(&model, Adam::new(0.01))
        .epochs(60)
        .overfit_batch()
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
    let summary = Trainer::new(&model, Adam::new(0.01))
        .batch_size(50)
        .dry_run(&train)?;
    let text = summary.to_string();
    for part in [
        "f32[50, 32] = mlp.0.linear",
        "layers.1.weight",
        "f32[32, 10]",
        "2410 trainable parameters",
        "GFLOP",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert_eq!(summary.steps_per_epoch, train.len().div_ceil(50));
    assert_eq!(nn::Module::parameters(&model)[0].1.value(), before);
    Ok(())
}

#[test]
fn json_lines_log_and_time_budget() -> Result<()> {
    let (train, test) = data::digits()?;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("log.jsonl");
    let model = nn::mlp(&[64, 10], Activation::Relu, 1);
    let trainer = || Trainer::new(&model, Sgd::new(0.1)).validate(&test).quiet();
    trainer().callback(Logger::json_lines(&file)).fit(&train)?;
    let text = std::fs::read_to_string(&file).expect("a log");
    assert!(
        text.starts_with("{\"epoch\":1,\"loss\":") && text.trim_end().ends_with('}'),
        "{text}"
    );
    let history = trainer()
        .epochs(1000)
        .callback(TimeBudget::new(Duration::ZERO))
        .fit(&train)?;
    assert!(history.is_empty());
    Ok(())
}

#[test]
#[cfg(feature = "csv")]
fn csv_files_are_read_and_errors_are_located() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |text: &str| {
        let file = directory.path().join("table.csv");
        std::fs::write(&file, text).expect("writable");
        file
    };
    let data = data::read_csv(write("a, price, b\n1, 0.5, 2\n3, 1.5, 4\n"), "price")?;
    assert_eq!(
        (&data.inputs()?, data.targets()),
        (
            &Tensor::from([[1f32, 2.0], [3.0, 4.0]]),
            &Tensor::from([[0.5f32], [1.5]])
        )
    );
    for (text, message) in [
        ("a,b\n1,2\n", "has no column `price`"),
        (
            "a,price\nx,2\n",
            "`x` in column `a` of record 1 is not a finite number",
        ),
        ("a,price\n1\n", "found record with 1 fields"),
    ] {
        let e = data::read_csv(write(text), "price")
            .expect_err(message)
            .to_string();
        assert!(e.contains(message) && e.contains("table.csv"), "{e}");
    }
    assert!(data::read_csv(directory.path().join("none.csv"), "price").is_err());
    Ok(())
}

#[test]
fn npy_files_are_read() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("array.npy");
    // npy format: magic, version, length of the header, header, elements
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
    for (kind, shape, message) in [
        ("<f4", "(2, 3)", "not a valid npy file"),
        ("<c8", "(2,)", "expected elements of type"),
    ] {
        let e = npy(kind, shape, &bytes).expect_err(message).to_string();
        assert!(e.contains(message) && e.contains("array.npy"), "{e}");
    }
    Ok(())
}
