//! A whole training of real data has the same bits on any number of threads and with every instruction set that has fused
//! multiply-adds.

use nn::{Activation, Module, Sgd, Trainer, data};
use std::process::Command;

/// The environment variable that forces an instruction set.
const FORCED: &str = "AUTOGRAD_ISA";

/// The bits of all weights after a training on so many threads.
fn train(threads: usize) -> nn::Result<Vec<u64>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    pool.install(|| {
        let (train, test) = data::digits()?;
        // wide enough that its products are split
        let model = nn::mlp(&[64, 300, 200, 10], Activation::Relu, 3).dropout(0.1);
        let sgd = Sgd::new(0.05).momentum(0.9).weight_decay(1e-4);
        let history = Trainer::new(&model, sgd)
            .loss(nn::loss::cross_entropy)
            .batch_size(96)
            .epochs(6)
            .seed(5)
            .validate(&test)
            .quiet()
            .fit(&train)?;
        assert!(
            history[5].validation.as_ref().and_then(|v| v.accuracy) > Some(0.85),
            "{}",
            history[5]
        );
        Ok(model
            .parameters()
            .iter()
            .flat_map(|(_, p)| p.value().to_f64s())
            .map(f64::to_bits)
            .collect())
    })
}

fn hash(bits: &[u64]) -> u64 {
    bits.iter().fold(0, |hash: u64, &bits| {
        (hash.rotate_left(9) ^ bits).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

#[test]
fn a_training_has_the_same_bits_on_any_number_of_threads() -> nn::Result<()> {
    let one = train(1)?;
    for threads in [2, 3, 4, 8] {
        assert!(one == train(threads)?, "{threads} threads");
    }
    println!("weights: {:016x}", hash(&one));
    Ok(())
}

/// Runs the test above with each instruction set and compares what it prints.
#[test]
fn a_training_has_the_same_bits_with_every_instruction_set() {
    if std::env::var(FORCED).is_ok() {
        return; // one of those
    }
    let this = std::env::current_exe().expect("the test's path");
    let print = |isa: &str| {
        let arguments = [
            "--nocapture",
            "a_training_has_the_same_bits_on_any_number_of_threads",
        ];
        let run = Command::new(&this)
            .args(arguments)
            .env(FORCED, isa)
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{isa}: {text}");
        let at = text.find("weights: ").expect("printed");
        text[at..at + 25].to_string()
    };
    // what the processor does not have is the best that it has
    assert_eq!(print("avx2"), print("avx512"));
}
