//! The programs as a person types them, in a directory of the test's own.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::world::program;

/// What a command line said.
#[derive(Debug)]
pub struct Said {
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
}

/// A command line for bash, which finds the programs under test first.
pub fn shell(dir: &Path, line: &str) -> anyhow::Result<Command> {
    let programs = program()?.with_file_name("");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))?;
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(dir).env("PATH", path);
    for set_by_a_person in ["CWN_DATA", "CWN_CA", "CWN_CA_CREDENTIAL"] {
        command.env_remove(set_by_a_person);
    }
    Ok(command)
}

/// Types a line, and waits until it is done.
pub fn say(dir: &Path, line: &str) -> anyhow::Result<Said> {
    let Output { status, stdout, stderr } = shell(dir, line)?.output()?;
    Ok(Said { out: String::from_utf8(stdout)?, err: String::from_utf8(stderr)?, code: status.code() })
}
