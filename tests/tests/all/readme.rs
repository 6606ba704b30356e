//! The README's walk for a newcomer, word for word, but for where it is done: another directory, other ports.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use cwn_tests::shell::{say, shell};

/// A newcomer types slowly, and tries again what came too early.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(200);

/// Daemons, which end with the walk.
struct Daemons(Vec<Child>);

impl Drop for Daemons {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The commands of the walk: the blocks behind its heading, without what only prepares a terminal.
fn commands() -> Vec<String> {
    let readme = include_str!("../../../README.md");
    let walk = readme.split_once("## Your own network, in three terminals").unwrap().1;
    let walk = walk.split_once("\n## ").unwrap().0;
    let blocks = walk.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).filter(|line| !line.is_empty());
    let prepares = ["cargo build", "export PATH", "mkdir -p /tmp/cwn", "cd /tmp/cwn"];
    lines.filter(|line| !prepares.iter().any(|start| line.starts_with(start))).map(str::to_owned).collect()
}

/// Puts free ports in the place of those that the README names.
fn with_free_ports(commands: Vec<String>) -> Vec<String> {
    let ports = ["4001", "4002", "4011", "4021"];
    let listeners = ports.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let free = listeners.map(|listener| listener.local_addr().unwrap().port().to_string());
    let replace = |command: String| {
        let named = ports.iter().zip(&free);
        named.fold(command, |command, (port, free)| {
            command.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{free}"))
        })
    };
    commands.into_iter().map(replace).collect()
}

/// What the daemons said, for when something does not hold.
fn logs(dir: &Path) -> String {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| format!("{}:\n{}", path.display(), fs::read_to_string(&path).unwrap())).collect()
}

/// Does it until it goes well and says what it should.
fn until_said(dir: &Path, line: &str, word: &str) -> String {
    let start = Instant::now();
    loop {
        let said = say(dir, line).unwrap();
        if said.code == Some(0) && said.out.contains(word) {
            return said.out;
        }
        assert!(start.elapsed() < PATIENCE, "{line}: {said:?}\n{}", logs(dir));
        thread::sleep(AGAIN);
    }
}

#[test]
fn the_walk_for_a_newcomer_works_word_for_word() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemons = Daemons(Vec::new());
    let commands = with_free_ports(commands());
    assert!(commands.len() >= 16, "{commands:#?}");
    for line in commands {
        if line.contains(" daemon") {
            let foreground = format!("exec {}", line.trim_end_matches('&'));
            let log = fs::File::create(dir.path().join(format!("daemon-{}.log", daemons.0.len()))).unwrap();
            daemons.0.push(shell(dir.path(), &foreground).unwrap().stderr(log).spawn().unwrap());
        } else if line.ends_with(" list") {
            let said = until_said(dir.path(), &line, "Storing op de kade");
            assert!(said.contains("AMBER") && said.contains("ferm"), "{said}");
        } else if line.ends_with(" status") {
            let said = until_said(dir.path(), &line, "haven");
            assert!(said.contains("z-cert"), "{said}");
        } else {
            until_said(dir.path(), &line, "");
        }
    }
    assert_eq!(daemons.0.len(), 3);
    for daemon in &mut daemons.0 {
        assert!(daemon.try_wait().unwrap().is_none(), "all three still run");
    }
}
