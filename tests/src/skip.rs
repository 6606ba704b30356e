//! Tests that not every machine lets anybody run, and how it is said that they were not.
//!
//! `tests/run` names a file in which that is written down, and says it again at its end.

use std::{env, fs::OpenOptions, io::Write};

use anyhow::Context;

/// The variable that names the file.
const FILE: &str = "CWN_SKIPPED";
/// Set to 1, nothing may be skipped.
const NOTHING: &str = "CWN_SKIP_NOTHING";

/// Why something cannot be tested here: nothing that the program under test could change.
#[derive(Debug)]
pub struct NotPermitted(pub String);

impl std::error::Error for NotPermitted {}

impl std::fmt::Display for NotPermitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says that something was not tested, and why. An error where nothing may be skipped.
pub fn skipped(what: &str, why: &NotPermitted) -> anyhow::Result<()> {
    let why = why.to_string().lines().collect::<Vec<_>>().join("; ");
    anyhow::ensure!(!env::var(NOTHING).is_ok_and(|set| set == "1"), "{what} cannot be tested here: {why}");
    println!("{what}: SKIPPED, nothing was tested: {why}");
    if let Some(path) = env::var_os(FILE) {
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{what} ({why})"));
        written.with_context(|| path.display().to_string())?;
    }
    Ok(())
}
