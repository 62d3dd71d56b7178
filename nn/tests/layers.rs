//! Layers, losses and metrics against their published formulas, in plain numbers.

use autograd::{CheckGrads, Graph, Tensor, Var};
use nn::{
    Activation, BatchNorm1d, Dataset, Embedding, Flatten, Lambda, LayerNorm, Linear, Module,
    Normalize, Residual, Result, Sequential, loss, loss::Reduction,
};

fn close(a: &Tensor, b: &[f64]) {
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
    let by_hand: Vec<f64> = input()
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
    close(&layer.forward(g.constant(input())).value()?, &by_hand);
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
fn batch_norm_keeps_running_statistics() -> Result<()> {
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
    let by_hand: Vec<f64> = (0..12).map(|e| normal(e % 4, e / 4)).collect();
    close(&g.run(layer.forward(g.constant(input())))?, &by_hand);
    // a tenth of the way from 0 and 1 to the mean and the unbiased variance of the batch
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
    close(&params[2].1.value(), &means);
    close(&params[3].1.value(), &variances);
    assert!(!params[2].1.is_trained() && layer.size() == 8);
    // in evaluation these are used, and stay
    let g = Graph::new();
    let x = input().to_f64s();
    let by_hand: Vec<f64> = (0..12)
        .map(|e| (x[e] - means[e % 4]) / (variances[e % 4] + 1e-5).sqrt())
        .collect();
    close(&g.run(layer.forward(g.constant(input())))?, &by_hand);
    close(&params[2].1.value(), &means);
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
    let words = Embedding::new(5, 3, 1);
    let rows = words.weight().value().to_f64s();
    close(
        &words.forward(g.constant([4, 0])).value()?,
        &[&rows[12..15], &rows[..3]].concat(),
    );
    assert!(
        words
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
    close(
        &Residual(double).forward(x).value()?,
        &input()
            .to_f64s()
            .iter()
            .map(|x| 3.0 * x)
            .collect::<Vec<_>>(),
    );
    let data = Dataset::new(input(), Tensor::from([0, 1, 0]))?;
    let normal = Normalize::fit(&data)?.forward(x);
    close(&normal.mean_axis(0).value()?, &[0.0; 4]);
    close(&normal.std_axis(0, 0).value()?, &[1.0; 4]);
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
    close(&loss::each::cross_entropy(x, labels).value()?, &each);
    close(
        &loss::nll(x.log_softmax(-1), labels).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    let total = |r: Reduction| r.apply(loss::each::nll(x.log_softmax(-1), labels)).value();
    close(&total(Reduction::Sum)?, &[each[0] + each[1]]);
    close(&total(Reduction::None)?, &each);
    close(
        &loss::reduced(Reduction::Mean, loss::each::cross_entropy)(x, labels).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    // weights of the classes: a weighted mean
    let weighted =
        loss::cross_entropy_with(0.0, Some(Tensor::from([2.0, 1.0, 0.5])), None)(x, labels);
    close(&weighted.value()?, &[(0.5 * each[0] + 2.0 * each[1]) / 2.5]);
    let smooth = |k: usize, label: usize| {
        let even = -log_p[k].iter().sum::<f64>() / 3.0;
        0.9 * -log_p[k][label] + 0.1 * even
    };
    close(
        &loss::cross_entropy_with(0.1, None, None)(x, labels).value()?,
        &[(smooth(0, 2) + smooth(1, 0)) / 2.0],
    );
    // probabilities in place of labels
    let p = g.constant([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]);
    close(
        &loss::cross_entropy(x, p).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    close(
        &loss::kl_div(x.log_softmax(-1), p).value()?,
        &[(each[0] + each[1]) / 2.0],
    );
    let (a, b) = (g.constant([1.0, -2.0, 0.5]), g.constant([0.0, 1.0, 0.25]));
    close(&loss::mse(a, b).value()?, &[(1.0 + 9.0 + 0.0625) / 3.0]);
    close(&loss::mae(a, b).value()?, &[(1.0 + 3.0 + 0.25) / 3.0]);
    close(
        &loss::huber(2.0)(a, b).value()?,
        &[(0.5 + 2.0 * (3.0 - 1.0) + 0.03125) / 3.0],
    );
    let bce = |x: f64, t: f64| {
        -t * (1.0 / (1.0 + (-x).exp())).ln() - (1.0 - t) * (1.0 - 1.0 / (1.0 + (-x).exp())).ln()
    };
    close(
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
                .contains("wants a prediction of the target's shape [1]")
        }));
    }
    Ok(())
}

/// Values and gradients where a probability is 0 and its cost infinite, and of labels to ignore.
#[test]
fn losses_at_infinity_and_of_some_labels_only() -> Result<()> {
    let inf = f64::INFINITY;
    let g = Graph::new();
    let both = |loss: Var<'_>, x: &[Var<'_>]| -> Result<Vec<Vec<f64>>> {
        let mut wanted = g.grads(loss, x);
        wanted.insert(0, loss);
        Ok(g.run(wanted)?.iter().map(Tensor::to_f64s).collect())
    };
    let (x, t) = (g.input([inf, -inf, 0.0]), g.input([1.0, 0.0, 0.5]));
    let found = both(loss::bce_with_logits(x, t), &[x])?;
    assert_eq!(found, [vec![2f64.ln() / 3.0], vec![0.0, 0.0, 0.0]]);
    let x = g.input([inf, -inf, 1.0]);
    let found = both(
        loss::each::huber(2.0)(x, g.constant([0.0, 0.0, 0.0])).sum(),
        &[x],
    )?;
    assert_eq!(found, [vec![inf], vec![2.0, -2.0, 1.0]]);
    let (log_q, p) = (g.input([[0.0, -inf]]), g.input([[1.0, 0.0]]));
    assert_eq!(
        both(loss::kl_div(log_q, p), &[log_q, p])?,
        [vec![0.0], vec![-1.0, 0.0], vec![1.0, 0.0]]
    );

    // the mean is over the labels that count, weighted if there are weights
    let x = g.input([[0.2, -0.4, 1.0], [f64::NAN, 0.1, -1.5], [0.9, 0.1, -1.5]]);
    let (labels, counted) = (g.constant([2, -100, 0]), x.take(g.constant([0, 2]), 0));
    for weights in [None, Some(Tensor::from([2.0, 1.0, 0.5]))] {
        for smoothing in [0.0, 0.1] {
            let own = loss::cross_entropy_with(smoothing, weights.clone(), Some(-100))(x, labels);
            let others = loss::cross_entropy_with(smoothing, weights.clone(), None)(
                counted,
                g.constant([2, 0]),
            );
            let (own, others) = (both(own, &[x])?, both(others, &[counted])?);
            assert_eq!(own[0], others[0]);
            assert_eq!([&own[1][..3], &own[1][6..]].concat(), others[1]);
            assert_eq!(own[1][3..6], [0.0; 3]);
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
fn splits_shifts_and_tables() -> Result<()> {
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
    // bytes are the numbers that they stand for, in parts as well
    let bytes: Vec<u8> = (0..=255).collect();
    let labels = Tensor::from((0..64).collect::<Vec<i64>>());
    let numbers = bytes.iter().map(|&b| f32::from(b) / 3.0).collect();
    let numbers = Dataset::new(Tensor::new([64, 2, 2], numbers)?, labels.clone())?;
    let grey = Dataset::from_bytes(&[64, 2, 2], bytes.clone(), 3.0, labels.clone())?;
    assert_eq!(
        (grey.len(), grey.sample_shape(), grey.inputs()?),
        (64, &[2, 2][..], numbers.inputs()?)
    );
    for (a, b) in grey
        .shuffled_batches(10, 1)
        .zip(numbers.shuffled_batches(10, 1))
    {
        assert_eq!(a?, b?);
    }
    assert_eq!(
        grey.split(0.3, 1)?.1.inputs()?,
        numbers.split(0.3, 1)?.1.inputs()?
    );
    assert!(
        grey.rows(&[64])
            .is_err_and(|e| e.to_string().contains("there is no row 64 in [64, 2, 2]"))
    );
    for (shape, divisor) in [
        (&[64, 4, 2][..], 1.0),
        (&[64, 4], 0.0),
        (&[64, 4], f32::NAN),
        (&[32, 8], 1.0),
        (&[], 1.0),
    ] {
        assert!(Dataset::from_bytes(shape, bytes.clone(), divisor, labels.clone()).is_err());
    }
    // a single bright pixel stays one, at most so far from its place
    let mut image = vec![0f32; 81];
    image[40] = 1.0;
    let images = Tensor::new([50, 81], image.repeat(50))?;
    let moved = nn::data::shift_images(2)(images.clone(), 1)?;
    let mut places = std::collections::HashSet::new();
    for image in moved.as_slice::<f32>()?.chunks(81) {
        let bright: Vec<usize> = (0..81).filter(|&k| image[k] != 0.0).collect();
        let (y, x) = (bright[0] / 9, bright[0] % 9);
        assert!(bright.len() == 1 && y.abs_diff(4) <= 2 && x.abs_diff(4) <= 2);
        places.insert(bright[0]);
    }
    assert!(places.len() > 10);
    assert_eq!(nn::data::shift_images(2)(images, 1)?, moved);
    Ok(())
}
