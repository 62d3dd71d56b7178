//! The begin of a training: what its ranks agree on before the first step, and where it goes on.

use super::{
    callback::Callback,
    run::Session,
    state::{Cursor, first_difference},
};
use crate::{
    data::checked_batch,
    error::{Error, Result},
    io,
    module::Module,
    optim::Optimizer,
    team::wire::{self, Reader, Writer},
};
use autograd::{Param, Tensor};

impl<M: Module + ?Sized, O: Optimizer> Session<'_, '_, M, O> {
    /// Agrees with the other ranks, and resumes from the checkpoint if there is one. Returns how far the
    /// training has come.
    pub(super) fn begin(&self, callbacks: &mut [Box<dyn Callback + '_>]) -> Result<Cursor> {
        let team = self.agreement.team();
        if team.size() > 1 {
            self.compare_settings()?;
        }
        // the first rank reads the file, which may be on the disk of its machine
        let file = self.trainer.checkpoint.as_ref().map(|c| &c.path);
        let resumed = file.filter(|file| self.agreement.is_first() && file.is_file());
        let mine = resumed.map(|file| io::read_bytes(file)).transpose()?;
        let all = self
            .agreement
            .gather("the checkpoint", &mine.unwrap_or_default())?;
        let cursor = match (file, all.first()) {
            (Some(file), Some(bytes)) if !bytes.is_empty() => {
                self.state
                    .load(bytes, file, callbacks, self.steps_per_epoch)?
            }
            _ => Cursor::default(),
        };
        if team.size() > 1 {
            self.share_weights()?;
        }
        Ok(cursor)
    }

    /// An error if settings, parameters or data are not those of the first rank.
    fn compare_settings(&self) -> Result<()> {
        let mut mine: Vec<(String, String)> = Vec::new();
        let epochs = self.trainer.epochs.to_string();
        mine.push(("number of epochs".into(), epochs));
        let list = |params: &[(String, Param)]| {
            let line = |(path, p): &(String, Param)| format!("{path} {}", p.ty());
            params.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        mine.push(("list of parameters".into(), list(self.state.model)));
        let settings = self.state.settings.iter().cloned();
        mine.extend(settings.map(|(name, value)| (name.to_string(), value)));
        mine.push(("state of the optimizer".into(), list(self.state.optimizer)));
        let (first, last) = (0, self.data.len() - 1);
        let ends = checked_batch(self.data, &[first, last])?;
        mine.push((
            "hash of the first and the last sample".into(),
            hash(ends.tensors())?,
        ));
        let validation = self.trainer.validation.map(|v| v.source);
        let validation = validation.map_or("none".into(), |v| format!("{} samples", v.len()));
        mine.push(("validation".into(), validation));
        mine.push((
            "checkpoint".into(),
            self.trainer.checkpoint.is_some().to_string(),
        ));
        let mut writer = Writer::default();
        for (name, value) in &mine {
            writer.bytes(name.as_bytes()).bytes(value.as_bytes());
        }
        let all = self.agreement.gather("the begin", &writer.finish())?;
        let of_first = texts(&all[0])?;
        for (rank, settings) in all.iter().enumerate() {
            let settings = texts(settings)?;
            let pairs = of_first.iter().zip(&settings);
            for ((name, value), (_, other)) in pairs {
                if let Some((value, other)) = first_difference(value, other) {
                    return Err(Error::invalid(format!(
                        "rank {rank} differs from rank 0: another {name}: {other} there, {value} on rank 0"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Gives all ranks the weights and the optimizer state of the first one, and checks that they have
    /// them.
    fn share_weights(&self) -> Result<()> {
        let params = || self.state.model.iter().chain(self.state.optimizer);
        let mut writer = Writer::default();
        if self.agreement.is_first() {
            for (_, param) in params() {
                writer.tensor(&param.value())?;
            }
        }
        let all = self.agreement.gather("the weights", &writer.finish())?;
        if !self.agreement.is_first() {
            let mut reader = Reader::new(&all[0]);
            for (_, param) in params() {
                param.set(reader.tensor()?)?;
            }
        }
        let hashes = self
            .agreement
            .gather("the hash of the weights", &self.hash_of_weights()?)?;
        match hashes.iter().position(|hash| *hash != hashes[0]) {
            None => Ok(()),
            Some(rank) => Err(Error::invalid(format!(
                "rank {rank} did not get the weights of rank 0"
            ))),
        }
    }

    /// A hash of weights and optimizer state.
    pub(super) fn hash_of_weights(&self) -> Result<Vec<u8>> {
        if self.agreement.team().size() == 1 {
            return Ok(Vec::new()); // nobody compares it
        }
        let params = self.state.model.iter().chain(self.state.optimizer);
        let values: Vec<Tensor> = params.map(|(_, param)| param.value()).collect();
        Ok(hash(values.iter())?.into_bytes())
    }
}

/// A hash of tensors, as text.
fn hash<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> Result<String> {
    let mut writer = Writer::default();
    for tensor in tensors {
        writer.tensor(tensor)?;
    }
    Ok(format!("{:016x}", wire::hash(&writer.finish())))
}

/// Pairs of names and values.
fn texts(message: &[u8]) -> Result<Vec<(String, String)>> {
    let mut reader = Reader::new(message);
    let mut pairs = Vec::new();
    while !reader.is_empty() {
        pairs.push((reader.text()?, reader.text()?));
    }
    Ok(pairs)
}
