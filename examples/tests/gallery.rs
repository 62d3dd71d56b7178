//! Runs the programs of the gallery: each says itself whether it has learned what it should.

use std::{path::Path, process::Command};

#[test]
fn all_programs_of_the_gallery_work() {
    let tests = std::env::current_exe().expect("a running test");
    let target = tests
        .parent()
        .and_then(Path::parent)
        .expect("target/profile/deps/test");
    let name = format!("gallery{}", std::env::consts::EXE_SUFFIX);
    let run = |arguments: &[&str]| {
        let output = Command::new(target.join("examples").join(&name))
            .args(arguments)
            .output();
        let output = output.expect("the example was built");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (status, out, errors) = run(&[]);
    assert_eq!(status, Some(0), "{out}{errors}");
    assert!(out.matches("--- ").count() >= 11, "{out}");
    let (status, out, errors) = run(&["nothing"]);
    assert_eq!((status, out.as_str()), (Some(2), ""));
    assert!(
        errors.starts_with("there is no program nothing."),
        "{errors}"
    );
}
