//! The report of a training.

use crate::{
    answers::Answers,
    machine,
    page::Page,
    sections::{self, LayerPoint},
    statistics::{Histogram, LayerSample, Sampler},
};
use nn::{
    Callback, CallbackContext, ControlFlow, Dataset, Gradient, Module, Result, check_writable,
    write_file,
};
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Writes a page of HTML about the training: curves of losses, metrics and the learning rate, gradients
/// and updates of each layer, the distributions of weights, time, settings and machine, and with
/// [`samples`](Html::samples) the answers of the model. It needs nothing but the file.
///
/// The page is renewed after each epoch, but takes no more than a tenth of the time, and when the
/// training ends, be it with an error. Whoever reads it sees a whole page at any time.
pub struct Html<'m> {
    path: PathBuf,
    title: String,
    settings: Vec<(String, String)>,
    reload: Option<usize>,
    answers: Option<Answers<'m>>,
    sampler: Sampler,
    layers: Vec<LayerPoint>,
    initial: Vec<(String, Histogram)>,
    /// Of the last step that was sampled.
    gradients: Vec<(String, Histogram)>,
    written: Option<Written>,
}

/// When the page was written, and how long that took.
struct Written {
    at: Instant,
    took: Duration,
}

/// The bins of the histograms of weights.
const BINS: usize = 40;

impl<'m> Html<'m> {
    /// A report in this file.
    pub fn new(path: impl AsRef<Path>) -> Html<'m> {
        let path = path.as_ref();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Html {
            path: path.into(),
            title: format!("Training: {name}"),
            settings: Vec::new(),
            reload: None,
            answers: None,
            sampler: Sampler::default(),
            layers: Vec::new(),
            initial: Vec::new(),
            gradients: Vec::new(),
            written: None,
        }
    }

    /// The heading of the page.
    pub fn title(mut self, title: &str) -> Html<'m> {
        self.title = title.into();
        self
    }

    /// Adds a line to the table of settings, such as the seed.
    pub fn setting(mut self, name: &str, value: impl Display) -> Html<'m> {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Lets the page load itself again every so many seconds, until the training has ended.
    pub fn reload(mut self, seconds: usize) -> Html<'m> {
        self.reload = Some(seconds.max(1));
        self
    }

    /// Shows what the model says about these samples: a confusion matrix and the samples that are most
    /// confidently wrong, or predictions over targets, if these are numbers. Also where the time of a
    /// step goes, and the model's graph.
    pub fn samples(mut self, model: &'m impl Module, data: &'m Dataset) -> Html<'m> {
        self.answers = Some(Answers::new(model, data));
        self
    }

    /// The names of the classes of the [samples](Html::samples), which are numbers otherwise.
    pub fn classes(mut self, names: &[String]) -> Html<'m> {
        if let Some(answers) = &mut self.answers {
            answers.classes = names.into();
        }
        self
    }

    /// Writes the page.
    fn write(&mut self, context: &CallbackContext<'_>, has_ended: bool) -> Result<()> {
        let began = Instant::now();
        let epochs = context.history.len();
        let state = match (has_ended, context.history.last()) {
            (false, _) => format!("It goes on; this is the state after epoch {epochs}."),
            (true, None) => format!("It ended in the first epoch, after {} steps.", context.step),
            (true, Some(_)) => sections::end(context, self.layers.last()),
        };
        let mut page = Page::new(&self.title, &state);
        page.reload = self.reload.filter(|_| !has_ended);
        page.section("Results", &sections::summary(context.history));
        page.section("Curves", &sections::curves(context.history));
        if let Some(answers) = &self.answers {
            page.section("Answers", &answers.section()?);
        }
        page.section("Layers", &sections::layers(&self.layers));
        page.section(
            "Weights",
            &sections::weights(context.params, &self.initial, BINS),
        );
        page.section("Gradients", &sections::gradients(&self.gradients));
        page.section("Time", &sections::times(context.history));
        if let Some(answers) = &self.answers {
            page.section("A step", &answers.step()?);
            page.section("Model", &answers.graph()?);
        }
        page.section(
            "Settings",
            &sections::facts("Settings of the training", &self.settings),
        );
        page.section(
            "Machine",
            &sections::facts("Versions and machine", &machine::facts()),
        );
        write_file(&self.path, page.html().as_bytes())?;
        self.written = Some(Written {
            at: Instant::now(),
            took: began.elapsed(),
        });
        Ok(())
    }
}

impl Callback for Html<'_> {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        if context.rank != 0 {
            return Ok(()); // the first rank writes for all
        }
        check_writable(&self.path)?;
        if let Some(answers) = &self.answers {
            answers.check()?;
        }
        (self.sampler, self.layers, self.written) = (Sampler::default(), Vec::new(), None);
        let histogram = |(name, param): &(String, autograd::Param)| {
            let histogram = Histogram::of_at_most(&param.value(), BINS);
            Some((name.clone(), histogram?))
        };
        self.initial = context.params.iter().filter_map(histogram).collect();
        Ok(())
    }

    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        self.sampler.on_gradients(context, gradients)
    }

    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        // at the end of an epoch, its history is not there yet
        if let Some(samples) = self.sampler.on_step_end(context) {
            let epoch = context.history.len() + 1;
            let of = |s: &LayerSample| {
                let histogram = Histogram::of_at_most(&s.gradient, BINS);
                Some((s.name.clone(), histogram?))
            };
            self.gradients = samples.iter().filter_map(of).collect();
            self.layers.extend(
                samples
                    .iter()
                    .map(|s| LayerPoint::new(epoch, context.step, s)),
            );
        }
        Ok(ControlFlow::Continue)
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let is_due = |written: &Written| written.at.elapsed() >= written.took * 9;
        if context.rank == 0 && self.written.as_ref().is_none_or(is_due) {
            self.write(context, false)?;
        }
        Ok(ControlFlow::Continue)
    }

    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        match context.rank {
            0 => self.write(context, true),
            _ => Ok(()),
        }
    }
}
