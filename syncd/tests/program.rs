//! The program by itself, without a home. What it does with one is `tests/e2e`, which takes the program that is built
//! for this test.

use std::process::{Command, Output};

fn syncd(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_syncd")).args(args).output().expect("the program starts")
}

#[test]
fn it_says_its_version_on_standard_output() {
    let output = syncd(&["--version"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("syncd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_ends_with_2_and_says_what_is_right() {
    for args in [&["rnu"][..], &["run", "--lisen", "127.0.0.1:0"]] {
        let output = syncd(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(output.stdout.is_empty() && said.contains("Usage:"), "{args:?}: {said}");
    }
}
