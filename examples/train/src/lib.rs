//! The parts of the program `train`, for Rust programs that use the models it saves.
//!
//! ```no_run
//! use nn::data::Frame;
//! let model = train::SavedModel::load("model.safetensors")?;
//! let table = Frame::read_csv("new.csv")?;
//! let outputs = model.outputs(&model.inputs.encode(&table)?.inputs)?;
//! println!("{:?}", model.target.decode(&outputs)?);
//! # Ok::<(), nn::Error>(())
//! ```

mod data;
mod explain;
mod fit;
mod model;

pub use data::{Data, Source, TableOptions};
pub use explain::{Importance, importances};
pub use fit::{Fit, Settings, fit};
pub use model::{Inputs, Net, SavedModel};
