//! Predicts the target of each row.

use crate::{options::Predict, text};
use autograd::{Graph, Tensor};
use examples::terminal::{self, Ended, complain, print};
use nn::{
    Error, Result,
    data::{Frame, TargetKind},
};
use std::path::Path;
use train::{SavedModel, Source};

pub(crate) fn run(options: &Predict) -> Result<Ended> {
    terminal::start_threads(options.with.threads)?;
    let is_stdout = options.output == Path::new("-");
    if !is_stdout {
        nn::check_writable(&options.output)?;
    }
    let model = SavedModel::load(&options.with.model)?;
    if options.probabilities && !matches!(model.target.kind, TargetKind::Classes(_)) {
        let message = "--probabilities: the model predicts a number, not a class";
        return Err(Error::Invalid(message.into()));
    }
    let source = Source::read(&options.with.data)?;
    let (inputs, frame) = match &source {
        Source::Table(frame) => {
            let encoded = model.inputs.encode(frame)?;
            text::unseen(&encoded.unseen)
                .iter()
                .for_each(|note| complain(note));
            (encoded.inputs, Some(frame).filter(|_| options.with_inputs))
        }
        Source::Images { test, .. } if !options.with_inputs => (model.images(test)?, None),
        Source::Images { .. } => {
            let message = "--with-inputs: images are no columns of a table";
            return Err(Error::Invalid(message.into()));
        }
    };
    // all of it first: what is written is complete
    let csv = csv(&model, &model.outputs(&inputs)?, frame, options)?;
    match is_stdout {
        true => print(csv.as_bytes())?,
        false => nn::write_file(&options.output, csv.as_bytes())?,
    }
    Ok(Ended::Finished)
}

/// A header line, and a line for each row.
fn csv(
    model: &SavedModel,
    outputs: &Tensor,
    frame: Option<&Frame>,
    options: &Predict,
) -> Result<String> {
    let mut header: Vec<String> = frame.map(|f| f.names().to_vec()).unwrap_or_default();
    header.push(format!("predicted_{}", model.target.name));
    let classes = match &model.target.kind {
        TargetKind::Classes(names) if options.probabilities => &names[..],
        _ => &[],
    };
    header.extend(classes.iter().map(|name| format!("probability_{name}")));
    let probabilities = match classes.len() {
        0 => Vec::new(),
        _ => {
            let g = Graph::new();
            let probabilities = g.constant(outputs).softmax(-1).value()?;
            probabilities.as_slice::<f32>()?.to_vec()
        }
    };
    let mut text = line(&header);
    for (row, prediction) in model.target.decode(outputs)?.into_iter().enumerate() {
        let own = frame.into_iter().flat_map(|frame| {
            (0..frame.names().len()).map(move |column| frame.cell(row, column).text().to_string())
        });
        let of_row = &probabilities[row * classes.len()..(row + 1) * classes.len()];
        let of_row = of_row.iter().map(|p| format!("{p:.6}"));
        let cells: Vec<String> = own.chain([prediction]).chain(of_row).collect();
        text += &line(&cells);
    }
    Ok(text)
}

/// Cells with what separates them; in quotation marks where they need them.
fn line(cells: &[String]) -> String {
    let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    let cells: Vec<String> = cells.iter().map(quoted).collect();
    cells.join(",") + "\n"
}
