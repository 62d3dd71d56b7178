//! The model of a table or of images, and its file.

use autograd::Var;
use nn::{
    Activation, Embedding, Error, Mlp, Module, Params, Result,
    data::{ColumnKind, Columns, Encoded, Frame, Target},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::Range, path::Path};

/// What a model takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Inputs {
    /// The columns of a table.
    Table(Columns),
    /// Images of so many pixels, from 0 to 1.
    Images {
        /// The number of pixels of an image.
        pixels: usize,
    },
}

impl Inputs {
    /// The number of inputs of the model.
    pub fn width(&self) -> usize {
        match self {
            Inputs::Table(columns) => columns.width(),
            Inputs::Images { pixels } => *pixels,
        }
    }

    /// The inputs for each row of a table; an error if the model is one of images.
    pub fn encode(&self, table: &Frame) -> Result<Encoded> {
        match self {
            Inputs::Table(columns) => columns.encode(table),
            Inputs::Images { .. } => Err(Error::Invalid(
                "the model was trained on images: expected a directory of IDX files".into(),
            )),
        }
    }

    /// The names of the columns, and the inputs that each of them becomes.
    pub fn spans(&self) -> Vec<(String, Range<usize>)> {
        match self {
            Inputs::Table(columns) => {
                let names = columns.columns.iter().map(|c| c.name.clone());
                names.zip(columns.spans()).collect()
            }
            Inputs::Images { pixels } => {
                let pixel = |k: usize| (format!("pixel {k}"), k..k + 1);
                (0..*pixels).map(pixel).collect()
            }
        }
    }
}

/// A multi-layer perceptron over numbers and the vectors of embedded categories.
pub struct Net {
    parts: Vec<Part>,
    mlp: Mlp,
}

/// Neighbouring inputs.
enum Part {
    /// As they are.
    Plain(Range<usize>),
    /// The index of a category, and the vectors: 0 is an unseen category.
    Embedded(usize, Embedding),
}

impl Net {
    fn new(description: &Description) -> Result<Net> {
        let (parts, width) = match &description.inputs {
            Inputs::Table(columns) => parts(columns, description.seed),
            Inputs::Images { pixels } => (vec![Part::Plain(0..*pixels)], *pixels),
        };
        let activation: Activation = description.activation.parse().map_err(Error::Invalid)?;
        let outputs = [description.target.outputs()];
        let sizes = [&[width], &description.hidden[..], &outputs].concat();
        let mlp = nn::mlp(&sizes, activation, description.seed);
        Ok(Net { parts, mlp })
    }

    fn dropout(mut self, rate: f64) -> Net {
        self.mlp = self.mlp.dropout(rate);
        self
    }

    /// The inputs of the perceptron, with vectors in the place of categories: `[rows, n]`.
    pub fn embedded<'g>(&self, x: Var<'g>) -> Var<'g> {
        if let [Part::Plain(_)] = &self.parts[..] {
            return x;
        }
        let part = |part: &Part| match part {
            Part::Plain(at) => x.slice(-1, at.start as isize..at.end as isize),
            Part::Embedded(at, vectors) => {
                let at = *at as isize;
                let index = x.slice(-1, at..at + 1).squeeze(-1);
                vectors.forward(index.cast(autograd::DType::I64))
            }
        };
        let parts: Vec<Var<'g>> = self.parts.iter().map(part).collect();
        x.graph().concat(&parts, -1)
    }

    /// The outputs for what [`embedded`](Net::embedded) returns.
    pub fn after_embedding<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.mlp.forward(x)
    }

    /// Where [`embedded`](Net::embedded) has each of these inputs.
    pub fn embedded_spans(&self, spans: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut starts = vec![0]; // of each input; and the end
        for part in &self.parts {
            let last = starts[starts.len() - 1];
            match part {
                Part::Plain(at) => starts.extend((1..=at.len()).map(|k| last + k)),
                Part::Embedded(_, vectors) => {
                    let size = vectors.weight().ty().shape.last().copied();
                    starts.push(last + size.unwrap_or(0));
                }
            }
        }
        let span = |at: &Range<usize>| starts[at.start]..starts[at.end];
        spans.iter().map(span).collect()
    }
}

/// The parts of the columns of a table, and the number of inputs that they become.
fn parts(columns: &Columns, seed: u64) -> (Vec<Part>, usize) {
    let (mut parts, mut width) = (Vec::new(), 0);
    for (column, span) in columns.columns.iter().zip(columns.spans()) {
        match (&column.kind, parts.last_mut()) {
            (
                ColumnKind::Category {
                    embedding: Some(size),
                    ..
                },
                _,
            ) => {
                let seed = seed ^ (span.start as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let vectors = Embedding::new(column.categories() + 1, *size, seed);
                parts.push(Part::Embedded(span.start, vectors));
                width += size;
            }
            (_, Some(Part::Plain(before))) => {
                before.end = span.end;
                width += span.len();
            }
            _ => {
                width += span.len();
                parts.push(Part::Plain(span));
            }
        }
    }
    (parts, width)
}

impl Module for Net {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.after_embedding(self.embedded(x))
    }

    fn params(&self, p: &mut Params) {
        for (k, part) in self.parts.iter().enumerate() {
            if let Part::Embedded(_, vectors) = part {
                p.module(&format!("embeddings.{k}"), vectors);
            }
        }
        p.module("mlp", &self.mlp);
    }
}

