//! The member's program: one file per command.
//!
//! A face touches nothing but the API of a running daemon; `join` and `daemon` alone work on the data directory
//! itself, before there is one. Everything shown goes through [`show`], which lets nothing that came from others
//! move the terminal's cursor.

use std::{io::Write, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{api::client::Client, config::Config};

mod attach;
mod circle;
mod doctor;
mod join;
mod list;
mod partners;
mod peers;
mod publish;
mod read;
mod save;
pub mod show;
mod status;
mod who;

/// A node of the Cyberweerbaarheidsnetwerk: share with the partners you trust, and know who has received what.
#[derive(Debug, Parser)]
#[command(
    name = "cwn",
    version,
    after_help = "Start with `cwn join`, then `cwn daemon`; `cwn demo` shows it all on this machine."
)]
pub struct Program {
    /// The node's data directory.
    #[arg(long, env = "CWN_DATA", default_value_os_t = default_data(), global = true, hide_default_value = true)]
    pub data: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Join a network: make keys on this machine and get a certificate.
    Join(Box<join::Arguments>),
    /// Run the node until it is asked to stop.
    Daemon,
    /// Show how this node is: identity, certificate, connections, circles.
    Status(status::Arguments),
    /// Show the partners of the network and their keys.
    Partners(partners::Arguments),
    /// Found, join and change circles.
    #[command(subcommand)]
    Circle(circle::Command),
    /// Publish a report in a circle.
    Publish(publish::Arguments),
    /// Publish a file in a circle.
    Attach(attach::Arguments),
    /// List what was published, the newest first.
    List(list::Arguments),
    /// Read an entry.
    Read(read::Arguments),
    /// Show who has received an entry, and of whom that is unknown.
    Who(who::Arguments),
    /// Save an attachment of an entry to a file.
    Save(save::Arguments),
    /// Show who is connected, and why others are not.
    Peers(peers::Arguments),
    /// Look at everything this node depends on.
    Doctor(doctor::Arguments),
    /// Nine partners on this machine play it all through, and measure it.
    Demo(crate::demo::Arguments),
    /// The coordinator's commands; the same as `cwn-ca`.
    Ca(Box<crate::ca::cli::Arguments>),
}

fn default_data() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    let share = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    share.unwrap_or_default().join("cwn")
}

/// What every command of a face gets.
pub(crate) struct Face {
    pub(crate) client: Client,
}

/// Does what the arguments say.
pub async fn run(program: Program) -> anyhow::Result<()> {
    let Program { data, command } = program;
    let face = || -> anyhow::Result<Face> {
        let socket = Config::load(&data)?.socket(&data);
        Ok(Face { client: Client::new(socket) })
    };
    match command {
        Command::Join(arguments) => join::run(&data, *arguments).await,
        Command::Daemon => crate::daemon::run(&data).await,
        Command::Status(arguments) => status::run(&face()?, &arguments).await,
        Command::Partners(arguments) => partners::run(&face()?, &arguments).await,
        Command::Circle(command) => circle::run(&face()?, command).await,
        Command::Publish(arguments) => publish::run(&face()?, arguments).await,
        Command::Attach(arguments) => attach::run(&face()?, arguments).await,
        Command::List(arguments) => list::run(&face()?, &arguments).await,
        Command::Read(arguments) => read::run(&face()?, &arguments).await,
        Command::Who(arguments) => who::run(&face()?, &arguments).await,
        Command::Save(arguments) => save::run(&face()?, &arguments).await,
        Command::Peers(arguments) => peers::run(&face()?, &arguments).await,
        Command::Doctor(arguments) => doctor::run(&face()?, &arguments).await,
        Command::Demo(arguments) => crate::demo::run(arguments).await,
        Command::Ca(arguments) => crate::ca::cli::run(*arguments),
    }
}

/// Says what went wrong on standard error, in one paragraph, and gives the exit code.
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A reader that went away, as `head` does, is no failure.
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) {
                return ExitCode::SUCCESS;
            }
            let mut said = error.to_string();
            for cause in error.chain().skip(1).map(ToString::to_string) {
                // Most of our errors say their cause themselves.
                if !said.contains(&cause) {
                    said = format!("{said}: {cause}");
                }
            }
            eprintln!("cwn: {}", show::text(&said));
            ExitCode::FAILURE
        }
    }
}

/// Prints what a program asked for.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    Ok(writeln!(out)?)
}

/// Asks a person, who must say yes.
pub(crate) fn confirm(question: &str) -> anyhow::Result<()> {
    use std::io::IsTerminal;
    anyhow::ensure!(std::io::stdin().is_terminal(), "{question} Nobody is there to answer; say it with --yes");
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "j" | "ja");
    anyhow::ensure!(yes, "not done");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Program::command().debug_assert();
    }

    #[test]
    fn every_command_and_argument_says_what_it_is_for() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let named = matches!(argument.get_id().as_str(), "help" | "version");
                assert!(named || argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{}", sub.get_name());
                check(sub);
            }
        }
        check(&Program::command());
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        let readme = include_str!("../../../README.md");
        let commands = readme.lines().filter_map(|line| {
            let start = line.find("cwn ca ").or_else(|| line.find("cwn --data "))?;
            let command = line[start..].split(['>', '&', ')']).next()?;
            Some(command.replace('"', "'"))
        });
        let mut count = 0;
        for command in commands {
            let mut words = Vec::new();
            for (index, part) in command.split('\'').enumerate() {
                if index % 2 == 1 {
                    words.push(part.to_owned());
                } else {
                    words.extend(part.split_whitespace().map(str::to_owned));
                }
            }
            let parsed = Program::try_parse_from(&words);
            assert!(parsed.is_ok(), "{command}\n{}", parsed.unwrap_err());
            count += 1;
        }
        assert!(count >= 12, "the README shows {count} commands");
    }
}
