//! TensorBoard's event files.

use crate::{
    sections,
    statistics::{Histogram, Sampler},
};
use autograd::Tensor;
use nn::{Callback, CallbackContext, ControlFlow, Error, Gradient, Result};
use prost::Message;
use std::{
    fs::{File, create_dir_all},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Writes event files for [TensorBoard](https://www.tensorflow.org/tensorboard): losses, metrics and
/// the learning rate after each epoch, and histograms of weights, and of gradients in the first step of
/// each epoch. `tensorboard --logdir FOLDER` shows them; several runs are folders in a folder.
///
/// ```
/// # use autograd::Tensor;
/// # let train = nn::Dataset::new(Tensor::full([80, 4], 0.5f32)?, vec![1i64; 80].into())?;
/// # let directory = tempfile::tempdir()?;
/// # let folder = directory.path().join("runs/7");
/// use nn_report::TensorBoard;
/// let model = nn::mlp(&[4, 8, 2], nn::Activation::Relu, 1);
/// nn::Trainer::new(&model, nn::Sgd::new(0.1))
///     .callback(TensorBoard::new(&folder))
///     .quiet()
///     .fit(&train)?;
/// assert_eq!(std::fs::read_dir(&folder)?.count(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TensorBoard {
    folder: PathBuf,
    file: Option<(PathBuf, File)>,
    sampler: Sampler,
}

/// The bins of histograms; TensorBoard itself shows 30.
const BINS: usize = 60;

impl TensorBoard {
    /// In a folder, which is made if it is not there. Each training has a file of its own.
    pub fn new(folder: impl AsRef<Path>) -> TensorBoard {
        TensorBoard {
            folder: folder.as_ref().into(),
            file: None,
            sampler: Sampler::default(),
        }
    }

    /// Appends an event.
    fn write(&mut self, step: usize, what: What) -> Result<()> {
        let Some((path, file)) = &mut self.file else {
            return Err(Error::Invalid("the training has not begun".into()));
        };
        let event = Event {
            wall_time: now(),
            step: step as i64,
            what: Some(what),
        };
        let written = file.write_all(&record(&event.encode_to_vec()));
        written.map_err(|e| cannot_be_written(path, e))
    }
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

fn cannot_be_written(path: &Path, e: std::io::Error) -> Error {
    Error::File {
        path: path.display().to_string(),
        message: format!("cannot be written: {e}"),
    }
}

/// A record of a TFRecord file: its length and its bytes, each with a checksum.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_checksum(&length));
    record.extend(bytes);
    record.extend(masked_checksum(bytes));
    record
}

/// CRC-32C, masked: files of records may be inside of records.
fn masked_checksum(bytes: &[u8]) -> [u8; 4] {
    let checksum = crc32c::crc32c(bytes);
    checksum
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
        .to_le_bytes()
}

/// An event of `tensorflow/core/util/event.proto`: its fields that are used here, as of the records
/// below.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(oneof = "Data", tags = "2, 5")]
    data: Option<Data>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Data {
    #[prost(float, tag = "2")]
    Scalar(f32),
    #[prost(message, tag = "5")]
    Histogram(HistogramRecord),
}

#[derive(Clone, PartialEq, Message)]
struct HistogramRecord {
    #[prost(double, tag = "1")]
    min: f64,
    #[prost(double, tag = "2")]
    max: f64,
    #[prost(double, tag = "3")]
    num: f64,
    #[prost(double, tag = "4")]
    sum: f64,
    #[prost(double, tag = "5")]
    sum_squares: f64,
    #[prost(double, repeated, tag = "6")]
    bucket_limit: Vec<f64>,
    #[prost(double, repeated, tag = "7")]
    bucket: Vec<f64>,
}

impl From<Histogram> for HistogramRecord {
    fn from(h: Histogram) -> HistogramRecord {
        let count = h.count as f64;
        HistogramRecord {
            min: h.min,
            max: h.max,
            num: count,
            sum: h.mean * count,
            sum_squares: (h.deviation.powi(2) + h.mean.powi(2)) * count,
            bucket_limit: h.bounds().split_off(1),
            bucket: h.counts.into_iter().map(|n| n as f64).collect(),
        }
    }
}

fn scalar(tag: String, value: f64) -> SummaryValue {
    SummaryValue {
        tag,
        data: Some(Data::Scalar(value as f32)),
    }
}

fn histogram(tag: String, values: &Tensor) -> Option<SummaryValue> {
    let histogram = Histogram::of(values, BINS)?;
    Some(SummaryValue {
        tag,
        data: Some(Data::Histogram(histogram.into())),
    })
}

/// `training loss` is `loss/training` there, which shows both losses together.
fn tag(name: &str) -> String {
    match name.split_once(' ') {
        Some((part, what)) => format!("{what}/{part}"),
        None => name.into(),
    }
}

impl Callback for TensorBoard {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        if context.rank != 0 {
            return Ok(()); // the first rank writes for all
        }
        create_dir_all(&self.folder).map_err(|e| cannot_be_written(&self.folder, e))?;
        // as TensorFlow names them; a resumed training has another file in the same folder
        let (time, process) = (now(), std::process::id());
        let name = format!("events.out.tfevents.{time:.6}.{process}");
        let path = self.folder.join(name);
        let file = File::create(&path).map_err(|e| cannot_be_written(&path, e))?;
        self.file = Some((path, file));
        self.sampler = Sampler::default();
        self.write(0, What::FileVersion("brain.Event:2".into()))
    }

    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        self.sampler.on_gradients(context, gradients)
    }

    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let samples = self.sampler.on_step_end(context);
        let Some(samples) = samples.filter(|_| context.rank == 0) else {
            return Ok(ControlFlow::Continue);
        };
        let mut value = Vec::new();
        for sample in samples {
            value.push(scalar(
                format!("gradient_norm/{}", sample.name),
                sample.norm,
            ));
            let ratio = sample.update_ratio;
            value.extend(ratio.map(|r| scalar(format!("update_ratio/{}", sample.name), r)));
            value.extend(histogram(
                format!("gradients/{}", sample.name),
                &sample.gradient,
            ));
        }
        self.write(context.step, What::Summary(Summary { value }))?;
        Ok(ControlFlow::Continue)
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let Some(epoch) = context.history.last().filter(|_| context.rank == 0) else {
            return Ok(ControlFlow::Continue);
        };
        let values = sections::values(epoch).into_iter();
        let mut value: Vec<SummaryValue> = values.map(|(name, v)| scalar(tag(&name), v)).collect();
        value.extend(
            epoch
                .learning_rate
                .map(|v| scalar("learning_rate".into(), v)),
        );
        value.push(scalar("seconds".into(), epoch.time.as_secs_f64()));
        let weights = context.params.iter();
        value.extend(
            weights.filter_map(|(name, p)| histogram(format!("weights/{name}"), &p.value())),
        );
        self.write(context.step, What::Summary(Summary { value }))?;
        Ok(ControlFlow::Continue)
    }
}

#[test]
fn checksums_are_masked_crc_32c() {
    // CRC-32C of these digits is e3069283 (RFC 3720, B.4 has its polynomial)
    assert_eq!(masked_checksum(b"123456789"), 0xc78ab0e5u32.to_le_bytes());
    let record = record(b"123456789");
    assert_eq!(record[..8], 9u64.to_le_bytes());
    assert_eq!(record[21..], masked_checksum(b"123456789"));
}
