//! Sums over products of one or two tensors, with letters as names of axes. They become sums,
//! transposes and one matrix product, so that the derivative of a contraction is a contraction.

use crate::{error::OpError, graph::Graph, shape::Shape, var::Var};

/// The letters of each operand and of the result.
struct Letters {
    operands: Vec<Vec<char>>,
    out: Vec<char>,
}

impl Letters {
    fn parse(text: &str, x: &[Var<'_>]) -> Result<Letters, OpError> {
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, out) = compact
            .split_once("->")
            .ok_or("expected letters for each operand and the result, as in \"ij,jk->ik\"")?;
        let operands: Vec<Vec<char>> = left.split(',').map(|part| part.chars().collect()).collect();
        let letters = Letters {
            operands,
            out: out.chars().collect(),
        };
        if letters.operands.len() != x.len() || !(1..=2).contains(&x.len()) {
            return Err(OpError::new(format!(
                "\"{text}\" names {} operands, there are {}",
                letters.operands.len(),
                x.len()
            ))
            .hint("one or two operands can be multiplied at once"));
        }
        let all = letters.operands.iter().flatten().chain(&letters.out);
        if let Some(invalid) = all.clone().find(|c| !c.is_alphabetic()) {
            return Err(OpError::new(format!("{invalid:?} is not a letter")));
        }
        for part in letters.operands.iter().chain([&letters.out]) {
            if let Some(repeated) = part
                .iter()
                .find(|c| part.iter().filter(|other| other == c).count() > 1)
            {
                return Err(
                    OpError::new(format!("{repeated:?} occurs twice in one operand"))
                        .hint("take its .diagonal() first"),
                );
            }
        }
        if let Some(missing) = letters
            .out
            .iter()
            .find(|c| !letters.operands.iter().any(|part| part.contains(c)))
        {
            return Err(OpError::new(format!(
                "{missing:?} is in the result, but in no operand"
            )));
        }
        for (letters, x) in letters.operands.iter().zip(x) {
            let shape = x.known_shape();
            if letters.len() != shape.rank() {
                return Err(OpError::new(format!(
                    "{} letters for the axes of {shape}",
                    letters.len()
                )));
            }
        }
        Ok(letters)
    }

    /// The size of a letter's axis; an error if two operands differ.
    fn size(&self, letter: char, x: &[Var<'_>]) -> Result<usize, OpError> {
        let place = |part: &Vec<char>| part.iter().position(|&c| c == letter);
        let sizes: Vec<usize> = self
            .operands
            .iter()
            .zip(x)
            .filter_map(|(part, x)| Some(x.known_shape()[place(part)?]))
            .collect();
        match sizes[..] {
            [a, b] if a != b => Err(OpError::new(format!("{letter:?} has sizes {a} and {b}"))),
            [a, ..] => Ok(a),
            [] => Err(OpError::new(format!("{letter:?} is in no operand"))),
        }
    }
}

/// Permutes a tensor with axes `own` to axes `target`, which must be among them. Other axes are
/// summed first.
#[track_caller]
fn arrange<'g>(x: Var<'g>, own: &[char], target: &[char]) -> Var<'g> {
    let summed: Vec<usize> = (0..own.len())
        .filter(|&k| !target.contains(&own[k]))
        .collect();
    let left: Vec<char> = own.iter().copied().filter(|c| target.contains(c)).collect();
    let x = if summed.is_empty() {
        x
    } else {
        x.sum_axis(summed)
    };
    let order: Vec<usize> = target
        .iter()
        .filter_map(|c| left.iter().position(|l| l == c))
        .collect();
    if order.iter().enumerate().all(|(k, &at)| k == at) {
        x
    } else {
        x.permute(order)
    }
}

impl Graph {
    /// Einstein summation: letters name axes, axes with equal letters are multiplied, and letters
    /// that are not in the result are summed. For one or two operands of the same float dtype.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let (a, b) = (g.input([[1.0, 2.0], [3.0, 4.0]]), g.input([[5.0, 6.0], [7.0, 8.0]]));
    /// assert_eq!(g.einsum("ij,jk->ik", &[a, b]).value()?, a.matmul(b).value()?);
    /// assert_eq!(g.einsum("ij,ij->", &[a, b]).value()?.scalar()?, 70.0);
    /// assert_eq!(g.einsum("ij->ji", &[a]).value()?, a.t().value()?);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn einsum<'g>(&'g self, letters: &str, x: &[Var<'g>]) -> Var<'g> {
        let foreign = x.iter().any(|v| !std::ptr::eq(v.graph(), self));
        if foreign || x.is_empty() || x.iter().any(|v| v.error().is_some()) {
            return self.fail(
                "einsum",
                "expected one or two operands of this graph".into(),
                if foreign { &[] } else { x },
            );
        }
        let _call_site = self.call_site();
        let build = || {
            let letters = Letters::parse(letters, x)?;
            match *x {
                [x] => Ok(arrange(x, &letters.operands[0], &letters.out)),
                _ => contract(&letters, x),
            }
        };
        build().unwrap_or_else(|e| self.fail("einsum", e, x))
    }
}

/// `[batch, rows, summed]` by `[batch, summed, columns]`
#[track_caller]
fn contract<'g>(letters: &Letters, x: &[Var<'g>]) -> Result<Var<'g>, OpError> {
    let (a, b) = (&letters.operands[0], &letters.operands[1]);
    let pick = |from: &[char], test: &dyn Fn(char) -> bool| {
        from.iter()
            .copied()
            .filter(|&c| test(c))
            .collect::<Vec<_>>()
    };
    let batch = pick(&letters.out, &|c| a.contains(&c) && b.contains(&c));
    let rows = pick(&letters.out, &|c| a.contains(&c) && !b.contains(&c));
    let columns = pick(&letters.out, &|c| !a.contains(&c) && b.contains(&c));
    let summed = pick(a, &|c| b.contains(&c) && !letters.out.contains(&c));
    let sizes = |letters_of: &[char]| {
        letters_of
            .iter()
            .map(|&c| letters.size(c, x))
            .collect::<Result<Vec<_>, _>>()
    };
    let (outer, m, n, k) = (
        sizes(&batch)?,
        sizes(&rows)?,
        sizes(&columns)?,
        sizes(&summed)?,
    );
    let count = |sizes: &[usize]| sizes.iter().product::<usize>();
    let joined = |v: Var<'g>, own: &[char], order: [&[char]; 3], last: [usize; 2]| {
        let arranged = arrange(v, own, &order.concat());
        Ok::<_, OpError>(arranged.reshape(Shape::new(&[&outer[..], &last].concat())?))
    };
    let left = joined(x[0], a, [&batch, &rows, &summed], [count(&m), count(&k)])?;
    let right = joined(x[1], b, [&batch, &summed, &columns], [count(&k), count(&n)])?;
    let product = left
        .matmul(right)
        .reshape(Shape::new(&[&outer[..], &m, &n].concat())?);
    Ok(arrange(
        product,
        &[batch, rows, columns].concat(),
        &letters.out,
    ))
}
