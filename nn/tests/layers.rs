//! Layers, losses and data against formulas computed with plain f64 numbers.

use autograd::{CheckGrads, Graph, Tensor, Var};
use nn::{
    Activation, BatchNorm1d, Dataset, Embedding, Flatten, Lambda, LayerNorm, Linear, Module,
    Normalize, Residual, Result, Sequential, loss, loss::Reduction,
};

fn assert_close(a: &Tensor, b: &[f64]) {
    let a = a.to_f64s();
    assert_eq!(a.len(), b.len());
    assert!(
        a.iter()
            .zip(b)
            .all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)),
        "{a:?}\n{b:?}"
    );
}

fn input() -> Tensor {
    Tensor::from([
        [0.5f32, -1.0, 2.0, 0.25],
        [1.5, 0.0, -0.5, 1.0],
        [-2.0, 1.0, 0.75, 3.0],
    ])
}

#[test]
fn layer_norm_normalises_rows() -> Result<()> {
    let layer = LayerNorm::new(4);
    layer.parameters()[0]
        .1
        .set(Tensor::from([1f32, 2.0, 3.0, 4.0]))?;
    layer.parameters()[1]
        .1
        .set(Tensor::from([0.5f32, 0.0, 0.0, -1.0]))?;
    let expected: Vec<f64> = input()
        .to_f64s()
        .chunks(4)
        .flat_map(|row| {
            let mean = row.iter().sum::<f64>() / 4.0;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4.0;
            let (scale, shift) = ([1.0, 2.0, 3.0, 4.0], [0.5, 0.0, 0.0, -1.0]);
            (0..4)
                .map(|k| (row[k] - mean) / (variance + 1e-5).sqrt() * scale[k] + shift[k])
                .collect::<Vec<_>>()
        })
        .collect();
    let g = Graph::new();
    assert_close(&layer.forward(g.constant(input())).value()?, &expected);
    CheckGrads::new()
        .double()
        .run(|x| layer.forward(x[0]), &[input()])?;
    assert!(
        layer
            .forward(g.constant([1f32, 2.0]))
            .value()
            .is_err_and(|e| e.scope() == "layer_norm")
    );
    Ok(())
}

#[test]
fn batch_norm_updates_running_statistics() -> Result<()> {
    let layer = BatchNorm1d::new(4);
    let columns: Vec<Vec<f64>> = (0..4)
        .map(|k| input().to_f64s().into_iter().skip(k).step_by(4).collect())
        .collect();
    let mean = |c: &[f64]| c.iter().sum::<f64>() / 3.0;
    let squares = |c: &[f64]| c.iter().map(|x| (x - mean(c)).powi(2)).sum::<f64>();
    let g = Graph::training(1);
    let normal = |k: usize, row: usize| {
        let c = &columns[k];
        (c[row] - mean(c)) / (squares(c) / 3.0 + 1e-5).sqrt()
    };
    let expected: Vec<f64> = (0..12).map(|e| normal(e % 4, e / 4)).collect();
    assert_close(&g.run(layer.forward(g.constant(input())))?, &expected);
    // momentum 0.1, from 0 and 1 to the mean and the unbiased variance of the batch
    let params = layer.parameters();
    assert_eq!(
        params.iter().map(|p| p.0.as_str()).collect::<Vec<_>>(),
        ["weight", "bias", "running_mean", "running_var"]
    );
    let means: Vec<f64> = columns.iter().map(|c| 0.1 * mean(c)).collect();
    let variances: Vec<f64> = columns
        .iter()
        .map(|c| 0.9 + 0.1 * squares(c) / 2.0)
        .collect();
    assert_close(&params[2].1.value(), &means);
    assert_close(&params[3].1.value(), &variances);
    assert!(!params[2].1.is_trained() && layer.num_parameters() == 8);
    // evaluation uses the running statistics and does not change them
    let g = Graph::new();
    let x = input().to_f64s();
    let expected: Vec<f64> = (0..12)
        .map(|e| (x[e] - means[e % 4]) / (variances[e % 4] + 1e-5).sqrt())
        .collect();
    assert_close(&g.run(layer.forward(g.constant(input())))?, &expected);
    assert_close(&params[2].1.value(), &means);
    let g = Graph::training(1);
    assert!(
        layer
            .forward(g.constant([[1f32, 2.0, 3.0, 4.0]]))
            .value()
            .is_err_and(|e| e.message().contains("at least 2"))
    );
    Ok(())
}

