//! Shows which columns matter.

use crate::{options::Explain, text};
use examples::terminal::{self, Ended, complain, say};
use nn::{Result, data::Task};
use train::{Data, SavedModel, Source, importances};

/// At most so many columns are listed.
const MOST: usize = 30;

pub(crate) fn run(options: &Explain) -> Result<Ended> {
    terminal::start_threads(options.with.threads)?;
    let model = SavedModel::load(&options.with.model)?;
    let source = Source::read(&options.with.data)?;
    let (data, unseen) = Data::for_model(&source, &model)?;
    text::unseen(&unseen).iter().for_each(|note| complain(note));
    let all = importances(&model, &data, options.seed)?;
    let what = match model.target.task() {
        Task::Classification => "by how much the accuracy falls",
        Task::Regression => "by how much the mean square error rises, in variances of the target,",
    };
    let target = &model.target.name;
    say(&format!(
        "what columns matter to the prediction of {target}, on {}\n\
         shuffled: {what} when the column is shuffled over the rows\n\
         gradient: its part of all |gradient x input|",
        text::counted(data.len(), "sample")
    ))?;
    let wide = all.iter().take(MOST).map(|i| i.name.chars().count()).max();
    let wide = wide.unwrap_or(0).max(6);
    say(&format!(
        "{:wide$}  {:>9}  {:>9}",
        "column", "shuffled", "gradient"
    ))?;
    for importance in all.iter().take(MOST) {
        say(&format!(
            "{:wide$}  {:>9.4}  {:>7.1} %",
            importance.name,
            importance.permutation,
            100.0 * importance.gradient
        ))?;
    }
    match all.len().saturating_sub(MOST) {
        0 => {}
        more => say(&format!("and {more} more, which matter less"))?,
    }
    Ok(Ended::Finished)
}
