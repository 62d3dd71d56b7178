//! Several processes that train as if they were one: see [`Team`].
//!
//! Each process, a rank, has the same program, model and data, and computes some of the parts of each
//! batch. Which rank computes what does not matter: the sums have the same bits on any number of ranks.

mod agree;
mod threads;
pub(crate) mod wire;

pub use crate::train::gradient_sum::GradientSum;
pub(crate) use agree::Agreement;
pub use threads::Threads;

use crate::{
    error::{Error, Result},
    train::gradient_sum::Values,
};
use autograd::Tensor;
use wire::{Reader, Writer};

/// Several processes that train together, for [`Trainer::team`](crate::Trainer::team): how they exchange
/// messages. All ranks call the same methods in the same order.
///
/// [`Alone`] is a process of its own, [`Threads`] are threads of one process, and the crate `nn-mpi` has
/// the processes of an MPI job.
pub trait Team {
    /// The number of this rank, from 0 on.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// What all ranks give, in the order of the ranks; on all of them.
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// A message to each rank, in the order of the ranks; what they gave to this one. By default, all of
    /// it goes to all ranks.
    fn all_to_all(&self, mine: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let mut writer = Writer::default();
        for message in mine {
            writer.bytes(message);
        }
        let received = self.all_gather(&writer.finish())?;
        let of_this = |messages: &Vec<u8>| {
            let mut reader = Reader::new(messages);
            (0..self.rank()).try_for_each(|_| reader.bytes().map(drop))?;
            Ok(reader.bytes()?.to_vec())
        };
        received.iter().map(of_this).collect()
    }

    /// The sum of what all ranks have of a batch; on all of them. By default it is [`sum_in_order`]. A
    /// team may add in another order, which is not reproducible: [`sum_in_any_order`].
    fn sum(&self, mine: GradientSum) -> Result<Vec<Tensor>> {
        sum_in_order(self, mine)
    }
}

/// One process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Team for Alone {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn all_gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![mine.to_vec()])
    }
}

/// The sum of the parts of all ranks, in the order of [`GradientSum`]: the same bits on any number of
/// ranks. Each rank adds one slice of all elements, so what a rank sends and receives is about twice
/// the size of the sum, as in a ring.
pub fn sum_in_order(team: &(impl Team + ?Sized), mine: GradientSum) -> Result<Vec<Tensor>> {
    let ranks = team.size();
    if ranks == 1 {
        return mine.finish();
    }
    let message = |k| {
        let mut writer = Writer::with_capacity(mine.bytes_of_slices() / ranks + 1024)?;
        writer.bytes(&mine.header());
        mine.write_slice(k, ranks, &mut writer);
        Ok(writer.finish())
    };
    let received = team.all_to_all(&(0..ranks).map(message).collect::<Result<Vec<_>>>()?)?;
    let (header, slice) = match sum_of_slices(&received) {
        Ok((header, slice)) => (header, Ok(slice)),
        Err(e) => (Vec::new(), Err(e)), // goes to all ranks, so that none waits for this one
    };
    let mut writer = Writer::default();
    match slice {
        Ok(slice) => slice.write(writer.bytes(&[])),
        Err(e) => {
            writer.bytes(e.to_string().as_bytes());
        }
    }
    let mut all = Values::default();
    for message in team.all_gather(&writer.finish())? {
        let mut reader = Reader::new(&message);
        let error = reader.text()?;
        if !error.is_empty() {
            return Err(Error::invalid(error));
        }
        all.extend(Values::read(&mut reader)?);
    }
    all.tensors(&GradientSum::types_of_header(&header)?)
}

/// The sum of the slices that the ranks sent, and what says which tensors they are slices of.
fn sum_of_slices(received: &[Vec<u8>]) -> Result<(Vec<u8>, Values)> {
    let mut all: Option<(&[u8], GradientSum)> = None;
    for message in received {
        let mut reader = Reader::new(message);
        let (header, slice) = (reader.bytes()?, GradientSum::read(&mut reader)?);
        match &mut all {
            None => all = Some((header, slice)),
            // a rank without a part does not know the tensors
            Some((_, sum)) if slice.is_empty() => sum.merge(slice)?,
            Some((known, sum)) if sum.is_empty() || *known == header => {
                *known = header;
                sum.merge(slice)?;
            }
            Some(_) => return Err(GradientSum::different()),
        }
    }
    let (header, sum) = all.ok_or_else(|| Error::invalid("a team has no ranks"))?;
    Ok((header.to_vec(), sum.finish_values()?))
}

/// The sum of the parts of all ranks as `add` adds them: it gets all elements of this rank, and leaves
/// the sums of those of all ranks in their place. The bits then depend on the number of ranks.
///
/// With `n` parts, an element differs from the one of [`sum_in_order`] by at most
/// `2·(n - 1)·ε·Σ|x|` (to first order in the rounding unit `ε`, `6e-8` for f32), where the sum goes
/// over the parts (Higham 2002, section 4.2).
pub fn sum_in_any_order(
    team: &(impl Team + ?Sized),
    mine: GradientSum,
    add: impl FnOnce(&mut [f32], &mut [f64]) -> Result<()>,
) -> Result<Vec<Tensor>> {
    let (empty, header) = (mine.is_empty(), mine.header());
    let mut values = mine.sum_of_present()?;
    let mut writer = Writer::default();
    writer.bytes(&header).i64s(&values.others);
    let gathered = team.all_gather(&writer.finish())?;
    let mut known: Option<(&[u8], Vec<i64>)> = None;
    for message in &gathered {
        let mut reader = Reader::new(message);
        let (header, others) = (reader.bytes()?, reader.i64s()?);
        match &known {
            _ if header.is_empty() => (),
            None => known = Some((header, others)),
            Some(known) if *known == (header, others) => (),
            Some(_) => return Err(GradientSum::different()),
        }
    }
    let (header, others) = known.ok_or_else(|| Error::invalid("no rank has a part"))?;
    let types = GradientSum::types_of_header(header)?;
    if empty {
        values = Values::zeros(&types, others);
    }
    add(&mut values.f32s, &mut values.f64s)?;
    values.tensors(&types)
}
