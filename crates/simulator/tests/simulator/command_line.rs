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
