//! Helpers of several test files.

/// The environment variable that forces an instruction set.
const FORCED: &str = "AUTOGRAD_ISA";

/// Pseudorandom values.
#[allow(dead_code)] // not used by all files
pub(crate) fn numbers(shape: &[usize], seed: f64) -> autograd::Tensor {
    let all = (0..shape.iter().product())
        .map(|k: usize| ((seed + 1.7 * k as f64).sin() * 1.3) as f32)
        .collect();
    autograd::Tensor::new(shape, all).expect("small")
}

/// Runs this test file again with the kernels of every other instruction set of the processor.
#[allow(dead_code)] // not used by all files
pub(crate) fn on_every_instruction_set() {
    if std::env::var(FORCED).is_ok() {
        return; // this is one of these runs
    }
    let this = std::env::current_exe().expect("the test's path");
    for isa in ["baseline", "avx2", "avx512"] {
        let run = std::process::Command::new(&this)
            .env(FORCED, isa)
            .output()
            .expect("starts");
        assert!(
            run.status.success(),
            "{isa}: {}",
            String::from_utf8_lossy(&run.stdout)
        );
    }
}

/// Whether matrix products have the bits of their definition: only with fused multiply-adds.
#[allow(dead_code)] // not used by all files
pub(crate) fn exact_products() -> bool {
    // the instruction set of the target, or that of the kernels for this processor
    let always = cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    #[cfg(all(target_arch = "x86_64", not(autograd_portable)))]
    let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(all(target_arch = "x86_64", not(autograd_portable))))]
    let found = false;
    always || found && std::env::var(FORCED).as_deref() != Ok("baseline")
}
