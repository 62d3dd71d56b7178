//! Tables: what is read from CSV files, and how columns become inputs.
#![cfg(feature = "csv")]

use nn::data::{
    Categories, ColumnKind, ColumnOptions, Columns, Frame, Missing, Target, TargetKind, Task,
};

fn frame(text: &str) -> Frame {
    Frame::from_csv(text.as_bytes(), "t.csv").expect("a table")
}

fn all(frame: &Frame) -> Vec<usize> {
    (0..frame.len()).collect()
}

fn fit(frame: &Frame, options: &ColumnOptions) -> nn::Result<Columns> {
    Columns::fit(frame, &all(frame), options)
}

#[test]
fn separators_marks_and_quotation_are_found_out() {
    let comma = frame("a,b\n1.5,\"x, y\"\n");
    let semicolon = frame("\u{feff}a;b\n1,5;x, y\n");
    let tab = frame("a\tb\r\n 1.5 \tx, y\r\n");
    for table in [comma, semicolon, tab] {
        assert_eq!(table.names(), ["a", "b"]);
        assert_eq!(
            (table.cell(0, 0).number(), table.cell(0, 1).text()),
            (Some(1.5), "x, y")
        );
    }
    assert_eq!(frame("a,b\n\"1,5\",2\n").cell(0, 0).number(), None);
}

#[test]
fn missing_values_and_numbers_are_told_apart() {
    let table = frame("a,b\n,1\nNA,2\nnan,3\n?,4\nnone,5\n1e999,6\ninf,7\n-3e2,8\n");
    let missing: Vec<bool> = table.column(0).map(|c| c.is_missing()).collect();
    assert_eq!(
        missing,
        [true, true, true, true, false, false, false, false]
    );
    let numbers: Vec<_> = table.column(0).map(|c| c.number()).collect();
    assert_eq!(
        numbers,
        [None, None, None, None, None, None, None, Some(-300.0)]
    );
}

#[test]
fn numbers_are_standardised_by_the_training_rows() {
    let table = frame("x,y\n1,0\n3,1\n,0\n100,1\n");
    let columns = Columns::fit(&table, &[0, 1, 2], &ColumnOptions::new("y")).expect("columns");
    let expected = ColumnKind::Number {
        mean: 2.0,
        deviation: 1.0,
        median: 2.0,
        indicator: true,
    };
    assert_eq!(columns.columns[0].kind, expected);
    let inputs = columns.encode(&table).expect("inputs").inputs;
    assert_eq!(inputs.to_f64s(), [-1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 98.0, 0.0]);
}

#[test]
fn a_missing_value_is_an_error_if_one_wants() {
    let table = frame("x,c,y\n1,a,0\n2,,1\n3,b,0\n");
    let refuse = ColumnOptions {
        missing: Missing::Refuse,
        ..ColumnOptions::new("y")
    };
    let error = fit(&table, &refuse)
        .expect_err("a missing value")
        .to_string();
    assert_eq!(error, "t.csv: line 3, column \"c\": a value is missing");
    // also in data that come later
    let columns = fit(&frame("x,c,y\n1,a,0\n3,b,0\n"), &refuse).expect("columns");
    let error = columns
        .encode(&table)
        .expect_err("a missing value")
        .to_string();
    assert_eq!(error, "t.csv: line 3, column \"c\": a value is missing");
}

#[test]
fn categories_are_one_hot_or_indices() {
    let table = frame("c,y\nb,0\na,1\n,0\nb,1\n");
    let new = frame("c\na\nz\n\n?\n");
    let encoded = |categories: Categories| {
        let options = ColumnOptions {
            categories,
            ..ColumnOptions::new("y")
        };
        let columns = fit(&table, &options).expect("columns");
        let encoded = columns.encode(&new).expect("inputs");
        (columns.width(), encoded.inputs.to_f64s(), encoded.unseen)
    };
    let unseen = vec![("c".to_string(), 1)];
    let one_hot = vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
    assert_eq!(encoded(Categories::Auto), (3, one_hot, unseen.clone()));
    assert_eq!(
        encoded(Categories::Embedded),
        (1, vec![1.0, 0.0, 3.0], unseen)
    );
    // many categories are embedded
    let many: String = (0..200).map(|k| format!("v{},1\n", k % 40)).collect();
    let columns = fit(&frame(&format!("c,y\n{many}")), &ColumnOptions::new("y")).expect("columns");
    let ColumnKind::Category { embedding, .. } = &columns.columns[0].kind else {
        panic!()
    };
    assert_eq!((*embedding, columns.width()), (Some(13), 1)); // 1.6·40^0.56 = 12.6
}

