//! What the model says about samples, where the time of a step goes, and its graph.

use crate::{
    chart::{Chart, Mark, Series},
    image,
    page::{Table, escaped, figure, gallery, number},
    step,
};
use autograd::{DType, Graph, Tensor, Var};
use nn::{Dataset, Error, Module, Result, loss, metrics::ConfusionMatrix};

/// A model and samples with their targets.
pub(crate) struct Answers<'m> {
    model: &'m dyn Module,
    data: &'m Dataset,
    pub(crate) classes: Vec<String>,
}

/// A sample with a wrong answer.
struct Wrong {
    sample: usize,
    label: usize,
    predicted: usize,
    /// The probability that the model gave its answer.
    confidence: f64,
}

/// At most so many wrong samples, points, and samples of a profiled step.
const MOST_WRONG: usize = 12;
const MOST_POINTS: usize = 500;
const STEP: usize = 64;
/// A larger matrix is no picture any more.
const MOST_CLASSES: usize = 30;

impl<'m> Answers<'m> {
    pub(crate) fn new(model: &'m dyn Module, data: &'m Dataset) -> Answers<'m> {
        Answers {
            model,
            data,
            classes: Vec::new(),
        }
    }

    /// Whether the targets are labels.
    fn is_classification(&self) -> bool {
        let targets = self.data.targets();
        targets.dtype() == DType::I64 && targets.shape().len() == 1
    }

    /// That the model has an output for each class; before the training, which may be long.
    pub(crate) fn check(&self) -> Result<()> {
        if self.data.is_empty() {
            return Err(Error::Invalid("samples: there are none".into()));
        }
        let outputs = nn::predict(self.model, &self.data.rows(&[0])?.0)?;
        let outputs = outputs.shape().last().copied().unwrap_or(0);
        match self.data.num_classes() {
            Some(classes) if self.is_classification() && classes > outputs => Err(Error::Invalid(
                format!("samples: the model has {outputs} outputs, the labels {classes} classes"),
            )),
            _ => Ok(()),
        }
    }

    fn class(&self, k: usize) -> String {
        self.classes
            .get(k)
            .cloned()
            .unwrap_or_else(|| k.to_string())
    }

    pub(crate) fn section(&self) -> Result<String> {
        let outputs = nn::predict(self.model, &self.data.inputs()?)?;
        match self.is_classification() {
            true => Ok(self.confusion(&outputs)? + &self.wrong(&outputs)?),
            false => Ok(self.scatter(&outputs)),
        }
    }

    /// A table whose cells are as dark as their part of the row.
    fn confusion(&self, outputs: &Tensor) -> Result<String> {
        let matrix = ConfusionMatrix::new(outputs, self.data.targets())?;
        let classes = matrix.num_classes();
        if classes > MOST_CLASSES {
            let accuracy = number(matrix.accuracy());
            return Ok(format!(
                "<p>The accuracy is {accuracy}. A confusion matrix of {classes} classes would be too large.</p>"
            ));
        }
        let names = (0..classes).map(|k| self.class(k));
        let more = ["recall".to_string(), "precision".into()];
        let mut table = Table::new(
            ["actual \\ predicted".into()]
                .into_iter()
                .chain(names)
                .chain(more),
        );
        let part = |v: Option<f64>| v.map_or("–".into(), |v| format!("{v:.3}"));
        for actual in 0..classes {
            let counts: Vec<usize> = (0..classes).map(|k| matrix.count(actual, k)).collect();
            let all = counts.iter().sum::<usize>().max(1) as f64;
            let cell = |&n: &usize| format!("<span style=\"--f:{:.3}\">{n}</span>", n as f64 / all);
            let mut cells = vec![escaped(&self.class(actual))];
            cells.extend(counts.iter().map(cell));
            cells.extend([part(matrix.recall(actual)), part(matrix.precision(actual))]);
            table.row(cells);
        }
        let caption = format!("Confusion matrix of {} samples", self.data.len());
        let meaning = "Rows are the actual classes, columns the predicted ones; right answers are on the diagonal. The darker a cell, the larger its part of the row. Recall is the part of a class that was found, precision the part of what was found that is right.";
        Ok(format!(
            "<h3>Confusion matrix</h3><p>{meaning}</p><div class=\"heat\">{}</div>",
            table.html(&caption)
        ))
    }

    /// The wrong answers that the model is surest of.
    fn wrong(&self, outputs: &Tensor) -> Result<String> {
        let (all, count) = self.find_wrong(outputs)?;
        let heading = "<h3>Most confidently wrong</h3>";
        if all.is_empty() {
            return Ok(format!("{heading}<p>No answer is wrong.</p>"));
        }
        let meaning = format!(
            "<p>{count} of {} answers are wrong. These are the ones with the highest probabilities: mistakes of the model, samples that are hard to tell, or wrong labels.</p>",
            self.data.len()
        );
        let pixels: usize = self.data.sample_shape().iter().product();
        let side = pixels.isqrt();
        let contents = match side * side == pixels && side >= 5 {
            true => self.images(&all, side)?,
            false => String::new(),
        };
        let mut table =
            Table::new(["sample", "actual", "predicted", "probability"].map(String::from));
        for w in &all {
            let texts = [
                w.sample.to_string(),
                self.class(w.label),
                self.class(w.predicted),
            ];
            table.texts(texts.into_iter().chain([number(w.confidence)]));
        }
        let table = table.html("Samples, counted from 0, with their classes");
        let table = match contents.is_empty() {
            true => table,
            false => format!("<details><summary>Numbers</summary>{table}</details>"),
        };
        Ok(format!("{heading}{meaning}{contents}{table}"))
    }

    /// The first wrong answers, and how many there are.
    fn find_wrong(&self, outputs: &Tensor) -> Result<(Vec<Wrong>, usize)> {
        let g = Graph::new();
        let probabilities = g.constant(outputs).softmax(-1).value()?.to_f64s();
        let labels = self.data.targets().as_slice::<i64>()?;
        let classes = probabilities.len() / labels.len().max(1);
        let mut wrong = Vec::new();
        for (sample, (row, &label)) in probabilities.chunks(classes.max(1)).zip(labels).enumerate()
        {
            let better = |best: usize, k: usize| if row[k] > row[best] { k } else { best };
            let (predicted, label) = ((0..row.len()).fold(0, better), label as usize);
            if predicted != label {
                let confidence = row[predicted];
                wrong.push(Wrong {
                    sample,
                    label,
                    predicted,
                    confidence,
                });
            }
        }
        let count = wrong.len();
        wrong.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        wrong.truncate(MOST_WRONG);
        Ok((wrong, count))
    }

    fn images(&self, wrong: &[Wrong], side: usize) -> Result<String> {
        let samples: Vec<usize> = wrong.iter().map(|w| w.sample).collect();
        let (inputs, _) = self.data.rows(&samples)?;
        let pixels: Vec<f32> = inputs.to_f64s().into_iter().map(|x| x as f32).collect();
        // samples need not be from 0 to 1
        let min = pixels.iter().copied().fold(f32::INFINITY, f32::min);
        let max = pixels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let scale = if max > min { max - min } else { 1.0 };
        let mut html = String::new();
        for (w, own) in wrong.iter().zip(pixels.chunks(side * side)) {
            let own: Vec<f32> = own.iter().map(|x| (x - min) / scale).collect();
            let uri = image::data_uri(&own, side);
            let (label, predicted) = (
                escaped(&self.class(w.label)),
                escaped(&self.class(w.predicted)),
            );
            let percent = format!("{:.1} %", 100.0 * w.confidence);
            html += &format!(
                "<figure><img src=\"{uri}\" width=\"84\" height=\"84\" alt=\"sample {}: {label}, predicted {predicted}\"><figcaption>is {label}, predicted {predicted}, {percent}</figcaption></figure>\n",
                w.sample
            );
        }
        Ok(format!("<div class=\"wrong\">{html}</div>"))
    }

    /// Predictions over targets.
    fn scatter(&self, outputs: &Tensor) -> String {
        let (outputs, targets) = (outputs.to_f64s(), self.data.targets().to_f64s());
        if outputs.len() != targets.len() {
            return String::new();
        }
        let each = targets.len().div_ceil(MOST_POINTS).max(1);
        let points: Vec<(f64, f64)> = targets.into_iter().zip(outputs).step_by(each).collect();
        let ends = points
            .iter()
            .map(|p| p.0)
            .fold(None, |e: Option<(f64, f64)>, x| {
                Some(e.map_or((x, x), |(a, b)| (a.min(x), b.max(x))))
            });
        let right = ends.map(|(a, b)| Series::line("right", vec![(a, a), (b, b)]));
        let count = points.len();
        let predicted = Series {
            name: "predicted".into(),
            points,
            mark: Mark::Dots,
        };
        let chart = Chart {
            title: "Predictions".into(),
            x: "target".into(),
            y: "prediction".into(),
            series: [predicted].into_iter().chain(right).collect(),
            may_be_log: false,
        };
        let meaning = format!(
            "The outputs for {count} of {} samples over their targets, in the units that the model is trained on. The closer to the line, the better.",
            self.data.len()
        );
        gallery([figure(&chart, &meaning)])
    }

    /// Outputs and a loss of the first samples.
    fn forward<'g>(&self, g: &'g Graph) -> Result<(Var<'g>, Var<'g>)> {
        let rows: Vec<usize> = (0..self.data.len().min(STEP)).collect();
        let (inputs, targets) = self.data.rows(&rows)?;
        let outputs = self.model.forward(g.constant(inputs));
        let targets = g.constant(targets);
        let loss = match (
            self.is_classification(),
            outputs.shape().ok() == targets.shape().ok(),
        ) {
            (true, _) => loss::cross_entropy(outputs, targets),
            (false, true) => loss::mse(outputs, targets),
            (false, false) => outputs.square().mean(),
        };
        Ok((outputs, loss))
    }

    /// Where the time and the memory of a forward and a backward pass go.
    pub(crate) fn step(&self) -> Result<String> {
        let g = Graph::training(0);
        let (_, loss) = self.forward(&g)?;
        step::section(&g, loss, self.data.len().min(STEP))
    }

    /// The forward pass: what follows from what.
    pub(crate) fn graph(&self) -> Result<String> {
        let g = Graph::new();
        let (outputs, _) = self.forward(&g)?;
        let picture = g.picture().of(&[outputs]);
        let meaning = "<p>The operations of a forward pass, from the samples to the outputs, with the shapes of their values.</p>";
        #[cfg(feature = "graph")]
        return Ok(format!(
            "{meaning}<div class=\"drawing\">{}</div>",
            // within a page, a drawing needs no name of its format, which is an address
            picture
                .to_svg()?
                .replace(" xmlns=\"http://www.w3.org/2000/svg\"", "")
        ));
        #[cfg(not(feature = "graph"))]
        Ok(format!(
            "{meaning}<pre>{}</pre>",
            escaped(&picture.to_text())
        ))
    }
}