/// What is needed to make a model again, as its file has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Description {
    version: u32,
    inputs: Inputs,
    target: Target,
    hidden: Vec<usize>,
    activation: String,
    seed: u64,
    settings: BTreeMap<String, String>,
}

/// The version of the description that this program writes and reads.
const VERSION: u32 = 1;
/// The name of the text that has it.
const TEXT: &str = "train";

/// A model with all that it needs to predict: the encoding of its inputs, its layers, and the names of
/// what it predicts.
pub struct SavedModel {
    /// What it takes.
    pub inputs: Inputs,
    /// What it predicts.
    pub target: Target,
    /// The sizes of its hidden layers.
    pub hidden: Vec<usize>,
    /// The activation function of its hidden layers.
    pub activation: Activation,
    /// The network.
    pub net: Net,
    /// How it was trained.
    pub settings: BTreeMap<String, String>,
    seed: u64,
}

impl SavedModel {
    /// A model with random weights.
    pub fn new(
        inputs: Inputs,
        target: Target,
        hidden: &[usize],
        activation: Activation,
        dropout: f64,
        seed: u64,
    ) -> Result<SavedModel> {
        let description = Description {
            version: VERSION,
            inputs,
            target,
            hidden: hidden.into(),
            activation: activation.to_string(),
            seed,
            settings: BTreeMap::new(),
        };
        let net = Net::new(&description)?.dropout(dropout);
        Ok(SavedModel::from_parts(description, activation, net))
    }

    fn from_parts(description: Description, activation: Activation, net: Net) -> SavedModel {
        SavedModel {
            inputs: description.inputs,
            target: description.target,
            hidden: description.hidden,
            activation,
            net,
            settings: description.settings,
            seed: description.seed,
        }
    }

    /// Reads a model that was [saved](SavedModel::save).
    pub fn load(path: impl AsRef<Path>) -> Result<SavedModel> {
        let path = path.as_ref();
        let wrong = |message: String| Error::File {
            path: path.display().to_string(),
            message,
        };
        let texts = nn::read_texts(path)?;
        let text = texts.get(TEXT);
        let text = text.ok_or_else(|| wrong("was not saved by this program".into()))?;
        let damaged = |e| wrong(format!("its description of the model is damaged: {e}"));
        // the version first: another one may have other fields
        let any: serde_json::Value = serde_json::from_str(text).map_err(damaged)?;
        match any["version"].as_u64() {
            Some(version) if version == u64::from(VERSION) => {}
            version => {
                let version = version.map_or("none".into(), |v| v.to_string());
                return Err(wrong(format!(
                    "has version {version} of the format, this program knows {VERSION}"
                )));
            }
        }
        let description: Description = serde_json::from_value(any).map_err(damaged)?;
        let net = Net::new(&description)?;
        nn::load(&net, path)?;
        let activation = description.activation.parse().map_err(Error::Invalid)?;
        Ok(SavedModel::from_parts(description, activation, net))
    }

    /// Saves it: weights, and all that is needed to predict with them.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let description = Description {
            version: VERSION,
            inputs: self.inputs.clone(),
            target: self.target.clone(),
            hidden: self.hidden.clone(),
            activation: self.activation.to_string(),
            seed: self.seed,
            settings: self.settings.clone(),
        };
        let text = serde_json::to_string(&description)
            .map_err(|e| Error::Invalid(format!("the model cannot be described: {e}")))?;
        nn::save_with(&self.net, path, [(TEXT.to_string(), text)])
    }

    /// The outputs of the network, one row per row of inputs.
    pub fn outputs(&self, inputs: &autograd::Tensor) -> Result<autograd::Tensor> {
        nn::predict(&self.net, inputs)
    }

    /// The inputs of images, if they are such as the model takes.
    pub fn images(&self, images: &nn::Dataset) -> Result<autograd::Tensor> {
        crate::data::images_for(self, images)?.inputs()
    }

    /// The sizes of all layers: `4-64-64-3`.
    pub fn shape(&self) -> String {
        let (width, outputs) = ([self.inputs.width()], [self.target.outputs()]);
        let sizes = [&width, &self.hidden[..], &outputs].concat();
        let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
        sizes.join("-")
    }
}