#[test]
fn columns_that_say_nothing_are_left_out() {
    let rows: String = (0..50)
        .map(|k| format!("name {k},5,,{},{}\n", k % 7, k % 2))
        .collect();
    let table = frame(&format!("name,same,empty,code,y\n{rows}"));
    let columns = fit(&table, &ColumnOptions::new("y")).expect("columns");
    let skipped: Vec<&str> = columns
        .skipped
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(skipped, ["name", "same", "empty"]);
    let codes = ColumnOptions {
        as_categories: vec!["code".into()],
        ..ColumnOptions::new("y")
    };
    assert_eq!(fit(&table, &codes).expect("columns").width(), 7);
    let ignored = ColumnOptions {
        ignored: vec!["code".into()],
        ..ColumnOptions::new("y")
    };
    let error = fit(&table, &ignored).expect_err("nothing left").to_string();
    assert!(error.contains("no column that can be an input"), "{error}");
}

#[test]
fn targets_are_classes_or_numbers() {
    let kind = |cells: &[&str], task| {
        let rows: String = cells.iter().map(|c| format!("1,{c}\n")).collect();
        Target::of(&frame(&format!("x,y\n{rows}")), "y", task).map(|t| t.kind)
    };
    let classes =
        |names: &[&str]| TargetKind::Classes(names.iter().map(|n| n.to_string()).collect());
    // numbers are sorted as numbers
    assert_eq!(
        kind(&["10", "9", "10", "9"], None).expect("a target"),
        classes(&["9", "10"])
    );
    assert_eq!(
        kind(&["b", "a", "b", "a"], None).expect("a target"),
        classes(&["a", "b"])
    );
    let number = TargetKind::Number {
        mean: 2.0,
        deviation: 1.0,
    };
    assert_eq!(
        kind(&["1", "3"], Some(Task::Regression)).expect("a target"),
        number
    );
    assert!(matches!(
        kind(&["1.5", "3", "1.5", "3"], None),
        Ok(TargetKind::Number { .. })
    ));
    assert!(kind(&["a", "a"], None).is_err());
    assert!(
        kind(&["a", "b", "c"], None).is_err(),
        "nothing to learn from"
    );
    assert!(kind(&["a", "1"], Some(Task::Regression)).is_err());
    assert!(kind(&["a", ""], None).is_err());
}

#[test]
fn predictions_are_in_the_units_of_the_table() {
    let table = frame("x,y\n1,10\n2,30\n");
    let target = Target::of(&table, "y", Some(Task::Regression)).expect("a target");
    let encoded = target.encode(&table).expect("targets");
    assert_eq!(encoded.to_f64s(), [-1.0, 1.0]);
    assert_eq!(target.decode(&encoded).expect("texts"), ["10", "30"]);
    let table = frame("x,y\n1,cat\n2,dog\n3,cat\n4,dog\n");
    let target = Target::of(&table, "y", None).expect("a target");
    let outputs = autograd::Tensor::from([[0.1f32, 0.2], [3.0, -1.0]]);
    assert_eq!(target.decode(&outputs).expect("texts"), ["dog", "cat"]);
    assert!(target.decode(&autograd::Tensor::from([[1f32]])).is_err());
    let error = target
        .encode(&frame("y\ncat\ncow\n"))
        .expect_err("no such class")
        .to_string();
    assert_eq!(
        error,
        "t.csv: line 3, column \"y\": \"cow\" is none of the classes of the model"
    );
}
