//! Tells the code whether it is compiled without optimisation: then functions that are inlined for speed are not, since
//! each of their temporaries would have a place of its own on the stack, megabytes in all.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(unoptimised)");
    if std::env::var("OPT_LEVEL").as_deref() == Ok("0") {
        println!("cargo::rustc-cfg=unoptimised");
    }
}
