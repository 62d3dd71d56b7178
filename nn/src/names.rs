//! Names of types for people: without the modules that they are in.

/// `Ema<Clip<Adam>>` instead of `nn::optim::ema::Ema<nn::optim::clip::Clip<nn::optim::adam::Adam>>`.
pub(crate) fn of_type<T: ?Sized>() -> String {
    let (mut short, mut word) = (String::new(), String::new());
    for c in std::any::type_name::<T>().chars() {
        match c {
            ':' => word.clear(),
            '<' | '>' | ',' | ' ' | '&' | '(' | ')' | '[' | ']' | ';' => {
                short.push_str(&word);
                short.push(c);
                word.clear();
            }
            _ => word.push(c),
        }
    }
    short + &word
}

#[test]
fn modules_are_left_out() {
    assert_eq!(
        of_type::<Option<Vec<std::path::PathBuf>>>(),
        "Option<Vec<PathBuf>>"
    );
    assert_eq!(of_type::<&[u8]>(), "&[u8]");
}