#[test]
fn small_layers() -> Result<()> {
    let g = Graph::new();
    let embedding = Embedding::new(5, 3, 1);
    let rows = embedding.weight().value().to_f64s();
    assert_close(
        &embedding.forward(g.constant([4, 0])).value()?,
        &[&rows[12..15], &rows[..3]].concat(),
    );
    assert!(
        embedding
            .forward(g.constant([5]))
            .value()
            .is_err_and(|e| e.op() == "take")
    );
    assert_eq!(
        Flatten
            .forward(g.constant(input()).reshape([3, 2, 2]))
            .dims(),
        Some([3, 4])
    );
    let double = Lambda::new(|x| x * 2.0);
    let x = g.constant(input());
    assert_close(
        &Residual(double).forward(x).value()?,
        &input()
            .to_f64s()
            .iter()
            .map(|x| 3.0 * x)
            .collect::<Vec<_>>(),
    );
    let data = Dataset::new(input(), Tensor::from([0, 1, 0]))?;
    let normal = Normalize::fit(&data)?.forward(x);
    assert_close(&normal.mean_axis(0).value()?, &[0.0; 4]);
    assert_close(&normal.std_axis(0, 0).value()?, &[1.0; 4]);
    for activation in Activation::ALL {
        assert_eq!(activation.to_string().parse(), Ok(activation));
        CheckGrads::new().double().run(
            |x| activation.forward(x[0]),
            &[Tensor::from([0.3f32, -1.2, 2.0])],
        )?;
    }
    Ok(())
}

#[test]
fn tied_weights_get_the_sum_of_their_gradients() -> Result<()> {
    let first = Linear::new(4, 4, 1);
    let tied = Linear::from_params(first.weight().clone(), first.bias().clone())?;
    let weight = first.weight().clone();
    let model = Sequential::new().then(first).then(tied);
    assert_eq!(model.parameters().len(), 2);
    CheckGrads::new()
        .double()
        .run(|x| model.forward(x[0]).tanh(), &[input()])?;
    let g = Graph::new();
    let d = model.forward(g.constant(input())).sum().backward()?;
    assert!(d.param(&weight).is_some());
    assert!(Linear::from_params(weight.clone(), weight).is_err());
    Ok(())
}

