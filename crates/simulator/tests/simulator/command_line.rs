//! The program, as somebody who looks at a trace runs it.

use std::process::{Command, Stdio};

/// `quorate-simulate --seed 70 --trace | head`
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-simulate"));
    command.args(["--seed", "70", "--trace"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it was built with this test");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it is our child");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), said.as_ref()), (Some(0), ""));
}

/// `quorate-simulate explore`, within bounds that leave little to explore.
#[test]
fn an_exploration_says_whether_it_was_complete() {
    let explore = |bounds: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-simulate"));
        let output = command.arg("explore").args(bounds).output().expect("it was built with this");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let two = ["--voters", "2", "--terms", "1", "--commands", "1", "--crashes", "0"];
    let (status, said) = explore(&two);
    assert!(status == Some(0) && said.contains("distinct states, all there are"), "{said}");
    let (status, said) = explore(&[&two[..], &["--states-max", "5"]].concat());
    assert!(status == Some(0) && said.contains("not all there are"), "{said}");
    // What is to be found and is not.
    let (status, said) = explore(&[&two[..], &["--expect", "vote_once"]].concat());
    assert!(status == Some(1) && said.contains("vote_once did not fire"), "{said}");
    assert_eq!(explore(&["--voters", "0"]).0, Some(2));
}
