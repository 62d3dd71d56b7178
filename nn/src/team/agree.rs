//! Agreement between ranks: what all of them know before any of them goes on.

use super::{
    Team,
    wire::{Reader, Writer},
};
use crate::error::{Error, Result};
use std::cell::Cell;

/// The agreements of one training. Each is an exchange of messages in which a rank can also say that it
/// has failed, so that no rank waits for one that does not come: whatever fails between two agreements
/// is known in the next one, for which [`end`](Agreement::end) cares.
pub(crate) struct Agreement<'t> {
    team: &'t dyn Team,
    /// Whether all ranks know of an error.
    failed: Cell<bool>,
}

impl<'t> Agreement<'t> {
    pub(crate) fn new(team: &'t dyn Team) -> Agreement<'t> {
        Agreement {
            team,
            failed: Cell::new(false),
        }
    }

    pub(crate) fn team(&self) -> &'t dyn Team {
        self.team
    }

    /// Whether this rank writes files and prints.
    pub(crate) fn is_first(&self) -> bool {
        self.team.rank() == 0
    }

    /// What all ranks give at this point of the program, which has a name. An error on all ranks if one
    /// of them has failed, or is at another point.
    pub(crate) fn gather(&self, at: &str, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.exchange(at, Ok(mine))
    }

    /// Ends a training on this rank: tells the others how, if they do not know it yet.
    pub(crate) fn end<T>(&self, result: Result<T>) -> Result<T> {
        if self.failed.get() {
            return result;
        }
        match result {
            Ok(value) => self.exchange("the end", Ok(&[])).map(|_| value),
            // this rank has its own error to tell
            Err(e) => {
                let _ = self.exchange("the end", Err(&e));
                Err(e)
            }
        }
    }

    fn exchange(&self, at: &str, mine: Result<&[u8], &Error>) -> Result<Vec<Vec<u8>>> {
        if self.team.size() == 1 {
            return Ok(mine.map_or(Vec::new(), |mine| vec![mine.to_vec()]));
        }
        let mut writer = Writer::default();
        match mine {
            Ok(mine) => writer.bytes(at.as_bytes()).bytes(mine),
            Err(e) => writer
                .bytes(FAILED.as_bytes())
                .bytes(e.to_string().as_bytes()),
        };
        let all = self.team.all_gather(&writer.finish());
        let messages = all.and_then(|all| messages(&all));
        if messages.is_err() {
            self.failed.set(true);
        }
        messages
    }
}

/// The name of the point at which a rank is that has failed.
const FAILED: &str = "";

/// What the ranks gave, if none has failed and all are at the same point.
fn messages(all: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mut points = Vec::new();
    for message in all {
        let mut reader = Reader::new(message);
        points.push((reader.text()?, reader.bytes()?));
    }
    if let Some(rank) = points.iter().position(|(at, _)| at == FAILED) {
        let error = String::from_utf8_lossy(points[rank].1);
        return Err(Error::invalid(format!("rank {rank} failed: {error}")));
    }
    let first = &points[0].0;
    if let Some(rank) = points.iter().position(|(at, _)| at != first) {
        return Err(Error::invalid(format!(
            "the ranks go different ways: rank 0 is at {first}, rank {rank} at {}",
            points[rank].0
        )));
    }
    Ok(points.into_iter().map(|(_, mine)| mine.to_vec()).collect())
}
