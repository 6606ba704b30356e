//! The member's program: one file per command.
//!
//! A face touches nothing but the API of a running daemon; `join` and `daemon` alone work on the data directory
//! itself, before there is one. Everything shown goes through [`show`], which lets nothing that came from others
//! move the terminal's cursor.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::{api::client::Client, config::Config};

mod attach;
mod backup;
mod circle;
mod doctor;
mod drafts;
pub(crate) mod export;
mod import;
mod join;
mod list;
mod partners;
mod peers;
mod publish;
mod read;
mod restore;
mod retract;
mod root;
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
    /// The node's data directory; when none is given, `cwn` in $XDG_DATA_HOME or in ~/.local/share.
    #[arg(long, value_name = "DIR", env = "CWN_DATA", default_value_os_t = default_data(), global = true, hide_default_value = true)]
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
    #[command(after_help = "Example:\n  cwn --data z-cert daemon")]
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
    /// Look at what was written and cannot be sealed yet, and decide about it.
    Drafts(drafts::Arguments),
    /// List what was published, the newest first.
    List(list::Arguments),
    /// Read an entry.
    Read(read::Arguments),
    /// Take back an entry that this node published.
    Retract(retract::Arguments),
    /// Show who has received an entry, and of whom that is unknown.
    Who(who::Arguments),
    /// Save an attachment of an entry to a file.
    Save(save::Arguments),
    /// Write a circle to a file, to carry it where no connection leads.
    Export(export::Arguments),
    /// Take in a file that was carried here.
    Import(import::Arguments),
    /// Write everything this node needs to come back to one file.
    Backup(backup::Arguments),
    /// Put a backup back into an empty data directory.
    Restore(restore::Arguments),
    /// Go on to a later version of the root document.
    #[command(subcommand)]
    Root(root::Command),
    /// Show who is connected, and why others are not.
    Peers(peers::Arguments),
    /// Look at everything this node depends on.
    Doctor(doctor::Arguments),
    /// Nine partners on this machine play it all through, and measure it.
    Demo(crate::demo::Arguments),
    /// The coordinator's commands; the same as `cwn-ca`.
    // A CA is no node: the option stays out of its help.
    #[command(arg = clap::Arg::new("data").long("data").value_parser(clap::value_parser!(PathBuf)).global(true).hide(true))]
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

fn face(data: &Path) -> anyhow::Result<Face> {
    // A daemon that was just started is waited for; a directory that is not there never gets one.
    anyhow::ensure!(
        data.is_dir(),
        "there is no data directory {}; make one with `cwn join`, or name yours with --data",
        data.display()
    );
    Ok(Face { client: Client::new(Config::load(data)?.socket(data)) })
}

/// Does what the arguments say.
pub async fn run(program: Program) -> anyhow::Result<()> {
    let Program { data, command } = program;
    let face = || face(&data);
    match command {
        Command::Join(arguments) => join::run(&data, *arguments).await,
        Command::Daemon => crate::daemon::run(&data).await,
        Command::Status(arguments) => status::run(&face()?, &arguments).await,
        Command::Partners(arguments) => partners::run(&face()?, &arguments).await,
        Command::Circle(command) => circle::run(&face()?, command).await,
        Command::Publish(arguments) => publish::run(&face()?, arguments).await,
        Command::Attach(arguments) => attach::run(&face()?, arguments).await,
        Command::Drafts(arguments) => drafts::run(&face()?, arguments).await,
        Command::List(arguments) => list::run(&face()?, &arguments).await,
        Command::Read(arguments) => read::run(&face()?, &arguments).await,
        Command::Retract(arguments) => retract::run(&face()?, arguments).await,
        Command::Who(arguments) => who::run(&face()?, &arguments).await,
        Command::Save(arguments) => save::run(&face()?, &arguments).await,
        Command::Export(arguments) => export::run(&face()?, arguments).await,
        Command::Import(arguments) if arguments.only_checks() => import::check(&arguments),
        Command::Import(arguments) => import::run(&face()?, &arguments).await,
        Command::Backup(arguments) => match arguments.verifies() {
            Some(file) => backup::verify(file).await,
            None => backup::run(&face()?, &arguments).await,
        },
        Command::Restore(arguments) => restore::run(&data, &arguments).await,
        Command::Root(command) => root::run(&face()?, command).await,
        Command::Peers(arguments) => peers::run(&face()?, &arguments).await,
        Command::Doctor(arguments) => doctor::run(&data, &arguments).await,
        Command::Demo(arguments) => crate::demo::run(arguments).await,
        Command::Ca(arguments) => crate::ca::cli::run(*arguments),
    }
}

