//! The demo as its watcher meets it: that it ends what it started, whatever ends it. That all of its lines hold is
//! tested with the other stories over real processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long nodes may take to start on a machine under load.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a person waits after Ctrl-C.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Daemons that run when the demo is stopped: in the middle of the first chapter.
const RUNNING: usize = 3;

fn demo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cwn"));
    command.args(["demo", "--once", "--dir"]).arg(dir).stdin(Stdio::null());
    command
}

/// The sockets on which somebody answers.
fn answering(dir: &Path) -> Vec<PathBuf> {
    let nodes = fs::read_dir(dir).into_iter().flatten().map(|node| node.unwrap().path().join("cwn.sock"));
    nodes.filter(|socket| UnixStream::connect(socket).is_ok()).collect()
}

fn wait_until(within: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < within, "{what}: not within {within:?}");
        sleep(LOOK_EVERY);
    }
}

fn output(mut child: Child) -> Output {
    wait_until(ENDS_WITHIN, "the demo ends", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

fn stopped_by(signal: Signal) {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("demo");
    let child = demo(&dir).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until(PATIENCE, "daemons run", || answering(&dir).len() >= RUNNING);
    kill_process(Pid::from_child(&child), signal).unwrap();
    let output = output(child);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    wait_until(ENDS_WITHIN, "its daemons end", || answering(&dir).is_empty());
}

#[test]
fn ctrl_c_ends_all_that_was_started() {
    stopped_by(Signal::INT);
}

#[test]
fn a_supervisor_that_ends_it_ends_all_that_was_started() {
    stopped_by(Signal::TERM);
}

#[test]
fn a_daemon_that_cannot_start_is_told_at_once_and_with_its_reason() {
    let scratch = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let output = demo(&scratch.path().join("demo")).env("SSLKEYLOGFILE", "keys").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("SSLKEYLOGFILE") && said.contains("NCSC: expected that its daemon runs"), "{said}");
    assert!(start.elapsed() < PATIENCE, "it was waited for: {said}");
}

#[test]
fn a_directory_that_is_there_already_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let output = demo(scratch.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("exists already") && said.contains("give another --dir"), "{said}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}
