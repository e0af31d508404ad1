//! `netsonde`: packet and flow probe for Linux hosts. Parses, runs one command, and turns
//! its end into an exit code and at most one line on standard error.
#![forbid(unsafe_code)]
// In a binary every `pub` is unreachable from outside; here it means "for other modules".
#![allow(unreachable_pub)]

mod cli;
mod config;
mod exit;
mod notify;
mod opener;
mod output;
mod passive;
mod ping;
mod privileges;
mod publish;
mod reflect;
mod shutdown;
mod startup;
mod status;
mod supervise;
mod targets;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use cli::{Cli, Command};
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version leave before anything that can fail, on standard output.
        Err(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                let _ = error.print();
            } else {
                exit::complain(cli::one_line(&error));
            }
            return ExitCode::from(Exit::Usage.code());
        }
    };
    match run(cli.command) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => {
            let (exit, message) = exit::explain(&error);
            if let Some(message) = message {
                exit::complain(message);
            }
            ExitCode::from(exit.code())
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Ping(args) => ping::ping(&args),
        Command::Reflect(args) => reflect::reflect(&args),
        Command::Capture(args) => passive::capture(&args),
        Command::Agent(args) => startup::run(args),
        Command::Status(args) => status::run(&args),
    }
}

/// The command line as it stands in documents; what is no UTF-8 is replaced.
fn command_line() -> Vec<String> {
    std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}