#[test]
fn losses_and_their_reductions() -> Result<()> {
    let g = Graph::new();
    let x = g.constant([[0.2, -0.4, 1.0], [0.9, 0.1, -1.5]]);
    let labels = g.constant([2, 0]);
    let log_p: Vec<Vec<f64>> = [[0.2, -0.4, 1.0], [0.9, 0.1, -1.5]]
        .iter()
        .map(|row: &[f64; 3]| {
            row.iter()
                .map(|v| v - row.iter().map(|v| v.exp()).sum::<f64>().ln())
                .collect()
        })
        .collect();
    let each = [-log_p[0][2], -log_p[1][0]];
    assert_close(&loss::unreduced::cross_entropy(x, labels).value()?, &each);
    assert_close(
        &loss::nll(x.log_softmax(-1), labels).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    let total = |r: Reduction| {
        r.apply(loss::unreduced::nll(x.log_softmax(-1), labels))
            .value()
    };
    assert_close(&total(Reduction::Sum)?, &[each[0] + each[1]]);
    assert_close(&total(Reduction::None)?, &each);
    assert_close(
        &loss::with_reduction(Reduction::Mean, loss::unreduced::cross_entropy)(x, labels)
            .value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    // with class weights, the mean is weighted
    let weighted =
        loss::cross_entropy_with(0.0, Some(Tensor::from([2.0, 1.0, 0.5])), None)(x, labels);
    assert_close(&weighted.value()?, &[(0.5 * each[0] + 2.0 * each[1]) / 2.5]);
    let smooth = |k: usize, label: usize| {
        let even = -log_p[k].iter().sum::<f64>() / 3.0;
        0.9 * -log_p[k][label] + 0.1 * even
    };
    assert_close(
        &loss::cross_entropy_with(0.1, None, None)(x, labels).value()?,
        &[(smooth(0, 2) + smooth(1, 0)) / 2.0],
    );
    // probabilities instead of labels
    let p = g.constant([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]);
    assert_close(
        &loss::cross_entropy(x, p).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    assert_close(
        &loss::kl_div(x.log_softmax(-1), p).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    let (a, b) = (g.constant([1.0, -2.0, 0.5]), g.constant([0.0, 1.0, 0.25]));
    assert_close(&loss::mse(a, b).value()?, &[(1.0 + 9.0 + 0.0625) / 3.0]);
    assert_close(&loss::mae(a, b).value()?, &[(1.0 + 3.0 + 0.25) / 3.0]);
    assert_close(
        &loss::huber(2.0)(a, b).value()?,
        &[(0.5 + 2.0 * (3.0 - 1.0) + 0.03125) / 3.0],
    );
    let bce = |x: f64, t: f64| {
        -t * (1.0 / (1.0 + (-x).exp())).ln() - (1.0 - t) * (1.0 - 1.0 / (1.0 + (-x).exp())).ln()
    };
    assert_close(
        &loss::bce_with_logits(a, b).value()?,
        &[(bce(1.0, 0.0) + bce(-2.0, 1.0) + bce(0.5, 0.25)) / 3.0],
    );
    let short: Var<'_> = g.constant([1.0]);
    for wrong in [
        loss::mse(a, short),
        loss::bce_with_logits(a, short),
        loss::kl_div(a, short),
    ] {
        assert!(wrong.value().is_err_and(|e| {
            e.message()
                .contains("expected a prediction of the target's shape [1]")
        }));
    }
    Ok(())
}

/// Values and gradients of losses with infinite logits, and with ignored labels.
#[test]
fn losses_with_infinite_logits_and_ignored_labels() -> Result<()> {
    let inf = f64::INFINITY;
    let g = Graph::new();
    let value_and_grads = |loss: Var<'_>, x: &[Var<'_>]| -> Result<Vec<Vec<f64>>> {
        let mut fetches = g.grads(loss, x);
        fetches.insert(0, loss);
        Ok(g.run(fetches)?.iter().map(Tensor::to_f64s).collect())
    };
    let (x, t) = (g.input([inf, -inf, 0.0]), g.input([1.0, 0.0, 0.5]));
    let found = value_and_grads(loss::bce_with_logits(x, t), &[x])?;
    assert_eq!(found, [vec![2f64.ln() / 3.0], vec![0.0, 0.0, 0.0]]);
    let x = g.input([inf, -inf, 1.0]);
    let found = value_and_grads(
        loss::unreduced::huber(2.0)(x, g.constant([0.0, 0.0, 0.0])).sum(),
        &[x],
    )?;
    assert_eq!(found, [vec![inf], vec![2.0, -2.0, 1.0]]);
    let (log_q, p) = (g.input([[0.0, -inf]]), g.input([[1.0, 0.0]]));
    assert_eq!(
        value_and_grads(loss::kl_div(log_q, p), &[log_q, p])?,
        [vec![0.0], vec![-1.0, 0.0], vec![1.0, 0.0]]
    );

    // ignored labels do not count in the mean, with or without class weights
    let x = g.input([[0.2, -0.4, 1.0], [f64::NAN, 0.1, -1.5], [0.9, 0.1, -1.5]]);
    let (labels, counted) = (g.constant([2, -100, 0]), x.take(g.constant([0, 2]), 0));
    for weights in [None, Some(Tensor::from([2.0, 1.0, 0.5]))] {
        for smoothing in [0.0, 0.1] {
            let masked =
                loss::cross_entropy_with(smoothing, weights.clone(), Some(-100))(x, labels);
            let unmasked = loss::cross_entropy_with(smoothing, weights.clone(), None)(
                counted,
                g.constant([2, 0]),
            );
            let (masked, unmasked) = (
                value_and_grads(masked, &[x])?,
                value_and_grads(unmasked, &[counted])?,
            );
            assert_eq!(masked[0], unmasked[0]);
            assert_eq!([&masked[1][..3], &masked[1][6..]].concat(), unmasked[1]);
            assert_eq!(masked[1][3..6], [0.0; 3]);
        }
    }
    assert!(
        loss::cross_entropy_with(0.0, None, Some(0))(x, g.constant([0, 0, 0]))
            .value()?
            .scalar()?
            .is_nan()
    );
    Ok(())
}

#[test]
fn splits_byte_inputs_and_random_shifts() -> Result<()> {
    let data = Dataset::new(
        Tensor::new([10, 1], (0..10).map(|k| k as f32).collect())?,
        vec![0i64; 10].into(),
    )?;
    let (a, b) = data.split(0.7, 3)?;
    let mut all = [a.inputs()?.to_f64s(), b.inputs()?.to_f64s()].concat();
    assert_eq!((a.len(), b.len()), (7, 3));
    all.sort_by(f64::total_cmp);
    assert_eq!(all, (0..10).map(f64::from).collect::<Vec<_>>());
    assert_eq!(data.split(0.7, 3)?.0.inputs()?, a.inputs()?);
    assert!(data.split(1.5, 3).is_err());
    // inputs stored as bytes equal inputs stored as f32
    let bytes: Vec<u8> = (0..=255).collect();
    let labels = Tensor::from((0..64).collect::<Vec<i64>>());
    let elements = bytes.iter().map(|&b| f32::from(b) / 3.0).collect();
    let as_f32 = Dataset::new(Tensor::new([64, 2, 2], elements)?, labels.clone())?;
    let as_bytes = Dataset::from_bytes(&[64, 2, 2], bytes.clone(), 3.0, labels.clone())?;
    assert_eq!(
        (as_bytes.len(), as_bytes.sample_shape(), as_bytes.inputs()?),
        (64, &[2, 2][..], as_f32.inputs()?)
    );
    for (a, b) in as_bytes
        .shuffled_batches(10, 1)
        .zip(as_f32.shuffled_batches(10, 1))
    {
        assert_eq!(a?, b?);
    }
    assert_eq!(
        as_bytes.split(0.3, 1)?.1.inputs()?,
        as_f32.split(0.3, 1)?.1.inputs()?
    );
    assert!(as_bytes.rows(&[64]).is_err_and(|e| {
        e.to_string()
            .contains("row 64 is out of range for the shape [64, 2, 2]")
    }));
    for (shape, divisor) in [
        (&[64, 4, 2][..], 1.0),
        (&[64, 4], 0.0),
        (&[64, 4], f32::NAN),
        (&[32, 8], 1.0),
        (&[], 1.0),
    ] {
        assert!(Dataset::from_bytes(shape, bytes.clone(), divisor, labels.clone()).is_err());
    }
    // a single bright pixel moves by at most 2 pixels in each direction
    let mut image = vec![0f32; 81];
    image[40] = 1.0;
    let images = Tensor::new([50, 81], image.repeat(50))?;
    let shifted = nn::data::random_shift(2)(images.clone(), 1)?;
    let mut positions = std::collections::HashSet::new();
    for image in shifted.as_slice::<f32>()?.chunks(81) {
        let bright: Vec<usize> = (0..81).filter(|&k| image[k] != 0.0).collect();
        let (y, x) = (bright[0] / 9, bright[0] % 9);
        assert!(bright.len() == 1 && y.abs_diff(4) <= 2 && x.abs_diff(4) <= 2);
        positions.insert(bright[0]);
    }
    assert!(positions.len() > 10);
    assert_eq!(nn::data::random_shift(2)(images, 1)?, shifted);
    Ok(())
}