/// Says what went wrong on standard error, and gives the exit code: 0 done, 1 refused or failed. (2, for what
/// cannot be understood, comes from the parser.)
pub fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that went away, as `head` does, is no failure.
        Err(error) if error.chain().any(is_closed_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            show::note(&complaint(&error));
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// One line for what happened, one for what to do: our errors say both, with a semicolon between.
fn complaint(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Most of our errors say their cause themselves.
        if !said.contains(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    let said = show::text(&said);
    match said.rsplit_once("; ") {
        Some((happened, remedy)) => format!("cwn: {happened}\n     {remedy}"),
        None => format!("cwn: {said}"),
    }
}

/// What a person names; an empty word would name something else, or nothing, by the time it is looked up.
pub(crate) fn named(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("it is empty, and names nothing".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Prints what a program asked for.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(show::page(&show::json(value)?)?)
}

/// Asks a person, who must say yes.
pub(crate) fn confirm(question: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        io::stdin().is_terminal(),
        "nobody is at a terminal to answer this: {question}; run it at one, or say yes with --yes"
    );
    let mut err = io::stderr().lock();
    write!(err, "{question} [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    let yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes" | "j" | "ja");
    anyhow::ensure!(yes, "not done, as the answer was not yes");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::ca::cli::own_node;

    /// The words of a command line, as a shell takes them apart. What comes before a pipe, and what stands after
    /// a comment or a redirection, is not for the program.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '"' | '\'' => quoted = !quoted,
                '#' | '>' | '&' | ')' | ';' if !quoted => break,
                '|' if !quoted => words = vec![String::new()],
                c if c.is_whitespace() && !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    fn parses(line: &str) {
        let parsed = Program::try_parse_from(words(line));
        assert!(parsed.is_ok(), "{line}\n{}", parsed.unwrap_err());
    }

    /// What a command line that cannot be understood gets to hear.
    fn refused(line: &str) -> String {
        let error = Program::try_parse_from(words(line)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        error.to_string()
    }

    fn help(line: &str) -> String {
        let shown = Program::try_parse_from(words(line)).unwrap_err();
        assert_eq!(shown.exit_code(), 0, "{line}");
        shown.to_string()
    }

    fn leaves<'a>(command: &'a clap::Command, found: &mut Vec<&'a clap::Command>) {
        if command.get_subcommands().next().is_none() {
            found.push(command);
        }
        command.get_subcommands().for_each(|sub| leaves(sub, found));
    }

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
    fn every_command_of_a_member_shows_an_example_of_itself_that_is_understood() {
        let program = Program::command();
        let mut commands = Vec::new();
        program.get_subcommands().filter(|sub| !matches!(sub.get_name(), "ca" | "demo")).for_each(|sub| {
            leaves(sub, &mut commands);
        });
        assert!(commands.len() >= 18, "{} commands", commands.len());
        for command in commands {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  ")).collect();
            assert!(!examples.is_empty(), "`{}` shows no example", command.get_name());
            for example in examples {
                assert!(words(example).contains(&command.get_name().to_owned()), "{example}");
                parses(example);
            }
        }
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        let readme = include_str!("../../../README.md");
        let commands: Vec<&str> = readme
            .lines()
            .filter_map(|line| Some(&line[line.find("cwn ca ").or_else(|| line.find("cwn --data "))?..]))
            .collect();
        commands.iter().for_each(|command| parses(command));
        assert!(commands.len() >= 12, "the README shows {} commands", commands.len());
    }

    #[test]
    fn the_examples_of_publishing_are_carried_by_a_circle_as_it_is_founded() {
        let tlp = |name: &str| name.parse::<cwn_functions::marking::Tlp>().unwrap();
        let ceiling = match Program::try_parse_from(words("cwn circle create haven z-cert")).unwrap().command {
            Command::Circle(circle::Command::Create(create)) => tlp(&create.ceiling),
            other => panic!("{other:?}"),
        };
        let shown = help("cwn publish --help");
        let examples: Vec<Vec<String>> =
            shown.lines().filter(|line| line.starts_with("  ") && line.contains("cwn publish ")).map(words).collect();
        assert_eq!(examples.len(), 4, "{shown}");
        for example in examples {
            let marking = &example[example.iter().position(|word| word == "--tlp").unwrap() + 1];
            assert!(tlp(marking) <= ceiling, "{example:?}");
        }
    }

    #[test]
    fn the_help_of_the_cas_commands_shows_the_options_that_they_have() {
        let help = help("cwn ca invite --help");
        assert!(help.contains("--dir") && help.contains("--credential") && !help.contains("--data"), "{help}");
        for line in ["cwn ca invite --dir x z-cert --name Z", "cwn ca --dir x --credential y invite z-cert --name Z"] {
            parses(line);
        }
    }

    #[test]
    fn the_next_step_after_founding_a_network_is_a_command_that_is_understood() {
        let (dir, credential) = (Path::new("my-ca"), Path::new("ca-credential"));
        for command in [own_node(dir, None), own_node(dir, Some(credential))] {
            parses(&command);
        }
        assert!(own_node(dir, Some(credential)).contains("--ca my-ca --ca-credential ca-credential"));
    }

    #[test]
    fn an_empty_word_where_something_is_named_is_refused_as_that() {
        fn check(path: &[&str], command: &clap::Command, checked: &mut usize) {
            for sub in command.get_subcommands().filter(|sub| !matches!(sub.get_name(), "ca" | "demo" | "join")) {
                check(&[path, &[sub.get_name()]].concat(), sub, checked);
            }
            let mut words = path.to_vec();
            for positional in command.get_positionals() {
                if positional.get_value_parser().type_id() == std::any::TypeId::of::<String>() {
                    let error = Program::try_parse_from(words.iter().chain(&[""])).unwrap_err();
                    assert!(error.to_string().contains("names nothing"), "{words:?}: {error}");
                    *checked += 1;
                }
                words.push("some");
            }
        }
        let mut checked = 0;
        check(&["cwn"], &Program::command(), &mut checked);
        assert!(checked >= 25, "{checked} places where something is named");
    }

    #[test]
    fn an_entry_without_a_marking_is_refused_with_the_markings_there_are() {
        let said = refused("cwn publish haven --title x");
        assert!(said.contains("--tlp <CLEAR|GREEN|AMBER|AMBER+STRICT|RED>"), "{said}");
    }

    #[test]
    fn a_mistyped_command_or_flag_is_answered_with_the_one_that_was_meant() {
        assert!(refused("cwn pubish haven").contains("'publish'"));
        assert!(refused("cwn publish haven --titel x").contains("'--title'"));
    }

    #[test]
    fn a_list_of_nothing_and_one_of_everything_are_refused_with_the_range() {
        for limit in ["0", "1001", "all"] {
            let said = refused(&format!("cwn list --limit {limit}"));
            assert!(said.contains("--limit") && (limit == "all" || said.contains("1..=1000")), "{said}");
        }
    }

    #[test]
    fn joining_without_an_invitation_names_the_ways_to_give_one() {
        let said = refused("cwn join");
        assert!(said.contains("INVITATION") && said.contains("--file") && said.contains("--ca"), "{said}");
    }

    #[test]
    fn a_complaint_says_what_happened_and_below_it_what_to_do() {
        let error = anyhow::anyhow!("the door is closed; knock").context("could not come in");
        assert_eq!(complaint(&error), "cwn: could not come in: the door is closed\n     knock");
        assert_eq!(complaint(&anyhow::anyhow!("gone\u{1b}[2J")), "cwn: gone\u{FFFD}[2J");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named_with_the_remedy() {
        let nowhere = tempfile::tempdir().unwrap().path().join("nowhere");
        let said = face(&nowhere).err().unwrap().to_string();
        assert!(said.contains(&nowhere.display().to_string()) && said.contains("`cwn join`"), "{said}");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_and_another_error_is() {
        let closed = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("while printing");
        assert!(closed.chain().any(is_closed_pipe));
        let full = anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!full.chain().any(is_closed_pipe));
    }
}
