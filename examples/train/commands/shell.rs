//! Completions and the manual page, from the description of the command line.

use crate::options::Options;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use examples::terminal::{Ended, print};
use nn::{Error, Result};

pub(crate) fn completions(shell: Shell) -> Result<Ended> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "train", &mut script);
    print(&script).map(|()| Ended::Finished)
}

/// The page of the program, and one section for each command.
pub(crate) fn man() -> Result<Ended> {
    let (mut page, mut command) = (Vec::new(), Options::command());
    command.build();
    let failed = |e| Error::Invalid(format!("the manual page cannot be made: {e}"));
    let man = clap_mangen::Man::new(command.clone());
    man.render(&mut page).map_err(failed)?;
    for sub in command.get_subcommands().filter(|c| has_options(c)) {
        page.extend(format!(".SH \"{}\"\n", sub.get_name().to_uppercase()).bytes());
        let man = clap_mangen::Man::new(sub.clone());
        man.render_description_section(&mut page)
            .and_then(|()| man.render_synopsis_section(&mut page))
            .and_then(|()| man.render_options_section(&mut page))
            .map_err(failed)?;
    }
    print(&page).map(|()| Ended::Finished)
}

fn has_options(command: &Command) -> bool {
    command.get_name() != "help" && command.get_arguments().any(|a| a.get_id() != "help")
}
