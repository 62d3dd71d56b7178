//! Drawings fold scopes, have no cycles, and have a limited number of boxes.

use autograd::{Graph, Result, Var};

/// The arrows of a drawing, as pairs of box numbers, and the number of boxes.
fn arrows(dot: &str) -> (Vec<(usize, usize)>, usize) {
    let number = |text: &str| {
        text.trim()
            .trim_start_matches('n')
            .parse()
            .expect("a number")
    };
    let lines = || {
        dot.lines()
            .filter(|l| l.trim_start().starts_with('n') && l.contains("label="))
    };
    let pair = |line: &str| {
        let (from, to) = line
            .split(" [")
            .next()
            .expect("a head")
            .split_once(" -> ")?;
        Some((number(from), number(to)))
    };
    let found: Vec<_> = lines().filter_map(pair).collect();
    let boxes = lines().count() - found.len();
    (found, boxes)
}

fn block(x: Var<'_>) -> Var<'_> {
    let a = x.tanh() * x;
    (a + 1.0).sigmoid() * (x.cos() + a)
}

#[test]
fn innermost_scopes_are_folded_and_can_be_expanded() {
    let g = Graph::new();
    let x = g.input([[1.0, 2.0]]);
    let y = g.within("net", || {
        let hidden = g.within("first", || (x * 2.0).sin().exp());
        g.within("second", || hidden.sum().sqrt())
    });
    let [d] = g.grad(y, &[x]);
    let text = g.picture().to_text();
    let folded: Vec<&str> = text.lines().collect();
    assert_eq!(
        folded[..3],
        [
            "%0: f64[1, 2] = input",
            "%1..%4: f64[1, 2] = net.first %0  (mul sin exp)",
            "%5..%6: f64[] = net.second %4  (sum sqrt)",
        ]
    );
    assert!(
        text.contains("= ∂ net.second") && text.contains("= ∂ net.first"),
        "{text}"
    );
    // outer scopes, one expanded scope, all scopes expanded
    let short = g.picture().depth(1).to_text();
    assert!(
        short.contains("%1..%6: f64[] = net %0  (mul sin exp sum sqrt)"),
        "{short}"
    );
    let open = g.picture().expand("net.first").to_text();
    assert!(
        open.contains("= sin %2  in net.first") && open.contains("net.second %4"),
        "{open}"
    );
    assert!(
        g.picture()
            .depth(1)
            .expand("net")
            .to_text()
            .contains("= sqrt %5")
    );
    assert_eq!(
        g.picture().expand_all().to_text(),
        g.to_text_range(0..g.len())
    );
    // part of the graph
    assert!(!g.picture().of(&[y]).to_text().contains('∂'));
    let dot = g
        .picture()
        .name(x, "x")
        .name(d, "the \"slope\"")
        .expand_all()
        .to_dot();
    assert!(
        dot.contains("label=\"x\"") && dot.contains("label=\"the \\\"slope\\\"\\n"),
        "{dot}"
    );
    assert!(
        dot.contains("label=\"mul 2\"") && dot.contains("label=\"f64[1, 2]\""),
        "{dot}"
    );
    assert!(
        dot.contains("#d3e5fb") && dot.contains("#fde0c2"),
        "forward and backward in two colours"
    );
}

#[test]
fn no_cycles_and_few_boxes_whatever_is_folded() -> Result<()> {
    let g = Graph::new();
    let x = g.input(vec![0.5; 4]);
    let mut y = x;
    for k in 0..40 {
        // the same name repeatedly, nested, and nodes outside of scopes between them
        y = g.within(if k % 3 == 0 { "a" } else { "b" }, || {
            g.within("inner", || block(y)) * 2.0
        }) + y;
    }
    let [d] = g.grad(y.sum(), &[x]);
    g.grad(d.square().sum(), &[x]); // three passes
    assert!(g.len() > 1000, "{}", g.len());
    let pictures = [
        g.picture(),
        g.picture().depth(1),
        g.picture().max_boxes(7),
        g.picture().max_boxes(1000).expand_all(),
        g.picture().expand("a.inner"),
    ];
    for (picture, most) in pictures.into_iter().zip([40, 40, 7, 1000, 40]) {
        let (found, boxes) = arrows(&picture.to_dot());
        assert!(
            found.iter().all(|(from, to)| from < to),
            "boxes only use older ones"
        );
        assert!(boxes <= most && boxes > 2, "{boxes} of {most}");
        assert!(found.len() >= boxes - 1, "the drawing is connected");
        let svg = picture.to_svg()?;
        assert_eq!(svg.matches("<g>").count(), boxes);
        assert_eq!(svg.matches("marker-end=").count(), found.len());
        assert!(!svg.contains("NaN") && svg.contains(">forward<") && svg.contains(">backward<"));
    }
    Ok(())
}

#[test]
fn empty_broken_and_disconnected_graphs_can_be_drawn() -> Result<()> {
    let g = Graph::new();
    assert_eq!((g.to_text(), arrows(&g.to_dot()).1), (String::new(), 0));
    assert!(g.to_svg()?.starts_with("<svg"));
    let (a, b) = (g.input([1.0, 2.0]), g.input([1.0, 2.0, 3.0]));
    let _ = (a + b, a.exp(), b.sin());
    let svg = g.to_svg()?;
    assert!(
        svg.contains("error in add") && svg.contains(">error<"),
        "{svg}"
    );
    assert!(g.picture().of(&[a.exp()]).to_dot().contains("exp"));
    Ok(())
}

/// The text of a drawing, without positions.
fn words(svg: &str) -> Vec<&str> {
    svg.split('>')
        .filter_map(|part| part.strip_suffix("</text"))
        .collect()
}

#[test]
fn the_pictures_in_the_documentation_are_up_to_date() -> Result<()> {
    let same = |svg: String, file: &str| {
        assert_eq!(words(&svg), words(file), "run the example `pictures` again")
    };
    let g = Graph::new();
    let x = g.input(0.5);
    let s = 1.0 / (1.0 + (-x).exp());
    let [d] = g.grad(s, &[x]);
    same(
        g.picture()
            .name(x, "x")
            .name(s, "s")
            .name(d, "ds/dx")
            .to_svg()?,
        include_str!("../docs/pictures/sigmoid.svg"),
    );

    let g = Graph::new();
    let (x1, x2) = (g.input(2.0), g.input(5.0));
    let f = x1.ln() + x1 * x2 - x2.sin();
    let [d1, d2] = g.grad(f, &[x1, x2]);
    let picture = g
        .picture()
        .name(x1, "x1")
        .name(x2, "x2")
        .name(f, "f")
        .name(d1, "df/dx1")
        .name(d2, "df/dx2");
    same(
        picture.to_svg()?,
        include_str!("../docs/pictures/two_inputs.svg"),
    );

    let g = Graph::new();
    let (x, y) = (g.input(2.0), g.input(3.0));
    let f = x * y + x.ln();
    let [dx, dy] = g.grad(f, &[x, y]);
    let picture = g
        .picture()
        .name(x, "x")
        .name(y, "y")
        .name(f, "f")
        .name(dx, "df/dx")
        .name(dy, "df/dy");
    same(
        picture.to_svg()?,
        include_str!("../docs/pictures/product_and_logarithm.svg"),
    );
    Ok(())
}
