//! Training gives the same bits on any number of threads, and with every instruction set that has
//! fused multiply-add.

use nn::{Activation, Module, Sgd, Trainer, data};
use std::process::Command;

/// The environment variable that forces an instruction set.
const ISA_VARIABLE: &str = "AUTOGRAD_ISA";

/// The bits of all weights after training on `threads` threads.
fn train(threads: usize) -> nn::Result<Vec<u64>> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    pool.install(|| {
        let (train, test) = data::digits()?;
        // wide enough for matrix products to run on several threads
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
fn training_is_bitwise_reproducible_on_any_number_of_threads() -> nn::Result<()> {
    let expected = train(1)?;
    for threads in [2, 3, 4, 8] {
        assert!(expected == train(threads)?, "{threads} threads");
    }
    println!("weights: {:016x}", hash(&expected));
    Ok(())
}

/// Runs the test above with each instruction set, and compares the printed hashes.
#[test]
fn training_is_bitwise_reproducible_with_every_instruction_set() {
    if std::env::var(ISA_VARIABLE).is_ok() {
        return; // this is one of the processes started below
    }
    let test_binary = std::env::current_exe().expect("the test's path");
    let weights_hash = |isa: &str| {
        let arguments = [
            "--nocapture",
            "training_is_bitwise_reproducible_on_any_number_of_threads",
        ];
        let output = Command::new(&test_binary)
            .args(arguments)
            .env(ISA_VARIABLE, isa)
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{isa}: {text}");
        let at = text.find("weights: ").expect("printed");
        text[at..at + 25].to_string()
    };
    // on a processor without AVX-512, `avx512` means the best instruction set that it has
    assert_eq!(weights_hash("avx2"), weights_hash("avx512"));
}
